"""Closing a TCP connection only when its peer's system has received everything written.

If close(2) leaves unread bytes, or more arrive after it, TCP sends a reset, and data in flight is
lost: RFC 2525, section 2.17. So the writing side is closed first, incoming data is read and
discarded, and the rest is closed when everything is acknowledged. HTTP servers do the same (nginx:
``lingering_close``).

A connection ends for its protocol, and gives up its place, as soon as its data is in the kernel.
Only the socket stays open for the rest, without a transport.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_closeSocket``,
``_writeDisconnected``.
"""

from __future__ import annotations

import socket
import struct
from fcntl import ioctl
from termios import FIONREAD as _UNREAD
from termios import TIOCOUTQ as _UNACKNOWLEDGED
from typing import Any

from twisted.internet import main
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IHalfCloseableProtocol, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.timer import cancel
from sockservices.transports.byte_counting import Counted

_SENT_SHUTDOWN = 1  # SSL_get_shutdown(3)
_INTERVAL = 0.02  # seconds between two checks
_LONGEST = 10.0  # seconds for which a socket stays open
_MOST = 1024  # sockets that stay open
_NOTHING = b"\0" * 4
_count = bytearray(_NOTHING)  # where the kernel puts a number of bytes; a new one takes longer


class ClosesInOrder(FileDescriptor):
    """A mixin for accepted TCP connections: ``loseConnection`` loses no data that was sent."""

    socket: Any
    _writeDisconnected: bool

    def _closeSocket(self, orderly: bool) -> None:
        is_our_end = orderly and (self.disconnecting or self._writeDisconnected)
        if is_our_end and not _is_settled(self.socket):
            _Discarding(self.socket, self.reactor).start()
        else:
            super()._closeSocket(orderly)  # type: ignore[misc]


def _is_settled(connection: socket.socket) -> bool:
    """Whether all data sent is acknowledged, and all that arrived is read: tcp(7)."""
    fd = connection.fileno()
    try:
        ioctl(fd, _UNACKNOWLEDGED, _count)
        if _count == _NOTHING:
            ioctl(fd, _UNREAD, _count)
        return _count == _NOTHING
    except OSError:  # the system does not tell, or the connection is broken
        return True


@implementer(IReadDescriptor)
class _Discarding:
    """A socket that stays open, without a transport, until the peer's system has all data."""

    def __init__(self, connection: socket.socket, reactor: Any) -> None:
        self._socket = connection
        self._reactor = reactor
        self._interval = _INTERVAL / 4
        self.fileno = connection.fileno

    def start(self) -> None:
        """Close the writing side; discard what the peer sends."""
        if len(_open) >= _MOST:
            next(iter(_open)).close()
        _open[self] = None
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # the peer has reset the connection
            self.close()
            return
        self._ends = self._reactor.seconds() + _LONGEST
        self._reactor.addReader(self)
        self._look_later()

    def _look_later(self) -> None:
        self._interval *= 2
        self._later = self._reactor.callLater(self._interval, self._look)

    def _look(self) -> None:
        if _is_settled(self._socket) or self._reactor.seconds() >= self._ends:
            self.close()
        else:
            self._look_later()

    def doRead(self) -> Any:
        """See ``IReadDescriptor.doRead``."""
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        return None if data else main.CONNECTION_DONE

    def connectionLost(self, reason: Failure) -> None:
        """See ``IFileDescriptor.connectionLost``."""
        self.close()

    def close(self) -> None:
        """Close the socket."""
        if self not in _open:
            return
        del _open[self]
        cancel(getattr(self, "_later", None))
        self._reactor.removeReader(self)
        self._socket.close()
        if not _open:
            waiting, _waiting[:] = _waiting[:], []
            for each in waiting:
                each.callback(None)

    def logPrefix(self) -> str:
        """See ``ILoggingContext.logPrefix``."""
        return "-"


# All of the process, in the order in which they were closed.
_open: dict[_Discarding, None] = {}
_waiting: list[Deferred[None]] = []


def when_delivered() -> Deferred[None]:
    """Return a ``Deferred`` that fires when no socket of a closed connection is open."""
    if not _open:
        return succeed(None)
    _waiting.append(Deferred())
    return _waiting[-1]


def deliver_no_more() -> None:
    """Close the sockets of closed connections at once; what is not acknowledged may be lost."""
    for each in list(_open):
        each.close()


def close_after_delivery(transport: Any, reactor: Any) -> None:
    """Close a connection gracefully: on TCP, once all data has arrived, whatever the peer sends.

    Parameters:
        transport: an ``ITransport``.
        reactor: an ``IReactorTime``.
    """
    if _is_plain_tcp(transport) and not _has_delivered(transport):
        transport.protocol = _Dropping(transport, transport.protocol, reactor)
        transport.startReading()
        transport.loseWriteConnection()
        return
    transport.loseConnection()
    below = _below_ended_tls(transport)
    if below is not None:
        close_after_delivery(below, reactor)


def _below_ended_tls(transport: Any) -> Any | None:
    """Return the transport below TLS, if TLS has sent close_notify, else ``None``.

    RFC 8446, section 6.1: a side that has sent close_notify need not wait for the peer's.
    """
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    get_shutdown = getattr(handle, "get_shutdown", None)
    has_ended = get_shutdown is not None and get_shutdown() & _SENT_SHUTDOWN
    return transport.transport if has_ended else None


def _is_plain_tcp(transport: Any) -> bool:
    connection: Any = transport
    return (
        isinstance(transport, Counted)
        and bool(transport.connected)
        and not transport.disconnecting
        and not getattr(transport, "TLS", False)
        and connection.getHandle().family in (socket.AF_INET, socket.AF_INET6)
    )


def _has_delivered(transport: Any) -> bool:
    """Whether nothing is in flight, in either direction."""
    requests = (_UNACKNOWLEDGED, _UNREAD)
    return not transport.unsent and not any(_bytes(transport, each) for each in requests)


def _bytes(transport: Any, request: int) -> int:
    """Return SIOCOUTQ, the unacknowledged bytes, or SIOCINQ, the unread bytes: tcp(7)."""
    answer = ioctl(transport.getHandle(), request, _NOTHING)
    return int(struct.unpack("i", answer)[0])


@implementer(IHalfCloseableProtocol)
class _Dropping:
    """A stand-in for the protocol of a connection that only finishes its delivery."""

    def __init__(self, transport: Any, protocol: Any, reactor: Any) -> None:
        self._transport = transport
        self._protocol = protocol
        self._reactor = reactor
        self._look_again: Any = None

    def dataReceived(self, data: bytes) -> None:
        """Discard the data."""

    def writeConnectionLost(self) -> None:
        """Close the connection once everything is acknowledged."""
        if _bytes(self._transport, _UNACKNOWLEDGED):
            self._look_again = self._reactor.callLater(_INTERVAL, self.writeConnectionLost)
        else:
            self._transport.loseConnection()

    def readConnectionLost(self) -> None:
        """Keep delivering, because the peer has only closed its own side."""
        self._transport.stopReading()

    def connectionLost(self, reason: Failure) -> None:
        """Notify the protocol."""
        cancel(self._look_again)
        self._protocol.connectionLost(reason)
