"""A connection of which more is to be known before the service hears of it.

Who is there on a Unix socket only the connected socket tells, and who is behind a proxy only the
proxy's header. Until then the ledger has the connection, but has not said that it was opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import ILoggingContext
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python import log
from twisted.python.failure import Failure

from sockservices.calls import cancel
from sockservices.eager import Counted
from sockservices.printable import peer_of_stream
from sockservices.proxy_protocol import Header, HeaderError, ProxyProtocol, read_header
from sockservices.reasons import Reason

_log = Logger(namespace="sockservices")


class Door(Protocol):
    """Where a newcomer comes in."""

    proxy: ProxyProtocol | None
    """What header must come first, if any."""
    reactor: Any
    handshake_timeout: float
    """Seconds for the header."""

    def enter(self, transport: Any, protocol: Any) -> None:
        """Enter a connection in the ledger."""

    def why_not_user(self, transport: Any) -> Reason | None:
        """Return why the process at the other end is not let in."""

    def cut(self, transport: Any, reason: Reason) -> None:
        """End a connection."""

    def log_rarely(self, text: str, **named: object) -> None:
        """Log what may happen often."""


class Newcomer:
    """The protocol that a connection has until its peer is known.

    Parameters:
        door: where it comes in.
        peer: the peer's address.
        admit: takes the transport and the peer's address, returns the protocol that takes the
            place of this, or ends the connection and returns ``None``.
    """

    def __init__(self, door: Door, peer: Any, admit: Callable[[Any, Any], Any]) -> None:
        self._door = door
        self._peer = peer
        self._admit = admit
        self._begun = bytearray()
        self._deadline: Any = None
        self._successor: Any = None

    def makeConnection(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        door = self._door
        door.enter(transport, self)
        reason = door.why_not_user(transport)
        if reason is not None:
            door.cut(transport, reason)
        elif door.proxy is None:
            self._let_in(self._peer, b"")
        else:
            self._deadline = door.reactor.callLater(door.handshake_timeout, self._too_late)

    def dataReceived(self, data: bytes) -> None:
        """Look for the end of the header."""
        if self._successor is not None:  # on a foreign transport, which keeps to us
            self._successor.dataReceived(data)
            return
        assert self._door.proxy is not None
        self._begun += data
        try:
            found = read_header(self._begun, self._door.proxy.proxy_protocol)
        except HeaderError as error:
            self._door.log_rarely(
                "no PROXY header from {peer}: {reason}",
                peer=peer_of_stream(self._peer),
                reason=error,
            )
            self._door.cut(self._transport, "proxy-header")
            return
        if found is not None:
            header, end = found
            self._forget_deadline()
            self._let_in(_shown_as(self._transport, header), bytes(self._begun[end:]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Let the successor know."""
        self._forget_deadline()
        if self._successor is not None:
            self._successor.connectionLost(reason)

    def _too_late(self) -> None:
        self._deadline = None
        self._door.cut(self._transport, "handshake-timeout")

    def _forget_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        cancel(deadline)

    def _let_in(self, peer: Any, rest: bytes) -> None:
        transport = self._transport
        successor = self._successor = self._admit(transport, peer)
        if successor is None:
            return
        if isinstance(transport, Counted):
            own: Any = transport
            own.protocol = successor
            system = f"{log_prefix(successor)},{own.sessionno},{getattr(peer, 'host', '')}"
            own.logstr = system
            handing_over = _Rest(own, rest, self._door.reactor).follow_connecting
            # The reactor has set the context of what is logged now, and that says the proxy.
            log.callWithContext({"system": system}, handing_over, successor)
        else:
            successor.makeConnection(transport)
            if rest:
                successor.dataReceived(rest)


class _Rest:
    """What came with a header: the next protocol's, as soon as it reads.

    Many pause at first, until they have somewhere to put what comes.
    """

    def __init__(self, transport: Any, data: bytes, reactor: Any) -> None:
        self._transport = transport
        self._data = data
        self._reactor = reactor
        self._is_wanted = True

    def follow_connecting(self, protocol: Any) -> None:
        """Connect a protocol, and give it the rest, now or when it resumes reading."""
        transport = self._transport
        if self._data:
            transport.stopReading, transport.startReading = self._pause, self._resume
        protocol.makeConnection(transport)
        self._give_if_wanted()

    def _pause(self) -> None:
        self._is_wanted = False
        type(self._transport).stopReading(self._transport)

    def _resume(self) -> None:
        self._is_wanted = True
        self._reactor.callLater(0, self._give_if_wanted)

    def _give_if_wanted(self) -> None:
        transport, data = self._transport, self._data
        if not (data and self._is_wanted and transport.connected):
            return
        self._data = b""
        del transport.stopReading, transport.startReading
        transport.startReading()
        try:
            transport.protocol.dataReceived(data)
        except BaseException:  # as Twisted does with what it delivers, but with the client's name
            _log.failure(
                "the protocol failed on what {peer} sent first",
                peer=peer_of_stream(transport.getPeer()),
            )
            transport.abortConnection()


def _shown_as(transport: Any, header: Header) -> Any:
    """Have a transport show the addresses in a header; return its peer's."""
    source, destination = header.source, header.destination
    if source is not None and destination is not None:
        transport.getPeer = lambda: source
        transport.getHost = lambda: destination
    return transport.getPeer()


def log_prefix(what: Any) -> str:
    """Return what stands for a protocol or a factory in the log."""
    context = ILoggingContext(what, None)
    return type(what).__name__ if context is None else str(context.logPrefix())
