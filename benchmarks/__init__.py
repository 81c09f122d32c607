"""Measures sockservices beside other servers: ``python -m benchmarks``."""
