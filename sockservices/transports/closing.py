"""Closing a TCP connection only when its peer's system has all that was written.

To close(2) with bytes unread, or to be sent more after it, makes TCP answer with a reset, and what
is on its way is lost: RFC 2525, section 2.17. So the writing side is closed first, what comes in is
read and dropped, and the rest is closed when all is acknowledged.
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
from sockservices.transports.counted import Counted

_SENT_SHUTDOWN = 1  # SSL_get_shutdown(3)
_INTERVAL = 0.02  # seconds between two looks


def close_after_delivery(transport: Any, reactor: Any) -> None:
    """Close a connection in order; on TCP, when all has arrived, whatever the peer sends meanwhile.

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
    """Return what TLS runs on, if it has said that it ends; the peer need not answer that.

    RFC 8446, section 6.1: whoever has sent close_notify may close without waiting.
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
    """Whether nothing is on its way, in either direction."""
    requests = (termios.TIOCOUTQ, termios.FIONREAD)
    return not transport.unsent and not any(_bytes(transport, each) for each in requests)


def _bytes(transport: Any, request: int) -> int:
    """Ask tcp(7) for SIOCOUTQ, what is not acknowledged, or SIOCINQ, what is not read."""
    answer = fcntl.ioctl(transport.getHandle(), request, b"\0" * 4)
    return int(struct.unpack("i", answer)[0])


@implementer(IHalfCloseableProtocol)
class _Dropping:
    """Takes a protocol's place on a connection that only delivers any more."""

    def __init__(self, transport: Any, protocol: Any, reactor: Any) -> None:
        self._transport = transport
        self._protocol = protocol
        self._reactor = reactor
        self._look_again: Any = None

    def dataReceived(self, data: bytes) -> None:
        """Drop it."""

    def writeConnectionLost(self) -> None:
        """Wait until all is acknowledged."""
        if _bytes(self._transport, termios.TIOCOUTQ):
            self._look_again = self._reactor.callLater(_INTERVAL, self.writeConnectionLost)
        else:
            self._transport.loseConnection()

    def readConnectionLost(self) -> None:
        """Go on delivering: the peer has only ended its own side."""
        self._transport.stopReading()

    def connectionLost(self, reason: Failure) -> None:
        """Tell the protocol."""
        cancel(self._look_again)
        self._protocol.connectionLost(reason)
