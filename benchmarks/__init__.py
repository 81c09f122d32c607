"""Benchmarks that compare sockservices with other servers: ``python -m benchmarks``."""
