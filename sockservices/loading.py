"""Importing what others wrote by its dotted name."""

from __future__ import annotations

import sys
from typing import Any

from twisted.python.reflect import namedAny

from sockservices.ending import say_on_stderr


class LoadError(Exception):
    """A dotted name that leads to nothing; one line."""


def load(dotted_name: str) -> Any:
    """Return the object with a dotted name; raise ``LoadError``."""
    try:
        return namedAny(dotted_name)
    except (Exception, SystemExit) as error:
        first_line = str(error).partition("\n")[0]
        raise LoadError(
            f"cannot import {dotted_name!r}: {type(error).__name__}: {first_line}"
        ) from error


def load_or_exit(dotted_name: str, command: str) -> Any:
    """Return the object with a dotted name, or end the process with one line and status 1."""
    try:
        return load(dotted_name)
    except LoadError as error:
        say_on_stderr(f"{command}: {error}")
        sys.exit(1)
