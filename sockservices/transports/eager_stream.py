"""Eager streams: written data goes to the kernel without a turn of the reactor.

Twisted's own transports keep written data until the reactor finds the socket writable: two
epoll_ctl(2), an epoll_wait(2) and a turn for each answer. Here, everything written in
``dataReceived`` is sent together when that returns. On TCP, a write at another time is sent at
once, and small writes after it together at the end of the turn. So lines make few packets.

Everything else is Twisted's: buffering data that the kernel does not take, sending it later, and
closing.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_aborting``, ``_closeSocket``,
``_getLogPrefix``, ``_maybePauseProducer``, ``_realPortNumber``, ``_tempDataBuffer``,
``_tempDataLen``, ``_writeDisconnecting``.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from twisted.internet import main, tcp
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

from sockservices.printable import as_is_or_escaped
from sockservices.transports.byte_counting import Counted
from sockservices.transports.late_tls import StartsTLS
from sockservices.transports.transport import EagerConnection

# After a full read, read this many times as much, which halves the kernel's work for a stream. Not
# from the start: the C library would map and unmap memory for each small read (mallopt(3)).
_LARGER = 8

# Smaller writes may wait for others: the bytes that fit in an Ethernet packet (RFC 879).
_PACKET = 1460


class EagerStream(Counted, StartsTLS, EagerConnection):
    """A mixin for Twisted's stream transports that sends what is written in its turn."""

    # Whether the last read filled Twisted's buffer, so that there is probably more to read. None
    # while an accepted connection is new: its greeting is sent with the other greetings of that
    # turn, so that a peer with many connections is woken once for all.
    _was_full: bool | None = False
    # Whether written data may go to the kernel without further checks: nothing waits for the
    # kernel, there is no TLS and no pull producer, and the connection is not closing.
    _is_simple = True
    # The first write during a read while the connection is simple, held until the read is done:
    # None before the first write, and empty after it was moved to Twisted's buffer with others.
    # At all other times False.
    _held: bytes | Literal[False] | None = False
    # Bytes sent at once since this connection was last read or found writable.
    _sent = 0
    _sent_before = 0  # the value of _sent when it was last found writable
    _sent_in = -1  # the last turn of the reactor in which data was sent at once
    # Whether a write at another time than during a read is sent at once.
    _sends_at_once = True
    # Whether reading depends on the protocol: on whether it takes file descriptors.
    _asks_protocol = False
    # File descriptors to be sent, of Unix streams only.
    _sendmsgQueue: Sequence[int] = ()
    # Whether a send has failed for good, which the kernel reports only once.
    _broken = False

    socket: Any
    reactor: Any
    protocol: Any
    _aborting: bool
    TLS: bool

    def doRead(self) -> Any:
        """See ``IReadDescriptor.doRead``."""
        was_full = self._was_full
        try:
            size = self.bufferSize
            is_large = was_full and not self._asks_protocol
            data = self.socket.recv(size * _LARGER if is_large else size)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_LOST if self._broken else main.CONNECTION_DONE
        count = len(data)
        if count >= size or was_full is not False:
            self._was_full = count >= size
            if was_full is None:
                self._look_again()
        self._sent = 0
        self.bytes_in += count
        if self._held is not False:
            self._send_early()
        if self._is_simple:
            self._held = None
        try:
            self.protocol.dataReceived(data)
        finally:
            held, self._held = self._held, False
            if held and not self._tempDataLen:
                self._send(held)
            elif held is not None:
                self._send_held(held)
        return None

    def _holding(self, read: Callable[[], Any]) -> Any:
        """Read in another way than ``doRead``, and hold meanwhile what is written."""
        self._sent = 0
        if self._held is not False:
            self._send_early()
        if self._is_simple:
            self._held = None
        try:
            return read()
        finally:
            held, self._held = self._held, False
            self._send_held(held)

    def _send_early(self) -> None:
        """Send what is held, because the protocol runs a turn of the reactor while it reads."""
        held, self._held = self._held, False
        self._send_held(held)

    def _send_held(self, held: bytes | Literal[False] | None) -> None:
        if held is None or held is False:
            return
        if self._tempDataLen:
            self._send_gathered(held)
        elif held:
            self._send(held)

    def write(self, data: bytes) -> None:
        """See ``ITransport.write``."""
        held = self._held
        if held is not False and data.__class__ is bytes:
            if held is None:
                self._held = data
            else:
                self._gather(held, data)
        elif (
            self._is_simple
            and self._sends_at_once
            and self.connected
            and not self._tempDataLen
            and data.__class__ is bytes
            and data
            and (self._sent_in != self.reactor.turn or len(data) >= _PACKET)
        ):
            self._sent_in = self.reactor.turn
            self._send(data)
        else:
            self._release()
            tcp.Connection.write(self, data)  # type: ignore[arg-type]

    def _gather(self, held: bytes, data: bytes) -> None:
        parts, size = self._tempDataBuffer, self._tempDataLen + len(data)
        if held:
            self._held = b""
            parts.append(held)
            size += len(held)
        parts.append(data)
        self._tempDataLen = size
        if size > self.bufferSize:
            if self._sends_at_once:
                self._send_gathered(b"")
            else:  # a file descriptor that is yet to come must travel with it
                self._held = False
                self._maybePauseProducer()
                self.startWriting()

    def _send_gathered(self, last: bytes) -> None:
        parts = self._tempDataBuffer
        parts.append(last)
        data = b"".join(parts)
        parts.clear()
        self._tempDataLen = 0
        self._send(data)

    def _release(self) -> None:
        """Move held data to Twisted's buffer."""
        held, self._held = self._held, False
        if held is not None and held is not False:
            self._keep(held)

    def _keep(self, data: Any) -> None:
        """Put data into Twisted's buffer."""
        self._tempDataBuffer.append(data)
        self._tempDataLen += len(data)
        self._maybePauseProducer()
        self.startWriting()

    def _send(self, data: bytes) -> None:
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if self._is_dropped(data, error):
                return
            sent = 0
        self.bytes_out += sent
        self._sent = total = self._sent + sent
        if sent < len(data):
            self._keep_rest(data, sent)
        elif total > self.bufferSize:
            self._let_others_have_their_turn()

    def _is_dropped(self, data: bytes, error: OSError) -> bool:
        if error.errno == errno.EPIPE and self._sent:
            # The peer had closed, and has reset the connection after the previous send. Twisted
            # sends both as one, which the kernel takes: the next read tells how it ended. What is
            # dropped counts as sent, because a producer may write until it is paused.
            self._sent += len(data)
            self.startWriting()
            if self._sent > self.bufferSize:
                self._let_others_have_their_turn()
            return True
        # The reactor gets the same error when it tries again, and then closes the connection.
        self._note(error)
        return False

    def _keep_rest(self, data: bytes, sent: int) -> None:
        self.blocked = True
        self._is_simple = self._held = False
        self._keep(memoryview(data)[sent:])

    def _let_others_have_their_turn(self) -> None:
        """Pause a producer that writes until it is paused, as Twisted's own transports do.

        The kernel would take more. An echo is not paused: it sends one read, and then others have
        their turn anyway.
        """
        producer = self.producer
        if producer is not None and producer is not self:
            self.producerPaused = True
            producer.pauseProducing()  # type: ignore[attr-defined]
            self.startWriting()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """See ``ITransport.writeSequence``."""
        if not self._is_simple:
            tcp.Connection.writeSequence(self, iovec)  # type: ignore[arg-type]
            return
        for each in iovec:
            if not isinstance(each, bytes):
                raise TypeError("Data must be bytes")
        self.write(b"".join(iovec))

    def _note(self, error: OSError) -> None:
        # After EPIPE, a read still returns the same as before: the peer's end of input came first.
        if error.errno not in (errno.EPIPE, errno.ENOBUFS):
            self._broken = True

    def writeSomeData(self, data: Any) -> Any:
        """See ``FileDescriptor.writeSomeData``."""
        if not data and self._sent_before:
            return 0  # everything was sent at once; an empty send could only find that it failed
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
        kept = self._tempDataLen or self.dataBuffer or self._sendmsgQueue
        if self._sent_before and self.disconnecting and not kept and self.producer is None:
            self.stopWriting()
            return main.CONNECTION_DONE
        why = super().doWrite()
        if why is None and (self.blocked or not self._is_simple):
            self._look_again()
        return why

    def _look_again(self) -> None:
        self._is_simple = not (
            self.TLS
            or self.blocked
            or self._was_full is None
            or not self.connected
            or self.disconnecting  # a close that waits for a producer resumes after the next write
            or self._writeDisconnecting
            or self._aborting
            or (self.producer is not None and not self.streamingProducer)
        )
        if not self._is_simple:
            self._release()

    def _leave_to_twisted(self) -> None:
        self._release()
        self._is_simple = False

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """See ``ITLSTransport.startTLS``."""
        self._release()
        try:
            super().startTLS(ctx, normal)
        finally:
            self._look_again()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IConsumer.registerProducer``."""
        if not streaming:  # super() resumes it at once
            self._leave_to_twisted()
        try:
            super().registerProducer(producer, streaming)
        finally:
            self._look_again()
        if self._sent and not streaming and self.connected and not self.TLS:
            self.startWriting()  # doWrite then resumes the producer

    def unregisterProducer(self) -> None:
        """See ``IConsumer.unregisterProducer``."""
        super().unregisterProducer()
        self._look_again()

    def loseConnection(self) -> None:
        """See ``ITransport.loseConnection``."""
        self._leave_to_twisted()
        super().loseConnection()

    def loseWriteConnection(self) -> None:
        """See ``IHalfCloseableDescriptor.loseWriteConnection``."""
        self._leave_to_twisted()
        super().loseWriteConnection()

    def abortConnection(self) -> None:
        """See ``ITCPTransport.abortConnection``."""
        self._leave_to_twisted()
        super().abortConnection()  # type: ignore[misc]

    def connectionLost(self, reason: Failure) -> None:
        """See ``IReadDescriptor.connectionLost``."""
        self._let_go()
        self._stop_producer()
        super().connectionLost(reason)

    def _let_go(self) -> None:
        self._held = self._is_simple = False

    # By these names the accelerator finds them, where its own or a subclass's are in use.
    _read_purely, _write_purely, _send_purely = doRead, write, _send


class EagerServer(EagerStream):
    """A mixin for accepted connections. The methods do what those of Twisted's servers do.

    They need less time and memory, because they are much of the cost of a short connection.
    """

    _repstr = ""
    _logstr: str | None = None  # if it was set

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
        self.reactor = reactor
        self.protocol = protocol
        self.server = server
        self.client = client
        self.sessionno = sessionno
        # The attributes that each read and write uses: those of an object are found sooner than
        # those of its class. And all that most connections come to have, in this order: CPython
        # stores up to 30 names once per class, and more than that in each object.
        self.producer = None
        self.dataBuffer = b""
        self.bufferSize = self.bufferSize
        self._tempDataBuffer: list[Any] = []
        self._tempDataLen = self._sent = self._sent_before = self.offset = 0
        self._was_full = None
        self._held = self._is_simple = self.blocked = False
        self._sent_in = -1
        self.on_end = None
        self.streamingProducer = False
        self.bytes_in = self.bytes_out = 0
        self._prefix = self._getLogPrefix(protocol)
        self._kind = protocol.__class__
        self._port = None if server is None else server._realPortNumber
        self.startReading()
        self.connected = 1

    def fileno(self) -> int:
        """See ``IFileDescriptor.fileno``."""
        sock = getattr(self, "socket", None)
        return -1 if sock is None else sock.fileno()

    @property
    def logstr(self) -> str:
        """The log prefix, an attribute of Twisted's transports; built only on demand.

        It may contain a path that the peer has chosen, so it is escaped.
        """
        if self._logstr is not None:
            return self._logstr
        return as_is_or_escaped(f"{self._prefix},{self.sessionno},{self.hostname}")

    @logstr.setter
    def logstr(self, text: str) -> None:
        self._logstr = as_is_or_escaped(text)

    @property
    def hostname(self) -> Any:
        """The peer's host, an attribute of Twisted's transports."""
        return self.client[0]

    @property
    def repstr(self) -> str:
        """The representation of this connection, built only on demand."""
        return self._repstr or f"<{self._kind.__name__} #{self.sessionno} on {self._port}>"

    @repstr.setter
    def repstr(self, text: str) -> None:  # Twisted sets it for an adopted connection
        self._repstr = text

    def connectionLost(self, reason: Failure) -> None:
        """See ``IReadDescriptor.connectionLost``."""
        if not hasattr(self, "socket"):
            return  # lost already: it was aborted, and then its protocol raised
        self._let_go()
        self.disconnected = 1
        self.connected = 0
        try:
            if self.producer is not None:
                self._stop_producer()
            aborted = isinstance(reason.value, ConnectionAborted)
            self._closeSocket(not aborted)
            protocol = self.protocol
            del self.protocol, self.socket
            protocol.connectionLost(reason)
        finally:
            self._tell_end(reason)
