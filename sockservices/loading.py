"""Importing what others wrote by its dotted name."""

from __future__ import annotations

from typing import Any

from twisted.python.reflect import namedAny


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
