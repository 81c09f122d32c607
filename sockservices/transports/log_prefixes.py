"""Log prefixes that are safe on an operator's terminal.

Twisted begins each line that is logged for a connection with its ``logstr``. On a Unix socket that
has the path of the peer's socket, which the peer has chosen, as it is.
"""

from __future__ import annotations

from sockservices.printable import as_is_or_escaped


class EscapedPrefix:
    """A mixin for transports, before Twisted's: their prefix is escaped when it is set."""

    _prefix = ""

    @property
    def logstr(self) -> str:
        """The prefix, an attribute of Twisted's transports."""
        return self._prefix

    @logstr.setter
    def logstr(self, text: str) -> None:
        self._prefix = as_is_or_escaped(text)
