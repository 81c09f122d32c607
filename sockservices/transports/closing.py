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

import contextlib
import socket
from typing import Any

from twisted.internet import main
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IHalfCloseableProtocol, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.timer import Timer
from sockservices.transports.byte_counting import Counted
from sockservices.transports.socket_queues import unacknowledged, unread

_SENT_SHUTDOWN = 1  # SSL_get_shutdown(3)
_FIRST_INTERVAL = 0.01  # seconds between two checks; the next is twice as long, and so on
_LONGEST_INTERVAL = 0.16  # seconds, for a connection that has still to tell its end
_DROPPED_AT_ONCE = 1 << 13  # bytes to read, so that peers that send much cost little time
_LONGEST = 10.0  # seconds for which a socket stays open
_MOST = 1024  # sockets of the process that stay open


class ClosesInOrder(FileDescriptor):
    """A mixin for accepted TCP connections: ``loseConnection`` loses no data that was sent."""

    socket: Any
    server: Any
    lingers = True  # whether closing it loses nothing, although it is not read any more
    _writeDisconnected: bool

    def _closeSocket(self, orderly: bool) -> None:
        if _is_our_end(self, orderly) and not _is_settled(self.socket):
            undelivered = UNHOSTED if self.server is None else self.server.undelivered
            _Discarding(self.socket, self.reactor, undelivered).start()
        else:
            super()._closeSocket(orderly)  # type: ignore[misc]


class ReadsTheRest(FileDescriptor):
    """A mixin for accepted Unix connections: after ``loseConnection`` the peer gets end of file.

    If close(2) leaves unread bytes, Linux reports ECONNRESET to the peer after the last data.
    """

    socket: Any
    lingers = True  # see ``ClosesInOrder``
    _writeDisconnected: bool

    def _closeSocket(self, orderly: bool) -> None:
        if _is_our_end(self, orderly) and unread(self.socket.fileno()):
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RD)  # so that no more comes
                while self.socket.recv(1 << 16):
                    pass
        super()._closeSocket(orderly)  # type: ignore[misc]


def _is_our_end(transport: ClosesInOrder | ReadsTheRest, orderly: bool) -> bool:
    """Whether the service has closed a connection, which it may have half-closed before."""
    return orderly and bool(transport.disconnecting or transport._writeDisconnected)


def _is_settled(connection: socket.socket) -> bool:
    """Whether all data sent is acknowledged, and all that arrived is read: tcp(7)."""
    fd = connection.fileno()
    return not unacknowledged(fd) and not unread(fd)


@implementer(IReadDescriptor)
class _Discarding:
    """A socket that stays open, without a transport, until the peer's system has all data."""

    def __init__(self, connection: socket.socket, reactor: Any, undelivered: Undelivered) -> None:
        self._socket = connection
        self._reactor = reactor
        self._undelivered = undelivered
        self._timer = Timer(reactor, self._look)
        self._interval = _FIRST_INTERVAL
        self.fileno = connection.fileno

    def start(self) -> None:
        """Close the writing side; discard what the peer sends."""
        if len(_open) >= _MOST:
            give_up_oldest()
        _open[self] = None
        self._undelivered.sockets.add(self)
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # the peer has reset the connection
            self.close()
            return
        self._ends = self._reactor.seconds() + _LONGEST
        self._reactor.addReader(self)
        self._look_later()

    def _look_later(self) -> None:
        self._timer.start(self._interval)
        self._interval *= 2

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
        self._timer.cancel()
        self._reactor.removeReader(self)
        self._socket.close()
        self._undelivered.remove(self)

    def logPrefix(self) -> str:
        """See ``ILoggingContext.logPrefix``."""
        return "-"


# All of the process, in the order in which they were closed.
_open: dict[_Discarding, None] = {}


def give_up_oldest() -> bool:
    """Close the socket of this process that has waited longest; return whether there was one.

    The kernel goes on delivering what it has, but whatever the peer sends resets the connection.
    """
    for oldest in _open:
        oldest.close()
        return True
    return False


class Undelivered:
    """The sockets of closed connections that are still open, of the ports that share it."""

    def __init__(self) -> None:
        self.sockets: set[_Discarding] = set()
        self._waiting: list[Deferred[None]] = []

    def when_delivered(self) -> Deferred[None]:
        """Return a ``Deferred`` that fires when none of these sockets is open."""
        if not self.sockets:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def deliver_no_more(self) -> None:
        """Close these sockets at once; what is not acknowledged may be lost."""
        for each in list(self.sockets):
            each.close()

    def remove(self, closed: _Discarding) -> None:
        """Forget a socket that has been closed."""
        self.sockets.remove(closed)
        if not self.sockets:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)


UNHOSTED = Undelivered()
"""Those of ports without a host, and of adopted connections."""


def close_after_delivery(transport: Any, reactor: Any) -> None:
    """Close a connection gracefully: on TCP, once all data has arrived, whatever the peer sends.

    Parameters:
        transport: an ``ITransport``.
        reactor: an ``IReactorTime``.
    """
    transport = _with_late_tls(transport)
    if _is_plain_tcp(transport) and not _has_delivered(transport):
        transport.protocol = _Dropping(transport, transport.protocol, reactor)
        transport.bufferSize = _DROPPED_AT_ONCE
        transport.startReading()
        transport.loseWriteConnection()
        return
    if _is_in_handshake(transport):  # Twisted would reset it, and nothing has been written
        close_after_delivery(transport.transport, reactor)
        return
    transport.loseConnection()  # which ends one that is half-closed at once
    below = _below_ended_tls(transport)
    if below is not None:
        close_after_delivery(below, reactor)


def _with_late_tls(transport: Any) -> Any:
    """Return the layer of TLS that ``startTLS`` has put on a transport, else the transport."""
    has_tls = isinstance(transport, FileDescriptor) and getattr(transport, "TLS", False)
    return transport.protocol if has_tls and transport.connected else transport


def _below_ended_tls(transport: Any) -> Any | None:
    """Return the transport below TLS, if TLS has sent close_notify, else ``None``.

    RFC 8446, section 6.1: a side that has sent close_notify need not wait for the peer's.
    """
    get_shutdown = getattr(_handle_of(transport), "get_shutdown", None)
    has_ended = get_shutdown is not None and get_shutdown() & _SENT_SHUTDOWN
    return getattr(transport, "transport", None) if has_ended else None


def _is_in_handshake(transport: Any) -> bool:
    """Whether this is TLS, and the peer has not sent its Finished: RFC 8446, section 2."""
    get_finished = getattr(_handle_of(transport), "get_peer_finished", None)
    return get_finished is not None and get_finished() is None and hasattr(transport, "transport")


def _handle_of(transport: Any) -> Any:
    """Return the socket or TLS connection of a transport, or ``None`` if it has none (any more)."""
    is_there = hasattr(transport, "getHandle") and getattr(transport, "connected", True)
    return transport.getHandle() if is_there else None


def _is_plain_tcp(transport: Any) -> bool:
    connection: Any = transport
    return (
        isinstance(transport, Counted)
        and bool(transport.connected)
        and not transport.disconnecting
        and connection.getHandle().family in (socket.AF_INET, socket.AF_INET6)
    )


def _has_delivered(transport: Any) -> bool:
    """Whether nothing is in flight, in either direction."""
    return not transport.unsent and _is_settled(transport.getHandle())


@implementer(IHalfCloseableProtocol)
class _Dropping:
    """A stand-in for the protocol of a connection that only finishes its delivery."""

    def __init__(self, transport: Any, protocol: Any, reactor: Any) -> None:
        self._transport = transport
        self._protocol = protocol
        self._timer = Timer(reactor, self.writeConnectionLost)
        self._interval = _FIRST_INTERVAL

    def dataReceived(self, data: bytes) -> None:
        """Discard the data."""

    def writeConnectionLost(self) -> None:
        """Close the connection once everything is acknowledged."""
        if unacknowledged(self._transport.fileno()):
            self._timer.start(self._interval)
            self._interval = min(2 * self._interval, _LONGEST_INTERVAL)
        else:
            self._transport.loseConnection()

    def readConnectionLost(self) -> None:
        """Keep delivering, because the peer has only closed its own side."""
        self._transport.stopReading()

    def connectionLost(self, reason: Failure) -> None:
        """Notify the protocol."""
        self._timer.cancel()
        self._protocol.connectionLost(reason)
