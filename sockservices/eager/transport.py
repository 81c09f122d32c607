"""What all eager connections have in common: they tell an ``EagerReactor`` what it can rely on.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_closeSocket``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor


class EagerConnection(FileDescriptor):
    """To be mixed into Twisted's stream transports, before them."""

    # Whether the kernel has refused what was written: to try again at once would be in vain.
    blocked = False

    def doWrite(self) -> Any:
        """See ``IWriteDescriptor.doWrite``."""
        self.blocked = False
        return super().doWrite()

    def _closeSocket(self, orderly: bool) -> None:
        self.let_go()
        super()._closeSocket(orderly)  # type: ignore[misc]

    def let_go(self) -> None:
        """Have the reactor stop watching, for good."""
        forget = getattr(self.reactor, "forget", None)
        if forget is not None:
            forget(self)
        else:
            self.stopReading()
            self.stopWriting()
