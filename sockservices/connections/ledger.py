"""The ledger: the live connections of a service, and totals of those that have ended.

All counting is done here. The limits, the shutdown, logs and metrics read it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic, time
from typing import Any, Protocol, TypeAlias

import attrs
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.transports.layers import Layers

Reason: TypeAlias = str
"""Why a connection was closed, or a connection or datagram was refused; one of ``REASONS``."""

REASONS: dict[str, str] = {
    "closed": "the connection was closed by either side",
    "lost": "the peer reset the connection, or the network failed",
    "aborted": "the service reset the connection",
    "stop": "the connection was still open at the end of a stop (--graceful-timeout, --flush)",
    "denied": "the peer's network is not admitted (--allow, --deny)",
    "user": "the peer's user is not admitted (--allow-user, --allow-group)",
    "max-connections": "the limit of --max-connections was reached",
    "max-per-source": "the limit of --max-per-source was reached",
    "rate": "the limit of --rate was reached",
    "rate-per-source": "the limit of --rate-per-source was reached",
    "idle-timeout": "the peer neither sent nor took anything for --idle-timeout seconds",
    "max-time": "the connection was open for --max-time seconds",
    "max-write-buffer": "the peer did not read, and the unsent data exceeded --max-write-buffer",
    "handshake": "the TLS handshake failed",
    "handshake-timeout": "the TLS handshake or PROXY header took longer than --handshake-timeout",
    "proxy-allow-from": "the peer is not one of the proxies in --proxy-allow-from",
    "proxy-header": "the connection did not begin with a valid PROXY header",
    "service": "the service's factory built no protocol, or failed",
}

_log = Logger(namespace="sockservices")

_ENDS: dict[type[BaseException], Reason] = {
    ConnectionDone: "closed",
    ConnectionLost: "lost",
    ConnectionAborted: "aborted",
}


class Source:
    """The IPv4 address, or network of IPv6 addresses, that a peer is counted under."""

    __slots__ = ("__weakref__", "live")

    def __init__(self) -> None:
        self.live = 0
        """The number of its live connections, if they are counted."""


@attrs.define(eq=False, weakref_slot=False)
class Connection:
    """One connection, live or ended."""

    id: int
    """A number that counts up from 1."""
    service: str
    """The name of the service."""
    listener: str
    """The endpoint description of the listener that accepted it."""
    opened: float
    """When it was accepted, in seconds of ``time.monotonic``."""
    transport: Any
    """Its transport, which counts its bytes."""
    protocol: Any = None
    """The service's protocol; ``None`` before it is built and after the connection has ended."""
    cut: Reason | None = None
    """The reason why we ended it, if we did."""
    detail: str | None = None
    """What happened, in words, if more is known than the reason tells."""
    layers: Layers | None = None
    """The layers between its transport and its protocol, if they read from the peer first."""
    deadline: IDelayedCall | None = None
    """The timer that ends it if its header, handshake or last delivery takes too long."""
    source: Source | None = None
    """The source it is counted under, if connections are counted by source."""
    heard: int = 0
    """How many bytes had been read when ``activity`` last looked."""
    taken: int = 0
    """How many of the sent bytes the peer had taken then."""
    active: float = 0.0
    """When ``activity`` last found the peer active, a time like ``opened``."""

    @property
    def peer(self) -> IAddress:
        """The peer's address."""
        address: IAddress = self.transport.getPeer()
        return address

    @property
    def local(self) -> IAddress | None:
        """Our address while it is live, else ``None`` (asking the kernel at the end costs time)."""
        is_there = self.protocol is not None and getattr(self.transport, "connected", True)
        return self.transport.getHost() if is_there else None

    def end(self, reason: Reason) -> None:
        """Reset the connection for this reason, or for the one for which it is ending already."""
        if self.cut is None:
            self.cut = reason
        # A foreign transport may have no abortConnection.
        getattr(self.transport, "abortConnection", self.transport.loseConnection)()

    @property
    def since(self) -> float:
        """When it was accepted, in seconds since 1970."""
        return time() - (monotonic() - self.opened)

    @property
    def bytes_in(self) -> int:
        """Bytes read so far, encrypted if it uses TLS; 0 if the transport does not count them."""
        return int(getattr(self.transport, "bytes_in", 0))

    @property
    def bytes_out(self) -> int:
        """Bytes sent so far, like ``bytes_in``."""
        return int(getattr(self.transport, "bytes_out", 0))


@attrs.frozen
class Opened:
    """The event that a connection was admitted."""

    connection: Connection
    """The connection."""


@attrs.frozen
class Refused:
    """The event that a connection was closed before it reached the service."""

    service: str
    """The name of the service."""
    listener: str
    """The endpoint description of the listener."""
    peer: IAddress
    """The peer's address."""
    reason: Reason
    """Why it was refused."""


@attrs.frozen
class Closed:
    """The event that a connection has ended."""

    connection: Connection
    """The connection."""
    reason: str
    """A ``Reason``, or the name of the exception that ended it."""
    seconds: float
    """How long it was open, in seconds."""


Event: TypeAlias = Opened | Refused | Closed


@attrs.define
class Totals:
    """The counts since the start."""

    opened: int = 0
    """Connections that were admitted."""
    closed: Counter[str] = attrs.Factory(Counter)
    """Connections that have ended, by reason."""
    refused: Counter[str] = attrs.Factory(Counter)
    """Connections and datagrams that were refused, by reason."""
    bytes_in: int = 0
    """Bytes that were read, in connections and datagrams."""
    bytes_out: int = 0
    """Bytes that were sent."""
    datagrams: int = 0
    """Datagrams that reached the service."""
    truncated: int = 0
    """Those of them that were truncated because they were larger than the limit."""
    unsent: int = 0
    """Datagrams that could not be sent, as far as the kernel reports."""
    unanswered: int = 0
    """Answers not sent, because the address may be forged or its owner would answer in turn."""
    dropped_by_kernel: int = 0
    """Datagrams lost because the receive buffer was full, if the kernel reports it (Linux)."""
    socket_errors: int = 0
    """Errors of listening sockets after which the service went on, such as ICMP messages."""


class DatagramPort(Protocol):
    """The counters of a datagram listener."""

    datagrams_received: int
    datagrams_truncated: int
    datagrams_dropped: int
    datagrams_unanswered: int
    bytes_in: int
    bytes_out: int

    @property
    def dropped_by_kernel(self) -> int:
        """Datagrams lost because its receive buffer was full."""


class Ledger:
    """The connections of one service.

    Parameters:
        service: the name of the service.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._ended = Totals()
        self.connections: dict[Any, Connection] = {}
        """The live connections by transport; read it only."""
        self._ids = itertools.count(1)
        self._subscribers: list[Callable[[Event], object]] = []
        self._watchers: list[Callable[[Connection], object]] = []
        self._datagram_ports: list[DatagramPort] = []
        self._report_refusal: Callable[[str, IAddress, Reason, str | None], object] | None = None
        self._report_cut: Callable[[Connection, Reason], object] | None = None

    @property
    def live(self) -> int:
        """The number of live connections."""
        return len(self.connections)

    def __contains__(self, transport: Any) -> bool:
        """Return whether the connection of a transport is live."""
        return transport in self.connections

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over a copy of the live connections, oldest first."""
        return iter(list(self.connections.values()))

    @property
    def totals(self) -> Totals:
        """The counts from the start until now."""
        ended = self._ended
        found = attrs.evolve(ended, closed=Counter(ended.closed), refused=Counter(ended.refused))
        for connection in self.connections.values():
            found.bytes_in += connection.bytes_in
            found.bytes_out += connection.bytes_out
        for port in self._datagram_ports:
            _add(port, found)
        return found

    def subscribe(self, subscriber: Callable[[Event], object]) -> Callable[[], None]:
        """Call a function with each event; return a function that ends the subscription."""
        return _listed(subscriber, self._subscribers)

    def watch(self, watcher: Callable[[Connection], object]) -> Callable[[], None]:
        """Call a function with each connection that begins or ends; return one that ends this."""
        return _listed(watcher, self._watchers)

    def report_to(
        self,
        refusal: Callable[[str, IAddress, Reason, str | None], object],
        cut: Callable[[Connection, Reason], object],
    ) -> None:
        """Call functions with each refusal and each cut, without the cost of an event.

        Parameters:
            refusal: called with the listener, the peer, the reason, and what is known beyond it.
            cut: called with a connection that its peer did not end, and the reason.
        """
        self._report_refusal, self._report_cut = refusal, cut

    def enter(self, listener: str, transport: Any) -> Connection:
        """Enter a connection that the service may still refuse."""
        connection = Connection(next(self._ids), self._service, listener, monotonic(), transport)
        self.connections[transport] = connection
        if self._watchers:
            self._tell_watchers(connection)
        return connection

    def open(self, transport: Any, protocol: Any) -> Connection:
        """Record the protocol that the service has built for a connection."""
        connection = self.connections[transport]
        connection.protocol = protocol
        self._ended.opened += 1
        if self._subscribers:
            self._tell(Opened(connection))
        return connection

    def of(self, transport: Any) -> Connection:
        """Return the live connection of a transport."""
        return self.connections[transport]

    def refuse(
        self, listener: str, peer: IAddress, reason: Reason, detail: str | None = None
    ) -> None:
        """Record a refused connection or datagram."""
        self._ended.refused[reason] += 1
        if self._report_refusal is not None:
            self._report_refusal(listener, peer, reason, detail)
        if self._subscribers:
            self._tell(Refused(self._service, listener, peer, reason))

    def survive(self) -> None:
        """Record an error of a listening socket."""
        self._ended.socket_errors += 1

    def close(self, transport: Any, why: Failure, failed: Reason | None = None) -> Connection:
        """Record the end of a connection, or its refusal if it never reached the service.

        Parameters:
            transport: its transport.
            why: why the transport has ended.
            failed: the reason why it could not be used, if nobody has cut it.
        """
        connection = self.connections.pop(transport)
        was_open = connection.protocol is not None
        connection.protocol = None
        if connection.source is not None:
            connection.source.live -= 1
        ended = self._ended
        ended.bytes_in += connection.bytes_in
        ended.bytes_out += connection.bytes_out
        cut = connection.cut or failed
        if was_open:
            kind: Any = type(why.value)
            reason = cut or _ENDS.get(kind, kind.__name__)
            ended.closed[reason] += 1
            if cut is not None and self._report_cut is not None:
                self._report_cut(connection, cut)
            if self._subscribers:
                self._tell(Closed(connection, reason, monotonic() - connection.opened))
        else:
            reason = cut or "proxy-header"
            self.refuse(connection.listener, connection.peer, reason, connection.detail)
        if self._watchers:
            self._tell_watchers(connection)
        return connection

    def add_port(self, port: DatagramPort) -> None:
        """Include the live counters of a datagram listener in the totals."""
        self._datagram_ports.append(port)

    def remove_port(self, port: DatagramPort) -> None:
        """Add the final counters of a closed datagram listener to the totals."""
        if port in self._datagram_ports:
            self._datagram_ports.remove(port)
            _add(port, self._ended)

    def _tell_watchers(self, connection: Connection) -> None:
        for watcher in list(self._watchers):
            watcher(connection)

    def _tell(self, event: Event) -> None:
        for subscriber in list(self._subscribers):
            try:
                subscriber(event)
            except Exception:
                _log.failure("a subscriber of the ledger failed")


def _listed(call: Any, calls: list[Any]) -> Callable[[], None]:
    calls.append(call)

    def forget() -> None:
        if call in calls:
            calls.remove(call)

    return forget


def _add(port: DatagramPort, to: Totals) -> None:
    to.datagrams += port.datagrams_received
    to.truncated += port.datagrams_truncated
    to.unsent += port.datagrams_dropped
    to.unanswered += port.datagrams_unanswered
    to.dropped_by_kernel += port.dropped_by_kernel
    to.bytes_in += port.bytes_in
    to.bytes_out += port.bytes_out
