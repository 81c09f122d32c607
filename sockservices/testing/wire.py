"""A connection in memory, whose peer may read or not, and may go at any moment.

It behaves as Twisted's transports do, as far as a protocol can notice: it drops writes after the
end, pauses a producer while too much is buffered, stays open until the producer is unregistered,
and closes once, in a later turn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from time import perf_counter
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

__tracebackhide__ = True  # as in checking.py

HOST = IPv4Address("TCP", "127.0.0.1", 7000)
PEER = IPv4Address("TCP", "127.0.0.1", 40000)

_BUFFER = 1 << 16  # bytes that may be buffered before a producer is paused, as in Twisted
_PULLS = 1000  # times that a pull producer is resumed in one turn


@implementer(ITCPTransport, IConsumer, IPushProducer)
class _Transport:
    """The service's end of a connection in memory."""

    def __init__(self) -> None:
        self.output = bytearray()
        self.waiting = 0  # bytes of the output that the peer has not read
        self.peer_reads = True
        self.connected, self.disconnected = 1, 0  # Twisted's have these, without an interface
        self.is_reading = True
        self.disconnecting = False
        self.is_aborted = False
        self.has_ended_output = False
        self.is_over = False
        self.producer: Any = None
        self.is_pull_producer = False
        self.was_written_after_the_end = False
        self.on_write: Callable[[], None] = lambda: None

    # ITransport and related interfaces

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError("Data must be bytes")
        self.was_written_after_the_end |= self.is_over
        if data and not (self.is_over or self.is_aborted or self.has_ended_output):
            self.output += data
            if not self.peer_reads:
                self.waiting += len(data)
            if self.waiting > _BUFFER and self.producer is not None and not self.is_pull_producer:
                self.producer.pauseProducing()
        self.on_write()

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self.is_reading = False

    def loseWriteConnection(self) -> None:
        self.has_ended_output = True

    def abortConnection(self) -> None:
        self.is_aborted = self.disconnecting = True
        self.is_reading = False

    def getHost(self) -> IPv4Address:
        return HOST

    def getPeer(self) -> IPv4Address:
        return PEER

    def getTcpNoDelay(self) -> bool:
        return False

    def setTcpNoDelay(self, enabled: object) -> None: ...

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: object) -> None: ...

    # IConsumer and IPushProducer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer} on {self}, because producer "
                f"{self.producer} was never unregistered."
            )
        if self.is_over:
            producer.stopProducing()
            return
        self.producer = producer
        self.is_pull_producer = not streaming

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.is_reading = False

    def resumeProducing(self) -> None:
        if not self.disconnecting:
            self.is_reading = True

    def stopProducing(self) -> None:
        self.loseConnection()


class Conversation:
    """One connection to a service: what the peer does, and what the service answers.

    Parameters:
        factory: builds the protocol.
        settle: advances the service's own clock; called in each turn.
    """

    def __init__(self, factory: Any, settle: Callable[[], object]) -> None:
        self._settle = settle
        self.transport = _Transport()
        self.longest = 0.0  # seconds that the longest call into the protocol took
        self._input: list[bytes] = []
        self._ends = self._ends_together = self._goes = False
        self.is_refused = False
        self.protocol: Any = self._call(factory.buildProtocol, PEER)
        if self.protocol is None:
            self.is_refused = self.transport.is_over = True

    @property
    def output(self) -> bytes:
        """The bytes that the service has written."""
        return bytes(self.transport.output)

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed the connection."""
        return not (self.transport.is_over or self.transport.disconnecting)

    @property
    def hangs(self) -> bool:
        """Whether the service has closed the connection, but left a push producer registered."""
        transport = self.transport
        waits = transport.producer is not None and not transport.is_pull_producer
        return transport.disconnecting and not transport.is_over and waits

    @property
    def is_endless(self) -> bool:
        """Whether the service keeps writing as long as the peer reads."""
        return self.transport.is_pull_producer and self.transport.producer is not None

    def connect(self) -> None:
        """Make the connection."""
        if not self.is_refused:
            self._call(self.protocol.makeConnection, self.transport)
            self.turn()

    def send(self, data: bytes) -> None:
        """Send bytes; hold them back while the service does not read."""
        if data:
            self._input.append(data)
        self.turn()

    def end_input(self) -> None:
        """Half-close the connection: send no more."""
        self._ends = True
        self.turn()

    def vanish(self) -> None:
        """Lose the connection, without closing it."""
        self._end(ConnectionLost())

    def vanish_at_write(self) -> None:
        """Lose the connection during a write; the service is told after its call returns."""

        def gone() -> None:
            self.transport.on_write = lambda: None
            self._goes = True

        self.transport.on_write = gone

    def send_and_end(self, data: bytes) -> None:
        """Send bytes, and the end of input in the same segment."""
        self._input.append(data)
        self._ends_together = True
        self.end_input()

    def count_connection_lost(self) -> Callable[[], int]:
        """Count the calls of ``connectionLost``, including those of the service itself."""
        count = 0
        lost: Any = getattr(self.protocol, "connectionLost", None)

        def counting(*arguments: Any) -> None:
            nonlocal count
            count += 1
            lost(*arguments)

        if lost is not None:
            with contextlib.suppress(AttributeError):  # one with __slots__
                self.protocol.connectionLost = counting
        return lambda: count

    @property
    def takes_more(self) -> bool:
        """Whether the service has read everything so far, and may read more."""
        return self.is_open and not self._input

    def turn(self) -> None:
        """Take turns until nothing is left to do."""
        while self._turn():
            pass

    def _turn(self) -> bool:
        transport = self.transport
        if transport.is_over:
            return False
        self._call(self._settle)
        if self._goes:
            self.vanish()
            return False
        if transport.is_aborted:
            self._end(ConnectionAborted())
            return False
        if transport.producer is not None and transport.is_pull_producer and not transport.waiting:
            self._pull()
        if transport.disconnecting and transport.producer is None and not transport.waiting:
            self._end(ConnectionDone())
            return False
        if transport.is_reading and not transport.disconnecting:
            if self._input:
                self._call(self.protocol.dataReceived, self._input.pop(0))
                if not (self._ends_together and transport.is_reading):
                    return True
            if self._ends:
                self._ends = False
                return self._half_close()
        return False

    def _pull(self) -> None:
        transport = self.transport
        for _ in range(_PULLS):
            if transport.producer is None or transport.waiting:
                return
            self._call(transport.producer.resumeProducing)

    def _half_close(self) -> bool:
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self._call(self.protocol.readConnectionLost)
            self.transport.is_reading = False
            return True
        self._end(ConnectionDone())
        return False

    def _end(self, why: Exception) -> None:
        transport = self.transport
        if not transport.is_over:
            transport.is_over = True
            transport.connected, transport.disconnected = 0, 1
            producer, transport.producer = transport.producer, None
            if producer is not None and producer is not transport:
                self._call(producer.stopProducing)
            self._call(self.protocol.connectionLost, Failure(why))

    def _call(self, function: Any, *arguments: Any) -> Any:
        begun = perf_counter()
        try:
            return function(*arguments)
        finally:
            self.longest = max(self.longest, perf_counter() - begun)
