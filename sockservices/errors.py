"""What a person can get wrong, each in one line that says what would be right."""

from __future__ import annotations

from collections.abc import Callable


class ArgumentName(str):
    """The name of an argument in the text of a ``SettingError``."""

    __slots__ = ()


class SettingError(ValueError):
    """A setting that is unknown or missing, or has a value that it cannot take; one line.

    Parameters:
        text: the line in parts. Those that are an ``ArgumentName`` can be spelled otherwise: an
            embedder writes ``max_connections`` where an operator writes ``--max-connections``.
    """

    def __init__(self, *text: str) -> None:
        super().__init__("".join(text))
        self._text = text

    def spelled(self, spell: Callable[[str], str]) -> str:
        """Return the line with the arguments spelled in another way."""
        return "".join(
            spell(part) if isinstance(part, ArgumentName) else part for part in self._text
        )
