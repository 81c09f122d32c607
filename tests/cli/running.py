"""Subcommands, run in this process."""

from __future__ import annotations

import click
from click.testing import CliRunner


def run(command: click.Command, *arguments: str) -> tuple[int, str, str]:
    """Return the exit status of a subcommand, and what it has printed on both outputs."""
    result = CliRunner().invoke(command, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr
