"""The ledger: which connections there are, and what became of those that were.

The one place that counts. Limits, the stop, logs and metrics read it.
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

Reason: TypeAlias = str
"""Why a connection has ended, or a connection or a datagram was refused: one of ``REASONS``."""

REASONS: dict[str, str] = {
    "closed": "it ended in order, by either side",
    "lost": "the network or the peer's system broke it off",
    "aborted": "the service broke it off",
    "stop": "it was left when the time of a stop was over (--graceful-timeout, --flush)",
    "denied": "its network is not admitted (--allow, --deny), or is not any more since SIGHUP",
    "user": "its user is not admitted (--allow-user, --allow-group)",
    "max-connections": "there were as many as there may be",
    "max-per-source": "there were as many as there may be from its source",
    "rate": "too many came in the time of --rate",
    "rate-per-source": "too many came from its source in the time of --rate-per-source",
    "idle-timeout": "its peer sent nothing for too long",
    "max-time": "it lasted too long",
    "max-write-buffer": "its peer did not read, and too much waited to be sent",
    "handshake-timeout": "its TLS handshake, or its PROXY header, took too long",
    "proxy-allow-from": "it did not come from a proxy, as it has to with --proxy-protocol",
    "proxy-header": "it did not begin with a PROXY header that can be understood",
    "service": "the service did not take it: its factory built no protocol, or failed",
}

_log = Logger(namespace="sockservices")

_ENDS: dict[type[BaseException], Reason] = {
    ConnectionDone: "closed",
    ConnectionLost: "lost",
    ConnectionAborted: "aborted",
}


@attrs.define(eq=False, weakref_slot=False)
class Connection:
    """One connection, live or ended."""

    id: int
    """Its number, from 1."""
    service: str
    """The name of the service."""
    listener: str
    """The endpoint description where it came in."""
    opened: float
    """When it was accepted, in seconds of ``time.monotonic``."""
    transport: Any
    """What it came in on; its bytes are counted there."""
    protocol: Any = None
    """The service's protocol; ``None`` before there is one, and when it has ended."""
    cut: Reason | None = None
    """Why we end it, where we do."""
    deadline: IDelayedCall | None = None
    """What ends it if its header or handshake takes too long."""
    source: Any = None
    """Where it counts for the limits per source, if it does."""

    @property
    def peer(self) -> IAddress:
        """The peer's address."""
        address: IAddress = self.transport.getPeer()
        return address

    @property
    def local(self) -> IAddress | None:
        """Our address, as long as it is live; to ask the kernel for it when it ends costs time."""
        is_there = self.protocol is not None and getattr(self.transport, "connected", True)
        return self.transport.getHost() if is_there else None

    def end(self, reason: Reason) -> None:
        """Cut it, and say why; what we have cut already stays as it is."""
        if self.cut is None:
            self.cut = reason
            # A foreign transport may know only the slower way.
            getattr(self.transport, "abortConnection", self.transport.loseConnection)()

    @property
    def since(self) -> float:
        """When it was accepted, in seconds since 1970."""
        return time() - (monotonic() - self.opened)

    @property
    def bytes_in(self) -> int:
        """Bytes read so far; of TLS the encrypted ones, 0 where the transport does not count."""
        return int(getattr(self.transport, "bytes_in", 0))

    @property
    def bytes_out(self) -> int:
        """Bytes sent so far, as ``bytes_in``."""
        return int(getattr(self.transport, "bytes_out", 0))

    @property
    def last_heard(self) -> float:
        """When the peer's last bytes were read (or it was accepted), as ``opened``."""
        last: float | None = getattr(self.transport, "last_read", None)
        return self.opened if last is None else last


@attrs.frozen
class Opened:
    """A connection was admitted."""

    connection: Connection
    """Which one."""


@attrs.frozen
class Refused:
    """A connection was closed before the service knew of it."""

    service: str
    """The name of the service."""
    listener: str
    """The endpoint description where it came."""
    peer: IAddress
    """Who it was."""
    reason: Reason
    """Why."""


@attrs.frozen
class Closed:
    """A connection has ended."""

    connection: Connection
    """Which one."""
    reason: str
    """A ``Reason``, or the name of the exception by which it ended."""
    seconds: float
    """How long it lived, in seconds."""


Event: TypeAlias = Opened | Refused | Closed


@attrs.define
class Totals:
    """What there has been since the start."""

    opened: int = 0
    """Connections that were admitted."""
    closed: Counter[str] = attrs.Factory(Counter)
    """Connections that have ended, by reason."""
    refused: Counter[str] = attrs.Factory(Counter)
    """Connections and datagrams, by reason."""
    bytes_in: int = 0
    """Bytes that were read, of connections and of datagrams."""
    bytes_out: int = 0
    """Bytes that were sent."""
    datagrams: int = 0
    """Those that the service has got."""
    truncated: int = 0
    """Those of them that were larger than it takes."""
    unsent: int = 0
    """Datagrams of the service that no peer has got, as far as the kernel tells."""
    unanswered: int = 0
    """Answers held back, as their sender's address may be forged, or would answer in turn."""
    dropped_by_kernel: int = 0
    """Datagrams that came when the receive buffer was full, where the kernel tells (Linux)."""


class DatagramPort(Protocol):
    """A listener for datagrams, as far as it counts."""

    datagrams_received: int
    datagrams_truncated: int
    datagrams_dropped: int
    datagrams_unanswered: int
    bytes_in: int
    bytes_out: int

    @property
    def dropped_by_kernel(self) -> int:
        """Datagrams that its receive buffer had no room for."""


class Ledger:
    """The connections of one service.

    Parameters:
        service: its name.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._ended = Totals()
        self.connections: dict[Any, Connection] = {}
        """The live connections by transport, for those who read only."""
        self._ids = itertools.count(1)
        self._subscribers: list[Callable[[Event], object]] = []
        self._watchers: list[Callable[[Connection], object]] = []
        self._datagram_ports: list[DatagramPort] = []

    @property
    def live(self) -> int:
        """How many connections there are."""
        return len(self.connections)

    def __contains__(self, transport: Any) -> bool:
        """Whether a transport's connection is one of the live."""
        return transport in self.connections

    def __iter__(self) -> Iterator[Connection]:
        """Go through the live connections, the oldest first, as they are now."""
        return iter(list(self.connections.values()))

    @property
    def totals(self) -> Totals:
        """What there has been since the start until now."""
        ended = self._ended
        found = attrs.evolve(ended, closed=Counter(ended.closed), refused=Counter(ended.refused))
        for connection in self.connections.values():
            found.bytes_in += connection.bytes_in
            found.bytes_out += connection.bytes_out
        for port in self._datagram_ports:
            _add(port, found)
        return found

    def subscribe(self, subscriber: Callable[[Event], object]) -> Callable[[], None]:
        """Call with each event from now on, until the function is called that is returned."""
        return _listed(subscriber, self._subscribers)

    def watch(self, watcher: Callable[[Connection], object]) -> Callable[[], None]:
        """Do the same with each connection that has come to be live, or has ceased to be."""
        return _listed(watcher, self._watchers)

    def enter(self, listener: str, transport: Any) -> Connection:
        """Enter a connection of which it is not known yet whether the service gets it."""
        connection = Connection(next(self._ids), self._service, listener, monotonic(), transport)
        self.connections[transport] = connection
        if self._watchers:
            self._tell_watchers(connection)
        return connection

    def open(self, transport: Any, protocol: Any) -> Connection:
        """Enter that the service has a connection, with the protocol that it has built."""
        connection = self.connections[transport]
        connection.protocol = protocol
        self._ended.opened += 1
        if self._subscribers:
            self._tell(Opened(connection))
        return connection

    def of(self, transport: Any) -> Connection:
        """Return the live connection of a transport."""
        return self.connections[transport]

    def refuse(self, listener: str, peer: IAddress, reason: Reason) -> None:
        """Enter one that was not let in."""
        self._ended.refused[reason] += 1
        if self._subscribers:
            self._tell(Refused(self._service, listener, peer, reason))

    def close(self, transport: Any, why: Failure) -> Connection:
        """Enter the end of a connection, or that the service never got it; return it."""
        connection = self.connections.pop(transport)
        was_open = connection.protocol is not None
        connection.protocol = None
        ended = self._ended
        ended.bytes_in += connection.bytes_in
        ended.bytes_out += connection.bytes_out
        if was_open:
            kind: Any = type(why.value)
            reason = connection.cut or _ENDS.get(kind, kind.__name__)
            ended.closed[reason] += 1
            if self._subscribers:
                self._tell(Closed(connection, reason, monotonic() - connection.opened))
        else:
            self.refuse(connection.listener, connection.peer, connection.cut or "proxy-header")
        if self._watchers:
            self._tell_watchers(connection)
        return connection

    def add_port(self, port: DatagramPort) -> None:
        """Let the totals have the figures of a listener for datagrams, as they will be."""
        self._datagram_ports.append(port)

    def remove_port(self, port: DatagramPort) -> None:
        """Let the totals have its figures as they are: it has closed."""
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
