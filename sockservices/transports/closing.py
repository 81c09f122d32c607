"""Closing a TCP connection only when its peer's system has received everything written.

If close(2) leaves unread bytes, or more arrive after it, TCP sends a reset, and data in flight is
lost: RFC 2525, section 2.17. So the writing side is closed first, incoming data is read and
discarded, and the rest is closed when everything is acknowledged.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.timer import cancel
from sockservices.transports.byte_counting import Counted

_SENT_SHUTDOWN = 1  # SSL_get_shutdown(3)
_INTERVAL = 0.02  # seconds between two checks


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
    requests = (termios.TIOCOUTQ, termios.FIONREAD)
    return not transport.unsent and not any(_bytes(transport, each) for each in requests)


def _bytes(transport: Any, request: int) -> int:
    """Return SIOCOUTQ, the unacknowledged bytes, or SIOCINQ, the unread bytes: tcp(7)."""
    answer = fcntl.ioctl(transport.getHandle(), request, b"\0" * 4)
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
        if _bytes(self._transport, termios.TIOCOUTQ):
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
