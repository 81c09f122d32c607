"""Options with a value, as Twisted's parser wants them, with the errors of our converters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python import usage


def coerced(convert: Callable[[str], Any], name: str) -> Callable[[str], Any]:
    """Make Twisted's parser say what our converters say."""

    def coerce(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise usage.UsageError(f"--{name}: {error}") from None

    return coerce


def parameter(
    name: str, help_text: str, convert: Callable[[str], Any], default: Any = None
) -> list[Any]:
    """Return a row of ``usage.Options.optParameters``.

    Parameters:
        name: without the leading dashes.
        help_text: one sentence for ``--help``.
        convert: takes the text; raises ``ValueError`` with a line that says what would be right.
        default: as text, or as the value; ``None`` is none.
    """
    return [name, None, default, help_text, coerced(convert, name)]
