"""The error that ends a subcommand, and checks that click lacks."""

from __future__ import annotations

import math
from typing import Any

import click


class CouldNot(click.ClickException):
    """An error that ends the command with status 1 and one line on standard error."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.ctx = click.get_current_context(silent=True)


class Seconds(click.FloatRange):
    """A finite number of seconds, 0 or more; with ``min_open`` more than 0."""

    name = "seconds"

    def __init__(self, min_open: bool = False) -> None:
        super().__init__(min=0, max=1e6, min_open=min_open)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """See ``click.ParamType.convert``."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return number
