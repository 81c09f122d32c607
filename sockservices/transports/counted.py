"""Streams that count their bytes and tell their end, for whoever keeps the books.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_dataReceived``,
``_maybePauseProducer``, ``_tempDataLen``.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from sockservices.transports.polling import is_writable


class Counted(FileDescriptor):
    """What a counted connection tells. To be mixed into Twisted's transports, before them."""

    # Bytes read and sent so far, of TLS the encrypted ones.
    bytes_in = 0
    bytes_out = 0
    # When the peer's last bytes were read, in seconds of ``time.monotonic``; ``None`` before any.
    last_read: float | None = None
    # Called once, after the protocol's ``connectionLost``, with the connection and the reason.
    on_end: Callable[[Any, Failure], None] | None = None
    # The port that has accepted it, which knows how many bytes may wait to be sent.
    server: Any = None
    # Whether the kernel would not take all, the last time: before that nothing waits for the peer.
    _is_refused = False

    @property
    def _max_unsent(self) -> int | None:
        server = self.server
        return server.max_unsent if server is not None else None

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    def _maybePauseProducer(self) -> None:
        super()._maybePauseProducer()
        if self._is_refused:
            self._judge()

    def doWrite(self) -> Any:
        """See ``IWriteDescriptor.doWrite``."""
        why = super().doWrite()
        most = self._max_unsent
        if most is not None and self.connected:
            # Twisted leaves some for another turn also when the kernel would take it.
            self._is_refused = self.unsent > most and not is_writable(self.fileno())
            if self._is_refused:
                self._judge()
        return why

    def _judge(self) -> None:
        most = self._max_unsent
        if most is not None and self.unsent > most:
            self.server.on_overflow(self)

    def _tell_end(self, reason: Failure) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(self, reason)


class Counting(Counted):
    """Counts around Twisted's own methods."""

    def _dataReceived(self, data: bytes | None) -> ConnectionDone | None:
        if data:
            self.bytes_in += len(data)
            self.last_read = monotonic()
        why: ConnectionDone | None = super()._dataReceived(data)  # type: ignore[misc]
        return why

    def writeSomeData(self, data: Any) -> Any:
        """See ``FileDescriptor.writeSomeData``."""
        sent = super().writeSomeData(data)
        if isinstance(sent, int):
            self.bytes_out += sent
        return sent

    def connectionLost(self, reason: Failure) -> None:
        """See ``FileDescriptor.connectionLost``."""
        try:
            super().connectionLost(reason)
        finally:
            self._tell_end(reason)
