"""How a subcommand gives up."""

from __future__ import annotations

from typing import IO, Any

import click


class CouldNot(click.ClickException):
    """Ends the command with status 1 and one line on standard error."""

    def show(self, file: IO[Any] | None = None) -> None:
        """See ``click.ClickException.show``."""
        click.echo(f"sockservices: {self.format_message()}", file=file, err=file is None)
