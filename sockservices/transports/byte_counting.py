"""Streams that count their bytes and report their end, for the ledger.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_dataReceived``,
``_maybePauseProducer``, ``_tempDataLen``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.transports.polling import is_writable
from sockservices.transports.socket_queues import unacknowledged, unread

_log = Logger(namespace="sockservices")


class Counted(FileDescriptor):
    """A mixin for Twisted's transports with a connection's counters; list it before them."""

    # Bytes read and sent so far; with TLS, encrypted bytes.
    bytes_in = 0
    bytes_out = 0
    # Whether the service has paused reading.
    is_paused = False
    # Called once, after the protocol's ``connectionLost``, with the connection and the reason.
    on_end: Callable[[Any, Failure], None] | None = None
    # The port that accepted the connection, which limits how many bytes may wait to be sent.
    server: Any = None

    @property
    def _max_unsent(self) -> int | None:
        server = self.server
        return server.max_unsent if server is not None else None

    @property
    def unsent(self) -> int:
        """The number of bytes that wait to be sent."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def taken(self) -> int:
        """The number of sent bytes that have reached the peer, as far as the system tells."""
        return self.bytes_out - unacknowledged(self.fileno())

    @property
    def waits_for_us(self) -> bool:
        """Whether the peer's next bytes are ours to read, or it has taken all we gave it."""
        if not self.is_paused:
            return unread(self.fileno()) > 0
        return not self.unsent and not unacknowledged(self.fileno())

    def pauseProducing(self) -> None:
        """See ``IPushProducer.pauseProducing``."""
        self.is_paused = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """See ``IPushProducer.resumeProducing``."""
        self.is_paused = False
        super().resumeProducing()

    def _maybePauseProducer(self) -> None:
        super()._maybePauseProducer()
        self._judge()

    def doWrite(self) -> Any:
        """See ``IWriteDescriptor.doWrite``."""
        why = super().doWrite()
        self._judge()
        return why

    def _judge(self) -> None:
        most = self._max_unsent
        if most is None or not self.connected or self.unsent <= most:
            return
        # Twisted may leave some data for the next turn even if the kernel would take it.
        if not is_writable(self.fileno()):
            self.server.on_overflow(self)

    def _stop_producer(self) -> None:
        """Stop the producer, because the connection is lost.

        Twisted leaves the socket open if that fails.
        """
        producer = self.producer
        if producer is not None:
            self.disconnected = 1
            connected, self.connected = self.connected, 0
            try:
                producer.stopProducing()
            except Exception:
                _log.failure("a producer failed when it was stopped")
            self.producer = None
            self.connected = connected  # by this a client sees that it was not still connecting

    def _tell_end(self, reason: Failure) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(self, reason)


class Counting(Counted):
    """A mixin that counts around Twisted's own methods."""

    def _dataReceived(self, data: bytes | None) -> ConnectionDone | None:
        if data:
            self.bytes_in += len(data)
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
        self._stop_producer()
        try:
            super().connectionLost(reason)
        finally:
            self._tell_end(reason)
