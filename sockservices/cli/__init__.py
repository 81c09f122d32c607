"""The ``sockservices`` command."""

from sockservices.cli.main import main

__all__ = ["main"]
