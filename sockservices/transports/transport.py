"""The base of all eager connections: what an eager reactor relies on.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_closeSocket`` and
``_tempDataLen``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.python import context, log


class EagerConnection(FileDescriptor):
    """A mixin for Twisted's stream transports; list it before them."""

    # Whether the kernel did not take the written data, so that trying again at once is futile.
    blocked = False

    # An ``EagerReactor`` or ``EagerStreams``.
    reactor: Any

    def __getitem__(self, key: Any) -> Any:
        """Return the log context of this connection.

        The connection itself serves as a frame of ``twisted.python.context``, so that no frame is
        built for each event: the prefix is looked up only when something is logged.
        """
        if key is not log.ILogContext:
            raise KeyError(key)
        around = context.defaultContextDict[log.ILogContext]
        return {**around, "system": self.logPrefix()}

    def doWrite(self) -> Any:
        """See ``IWriteDescriptor.doWrite``."""
        try:
            return FileDescriptor.doWrite(self)
        finally:
            self.blocked = bool(self.dataBuffer or self._tempDataLen)

    def _closeSocket(self, orderly: bool) -> None:
        self.reactor.forget(self)
        super()._closeSocket(orderly)  # type: ignore[misc]
