"""Eager TCP: a write with nothing before it goes to the kernel at once.

Twisted's own transports keep what is written until the reactor finds the socket writable: two
epoll_ctl(2), an epoll_wait(2) and a turn for each answer. All else is Twisted's: what the kernel
does not take is kept, sent and closed as Twisted does it.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_aborting``, ``_addressType``,
``_closeSocket``, ``_getLogPrefix``, ``_makeTransport``, ``_maybePauseProducer``,
``_realPortNumber``, ``_tempDataBuffer``, ``_tempDataLen``, ``_writeDisconnecting``.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from time import monotonic
from typing import Any

from twisted.internet import main, tcp
from twisted.internet.address import IPv6Address
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

from sockservices.eager.counted import Counted
from sockservices.eager.port import AcceptingPort
from sockservices.eager.transport import EagerConnection

# After a read that was full, this many times as much: it halves what a stream costs the kernel. Not
# from the first: the C library would map and unmap memory for each small read (mallopt(3)).
_LARGER = 8


class _Connection(Counted, EagerConnection):
    # Whether the last read filled Twisted's buffer: there is probably more than that. None while a
    # connection that was accepted is new: what it is greeted with leaves with the other greetings
    # of that turn, so that a peer of many is woken once for all.
    _was_full: bool | None = False
    # What has been sent at once since this connection was last read or found writable, in bytes.
    _sent = 0
    _sent_before = 0  # the same, when it was last found writable
    # Whether a send has failed for good; the kernel says so only once.
    _broken = False

    socket: Any
    reactor: Any
    protocol: Any
    _aborting: bool
    TLS: bool

    def doRead(self) -> Any:
        """See ``IReadDescriptor.doRead``."""
        try:
            size = self.bufferSize
            data = self.socket.recv(size * _LARGER if self._was_full else size)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_LOST if self._broken else main.CONNECTION_DONE
        count = len(data)
        self._was_full = count >= size
        self._sent = 0
        self.bytes_in += count
        self.last_read = monotonic()
        self.protocol.dataReceived(data)
        return None

    def write(self, data: bytes) -> None:
        """See ``ITransport.write``."""
        producer = self.producer
        if (
            self.TLS
            or self._tempDataLen
            or self.dataBuffer
            or not self.connected
            or self.disconnecting  # what waits for a producer to end goes on after the next write
            or self._writeDisconnecting
            or self._aborting
            or (producer is not None and not self.streamingProducer)
            or data.__class__ is not bytes
            or not data
            or self._was_full is None
        ):
            tcp.Connection.write(self, data)  # type: ignore[arg-type]
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if error.errno == errno.EPIPE and self._sent:
                # The peer had closed, and has refused what was sent just before. Twisted sends
                # both as one, which the kernel takes: what is read next tells how it ended.
                self.startWriting()
                return
            # The reactor finds the same when it tries again, and ends the connection in its turn.
            self._note(error)
            sent = 0
        self._sent += sent
        self.bytes_out += sent
        if sent < len(data):
            self._is_refused = True
            self.blocked = True
            self._tempDataBuffer.append(memoryview(data)[sent:])  # type: ignore[arg-type]
            self._tempDataLen += len(data) - sent
            self._maybePauseProducer()
            self.startWriting()
        elif self._sent > self.bufferSize and producer is not None and producer is not self:
            # The kernel would take more, but a producer that writes until it is paused must let
            # others have their turn where it does with Twisted's own transports. (What an echo
            # sends is one read, and then others have their turn anyway.)
            self.producerPaused = True
            producer.pauseProducing()  # type: ignore[attr-defined]
            self.startWriting()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """See ``ITransport.writeSequence``."""
        if self.TLS or self._tempDataLen or self.dataBuffer:
            tcp.Connection.writeSequence(self, iovec)  # type: ignore[arg-type]
            return
        for each in iovec:
            if not isinstance(each, bytes):
                raise TypeError("Data must be bytes")
        self.write(b"".join(iovec))

    def _note(self, error: OSError) -> None:
        # After EPIPE a read still tells the same as before: the peer's end of file came first.
        if error.errno not in (errno.EPIPE, errno.ENOBUFS):
            self._broken = True

    def writeSomeData(self, data: Any) -> Any:
        """See ``FileDescriptor.writeSomeData``."""
        if not data and self._sent_before:
            return 0  # all was sent at once; to send nothing would find out what became of it
        try:
            sent = self.socket.send(memoryview(data)[: self.SEND_LIMIT])
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return 0
            self._note(error)
            return main.CONNECTION_LOST
        self.bytes_out += sent
        return sent

    def doWrite(self) -> Any:
        """See ``IWriteDescriptor.doWrite``."""
        self._was_full = self._was_full or False
        self._sent_before, self._sent = self._sent, 0
        kept = self._tempDataLen or self.dataBuffer
        if self._sent_before and self.disconnecting and not kept and self.producer is None:
            self.stopWriting()
            return main.CONNECTION_DONE
        return super().doWrite()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IConsumer.registerProducer``."""
        tcp.Connection.registerProducer(self, producer, streaming)  # type: ignore[arg-type]
        if self._sent and not streaming and self.connected and not self.TLS:
            self.startWriting()  # when that is done, it is the producer's turn again


class Server(_Connection, tcp.Server):
    """A connection that a port has accepted.

    For its parameters see ``twisted.internet.tcp.Server``. The methods do what Twisted's do, with
    less time and memory: for a short connection they are much of what it costs.
    """

    _repstr = ""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Any,
        client: Any,
        server: Any,
        sessionno: int,
        reactor: Any,
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.fileno = sock.fileno
        self.reactor = reactor
        self.protocol = protocol
        self.server = server
        self.client = client
        self.hostname = client[0]
        self.sessionno = sessionno
        # What each write looks at: an object's own attributes are found sooner than its class's.
        self.producer = None
        self.dataBuffer = b""
        self.bufferSize = self.bufferSize
        self._tempDataBuffer: list[Any] = []
        self._tempDataLen = self._sent = 0
        self._was_full = None
        self.disconnecting = 0
        self._writeDisconnecting = self._aborting = self.TLS = False
        self.bytes_in = self.bytes_out = 0
        if len(client) != 2:
            self._addressType = IPv6Address
        self.logstr = f"{self._getLogPrefix(protocol)},{sessionno},{self.hostname}"
        self._kind = protocol.__class__
        self._port = None if server is None else server._realPortNumber
        self.startReading()
        self.connected = 1

    @property
    def repstr(self) -> str:
        """What represents it, made only when it is asked for."""
        return self._repstr or f"<{self._kind.__name__} #{self.sessionno} on {self._port}>"

    @repstr.setter
    def repstr(self, text: str) -> None:  # of an adopted one, by Twisted
        self._repstr = text

    def connectionLost(self, reason: Failure) -> None:
        """See ``IReadDescriptor.connectionLost``."""
        if not hasattr(self, "socket"):
            return  # it was lost before: aborted, and then its protocol raised
        self.disconnected = 1
        self.connected = 0
        try:
            if self.producer is not None:
                self.producer.stopProducing()
                self.producer = None
            self.reactor.forget(self)
            aborted = isinstance(reason.value, ConnectionAborted)
            tcp.Server._closeSocket(self, not aborted)
            protocol = self.protocol
            del self.protocol, self.socket, self.fileno
            protocol.connectionLost(reason)
        finally:
            self._tell_end(reason)


class Client(_Connection, tcp.Client):
    """A connection that we make."""


class Port(AcceptingPort):
    """A listening TCP port; see ``twisted.internet.tcp.Port`` for its parameters."""

    transport = Server


class Connector(tcp.Connector):
    """Makes a connection; see ``twisted.internet.tcp.Connector`` for its parameters."""

    def _makeTransport(self) -> Client:
        return Client(self.host, self.port, self.bindAddress, self, self.reactor)
