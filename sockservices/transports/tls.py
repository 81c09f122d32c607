"""TLS with less work for each message.

For each message, Twisted reads until OpenSSL has no more, which it learns by an exception, and
keeps what is written for the next turn, by a delayed call. Here, the records that have arrived are
counted and read, and all that is written in ``dataReceived`` is sent when that returns. A handshake
and everything out of the ordinary is left to Twisted.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_AggregateSmallWrites``, with
``_buffer``, ``_bufferLeft``, ``_clock``, ``_scheduled``, ``_scheduledFlush`` and ``_write``;
``_aggregator``, ``_appSendBuffer``, ``_checkHandshakeStatus``, ``_connectWrapped``,
``_creatorCallable``, ``_flushReceiveBIO``, ``_flushSendBIO``, ``_handshakeDone``,
``_lostTLSConnection``, ``_shutdownTLS``, ``_tlsConnection``, ``_tlsShutdownFinished``, ``_write``.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import (
    BufferingTLSTransport,
    TLSMemoryBIOFactory,
    _AggregateSmallWrites,
)
from twisted.python.failure import Failure

from sockservices.transports.tls_closing import Delivering
from sockservices.transports.tls_records import Boundaries, Records, records_of

_PIECE = 1 << 16  # bytes that are encrypted before they are passed on


class _Gathered(_AggregateSmallWrites):
    """Small writes, which are sent together."""

    is_reading = False  # whether they are sent when ``dataReceived`` returns

    def write(self, data: bytes) -> None:
        self._buffer.append(data + b"")
        self._bufferLeft -= len(data)
        if self._bufferLeft < 0:
            self.flush()
        elif not self.is_reading and not self._scheduled:
            self._scheduled = self._clock.callLater(0, self._scheduledFlush)


class TLSTransport(Delivering):
    """Twisted's transport for TLS that delivers its end, with less work for each message."""

    # While nothing is out of the ordinary: the handshake is complete, all that was written is
    # encrypted, and no side has ended TLS.
    _records: Records | None = None

    _aggregator: _Gathered
    transport: Any

    def __init__(self, factory: Any, wrapped: Any, _connectWrapped: bool = True) -> None:
        super().__init__(factory, wrapped, _connectWrapped)
        self._aggregator = gathered = _Gathered(self._aggregator._write, factory._clock)
        self._boundaries = Boundaries()
        self.write = gathered.write  # type: ignore[method-assign]

    def makeConnection(self, transport: Any) -> None:
        """See ``IProtocol.makeConnection``."""
        if not (self._connectWrapped and hasattr(self.factory, "_creatorCallable")):  # Twisted 24.7
            super().makeConnection(transport)
            return
        # As Twisted does, which provides each interface of the transport twice.
        self._tlsConnection = self.factory._creatorCallable(self)
        self._appSendBuffer: list[bytes] = []
        ProtocolWrapper.makeConnection(self, transport)
        self._checkHandshakeStatus()

    def dataReceived(self, data: bytes) -> None:
        """See ``IProtocol.dataReceived``."""
        gathered = self._aggregator
        gathered.is_reading = True
        try:
            records = self._records
            if (
                records is None
                or self._boundaries.missing
                or len(data) != 5 + int.from_bytes(data[3:5], "big")  # it is one record: its header
            ):
                self._receive(data)
                return
            records.put(data)
            try:
                received = records.get()
            except Error as error:
                self._receive_none(error)
            else:
                self.wrappedProtocol.dataReceived(received)
        finally:
            gathered.is_reading = False
            if gathered._buffer:
                gathered.flush()

    def _receive(self, data: bytes) -> None:
        complete = self._boundaries.follow(data)
        records = self._records
        if records is None or complete is None:
            self._records = None
            super().dataReceived(data)
            self._look_again()
            return
        records.put(data)
        for _ in range(complete):
            if self._records is None:  # something has happened in dataReceived
                self._flushReceiveBIO()
                break
            try:
                received = records.get()
            except Error as error:
                self._receive_none(error)
                break
            self.wrappedProtocol.dataReceived(received)

    def _look_again(self) -> None:
        if (
            self._handshakeDone
            and not self._boundaries.is_lost
            and not self._appSendBuffer
            and not self._lostTLSConnection
            and not self.disconnecting
        ):
            self._records = records_of(self._tlsConnection)

    def _receive_none(self, error: Error) -> None:
        """Act on the exception for a record without data, as Twisted does."""
        if isinstance(error, WantReadError):
            self._flushSendBIO()
        elif isinstance(error, ZeroReturnError):
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        else:
            self._tlsShutdownFinished(Failure())

    def _write(self, data: bytes) -> None:
        records = self._records
        if records is None or not data:
            super()._write(data)
            return
        for at in range(0, len(data), _PIECE):
            piece = data if len(data) <= _PIECE else memoryview(data)[at : at + _PIECE]
            try:
                encrypted = records.encrypt(piece)
            except Error:
                self._records = None
                super()._write(data[at:])
                return
            self.transport.write(encrypted)

    def _shutdownTLS(self) -> None:
        super()._shutdownTLS()
        self._records = None

    def _tlsShutdownFinished(self, reason: Any) -> None:
        self._records = None
        super()._tlsShutdownFinished(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See ``IProtocol.connectionLost``."""
        super().connectionLost(reason)
        self._records = None


def deliver_at_the_end(factory: Any) -> None:
    """Make a TLS factory of Twisted use this transport."""
    if isinstance(factory, TLSMemoryBIOFactory) and factory.protocol is BufferingTLSTransport:
        factory.protocol = TLSTransport


# Once a larger block has been freed, glibc keeps the memory of a stream's reads, instead of mapping
# and unmapping it for each: mallopt(3), M_MMAP_THRESHOLD.
bytes(1 << 20)
