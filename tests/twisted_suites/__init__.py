"""Twisted's own test suites on two reactors, outcome against outcome."""
