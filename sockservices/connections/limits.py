"""Guards: whom to let in, how many at a time, and how fast."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import monotonic
from typing import Any, Literal
from weakref import WeakValueDictionary

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from sockservices.connections.ledger import Connection, Reason
from sockservices.connections.networks import (
    Address,
    Network,
    Networks,
    address,
    network,
    networks_in,
)
from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.connections.rates import Rate, Rates, to_rate
from sockservices.converters import one_of, readable_file, whole_number
from sockservices.errors import ArgumentName, SettingError
from sockservices.settings import setting
from sockservices.transports.credentials import credentials_of, group_id, user_id

AtLimit = Literal["refuse", "wait"]

_MOST_KNOWN = 1024  # addresses that need not be read again


def _file_of_networks(value: str) -> str:
    path = readable_file(value)
    networks_in(path)
    return path


_COUNT = whole_number(least=1)
_PER_SOURCE = ("max_per_source", "rate_per_source")


@attrs.frozen
class Limits(Part):
    """Whom to admit, how many at a time, and how fast.

    A peer's *source* is its IPv4 address, or the network of its IPv6 address.
    """

    heading = "Limits"

    max_connections: int | None = setting(
        default=None,
        converter=_COUNT,
        listener="stream",
        help="Allow at most this many connections at a time.",
    )
    at_limit: AtLimit = setting(
        default="refuse",
        converter=one_of("refuse", "wait"),
        unit="refuse|wait",
        needs="max_connections",
        help="At --max-connections, close new connections ('refuse') or let them wait in the "
        "backlog ('wait').",
    )
    max_per_source: int | None = setting(
        default=None,
        converter=_COUNT,
        listener="stream",
        help="Allow at most this many connections at a time from one source: an IPv4 address, "
        "or an IPv6 network of --ipv6-prefix bits.",
    )
    rate: Rate | None = setting(
        default=None,
        converter=to_rate,
        unit="count/seconds",
        help="Allow at most so many new connections, and datagrams, in any so many seconds, "
        "as in 100/60.",
    )
    rate_per_source: Rate | None = setting(
        default=None, converter=to_rate, unit="count/seconds", help="The same for one source."
    )
    ipv6_prefix: int = setting(
        default=64,  # what a customer gets: RFC 6177
        converter=whole_number(1, 128),
        unit="bits",
        needs=_PER_SOURCE,
        help="Count IPv6 addresses that share this many leading bits as one source.",
    )
    exempt: Sequence[Network] = setting(
        converter=network,
        unit="network",
        repeated=True,
        needs=_PER_SOURCE,
        help="Do not apply the limits for one source to this network.",
    )
    allow: Sequence[Network] = setting(
        converter=network,
        unit="network",
        repeated=True,
        help="Admit this network, as in 192.0.2.0/24; addresses that no --allow names are refused.",
    )
    deny: Sequence[Network] = setting(
        converter=network,
        unit="network",
        repeated=True,
        help="Refuse this network. If --allow also matches an address, the longer prefix wins.",
    )
    allow_file: Sequence[str] = setting(
        converter=_file_of_networks,
        unit="path",
        repeated=True,
        help="Admit the networks in this file, one on each line. SIGHUP reads it again.",
    )
    deny_file: Sequence[str] = setting(
        converter=_file_of_networks,
        unit="path",
        repeated=True,
        help="Refuse the networks in this file, like --allow-file.",
    )
    allow_user: Sequence[int] = setting(
        converter=user_id,
        unit="user",
        repeated=True,
        listener="Unix stream",
        help="Admit this user (name or number) on Unix sockets, and refuse others.",
    )
    allow_group: Sequence[int] = setting(
        converter=group_id,
        unit="group",
        repeated=True,
        listener="Unix stream",
        help="Admit members of this group (name or number), like --allow-user.",
    )
    max_write_buffer: int | None = setting(
        default=None,
        converter=_COUNT,
        unit="bytes",
        listener="stream",
        help="Reset a connection when more than this many bytes wait because its peer does not "
        "read.",
    )

    def begin(self, context: Context) -> Guards:
        """See ``Part.begin``."""
        return Guards(self, context)

    def objection(self, listener: Any) -> str | None:
        """See ``Part.objection``."""
        asks_for_users = bool(self.allow_user or self.allow_group)
        if asks_for_users and listener.kind == "datagram":
            return "is for datagrams: users and groups can be told of streams only"
        return None


_OF_THE_INTERNET = (IPv4Address, IPv6Address)


class _Source:
    """Where a peer counts: its IPv4 address, or the network of its IPv6 address."""

    __slots__ = ("__weakref__", "live")

    def __init__(self) -> None:
        self.live = 0  # connections


@attrs.frozen
class _Known:
    """What the guards know of an address."""

    is_admitted: bool
    source: _Source | None
    limited: _Source | None
    """The same, if the limits per source apply there."""


_NOBODY = _Known(True, None, None)  # on a Unix socket: networks are of the Internet


class Guards(RunningPart[Limits]):
    """Says of each connection and each datagram whether it is let in.

    Parameters:
        limits: what to hold to.
        context: where it runs; its ledger knows who is in.
        clock: the time in seconds; only its differences matter.

    Raises ``SettingError`` for a file of networks that cannot be read or understood.
    """

    def __init__(
        self, limits: Limits, context: Context, clock: Callable[[], float] = monotonic
    ) -> None:
        self._clock = clock
        self._ledger = context.ledger
        self._connected = context.ledger.connections
        # As long as anybody knows them: connections, rates, and what is known of addresses.
        self._sources: WeakValueDictionary[Any, _Source] = WeakValueDictionary()
        self._connections, self._datagrams = Rates(), Rates()
        super().__init__(limits, context)

    def prepare(self, settings: Limits) -> tuple[Networks, Networks]:
        """See ``RunningPart.prepare``."""
        allow, deny = (
            Networks([*networks, *(each for path in paths for each in _read(argument, path))])
            for argument, networks, paths in (
                ("allow_file", settings.allow, settings.allow_file),
                ("deny_file", settings.deny, settings.deny_file),
            )
        )
        return allow, deny

    def apply(self, settings: Limits, prepared: tuple[Networks, Networks]) -> None:
        """See ``RunningPart.apply``; connections that are not allowed any more are reset."""
        self.settings = limits = settings
        self._allow, self._deny = prepared
        self._only_allowed = bool(limits.allow or limits.allow_file)
        self._exempt = Networks(limits.exempt)
        asks_about_networks = self._only_allowed or bool(limits.deny or limits.deny_file)
        per_source = (limits.max_per_source, limits.rate_per_source) != (None, None)
        # To read an address takes longer than all else that is asked.
        self._known: Callable[[str], _Known] = (
            lru_cache(maxsize=_MOST_KNOWN)(self._look_up)
            if asks_about_networks or per_source
            else lambda _host: _NOBODY
        )
        for rates in (self._connections, self._datagrams):
            rates.hold_to(limits.rate, limits.rate_per_source)
        has_rates = (limits.rate, limits.rate_per_source) != (None, None)
        waits = limits.at_limit == "wait"
        counts = limits.max_per_source is not None
        asks_for_users = bool(limits.allow_user or limits.allow_group)
        has_most = limits.max_connections is not None
        # What is asked of each connection is kept where it takes the least time to ask.
        self._most = limits.max_connections or sys.maxsize
        self._most_per_source = limits.max_per_source or sys.maxsize
        self.ask_socket = self._refuses_socket if has_most or asks_for_users else None
        asks_about_peers = asks_about_networks or per_source or has_rates
        self.ask_peer = self._refuses_peer if asks_about_peers else None
        self.ask_datagram = self._refuses_datagram if asks_about_networks or has_rates else None
        self.entered = self._entered if waits else None
        self.opened = self._count if counts else None
        self.closed = self._closed if waits or counts else None
        self._apply_to_the_live()

    def _apply_to_the_live(self) -> None:
        for source in self._sources.values():
            source.live = 0
        for connection in self._ledger:
            connection.source = None
            if connection.protocol is None:  # it is not known yet who is behind the proxy
                continue
            peer = connection.peer
            if self.opened is not None:
                self._count(connection, peer)
            if (reason := self._refuses_live(peer, connection.transport)) is not None:
                connection.end(reason)
        self._wait_while_full()

    def listens(self, port: Any) -> None:
        """See ``RunningPart.listens``."""
        port.max_unsent = self.settings.max_write_buffer
        port.on_overflow = self._overflown

    @property
    def files(self) -> str | None:
        """See ``RunningPart.files``."""
        return "networks" if self.settings.allow_file or self.settings.deny_file else None

    # Each connection

    def _refuses_socket(self, peer: Any, accepted: Any) -> Reason | None:
        if len(self._connected) >= self._most:
            return "max-connections"
        return self._refuses_user(peer, accepted) if isinstance(peer, UNIXAddress) else None

    def _refuses_user(self, peer: Any, accepted: Any) -> Reason | None:
        limits = self.settings
        if not (limits.allow_user or limits.allow_group):
            return None
        try:
            who = credentials_of(accepted)
        except (AttributeError, OSError):  # a foreign transport, or one that is closed
            return "user"
        is_allowed = who.uid in limits.allow_user or not who.gids.isdisjoint(limits.allow_group)
        return None if is_allowed else "user"

    def _refuses_live(self, peer: Any, transport: Any) -> Reason | None:
        """Return why a connection that lives is not allowed any more."""
        if not self._who(peer).is_admitted:
            return "denied"
        if not isinstance(peer, UNIXAddress):
            return None
        return self._refuses_user(peer, getattr(transport, "getHandle", lambda: None)())

    def _refuses_peer(self, peer: Any) -> Reason | None:
        who = self._known(peer.host) if isinstance(peer, _OF_THE_INTERNET) else _NOBODY
        if not who.is_admitted:
            return "denied"
        source = who.limited
        if source is not None and source.live >= self._most_per_source:
            return "max-per-source"
        return self._connections.refusal(source, self._clock())

    def _refuses_datagram(self, peer: Any) -> Reason | None:
        who = self._who(peer)
        return (
            "denied" if not who.is_admitted else self._datagrams.refusal(who.limited, self._clock())
        )

    def _entered(self, _connection: Connection) -> None:
        self._wait_while_full()

    def _overflown(self, transport: Any) -> None:
        self._ledger.of(transport).end("max-write-buffer")

    def _count(self, connection: Connection, peer: Any) -> None:
        if isinstance(peer, _OF_THE_INTERNET):
            source = connection.source = self._known(peer.host).source
            if source is not None:
                source.live += 1

    def _closed(self, connection: Connection) -> None:
        source = connection.source
        if source is not None:
            source.live -= 1
        if self.entered is not None:
            self._wait_while_full()

    # What is known

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return len(self._connected) >= self._most

    def _wait_while_full(self) -> None:
        if self.settings.at_limit == "wait" and self.is_full:
            self.context.pause("full")
        else:
            self.context.resume("full")

    def _who(self, peer: Any) -> _Known:
        return self._known(peer.host) if isinstance(peer, _OF_THE_INTERNET) else _NOBODY

    def _look_up(self, host: str) -> _Known:
        found = address(host)
        if found is None:
            return _NOBODY
        is_exempt = self._exempt.specificity(found) >= 0
        ignored = found.max_prefixlen - self.settings.ipv6_prefix if found.version == 6 else 0
        key = (found.version, int(found) >> ignored, ignored)
        source = self._sources.setdefault(key, _Source())
        return _Known(self._admits(found), source, None if is_exempt else source)

    def _admits(self, found: Address) -> bool:
        denied = self._deny.specificity(found)
        allowed = self._allow.specificity(found)
        if allowed < 0 and denied < 0:
            return not self._only_allowed
        return allowed > denied


def _read(argument: str, path: str) -> list[Network]:
    try:
        return networks_in(path)
    except ValueError as error:
        raise SettingError(ArgumentName(argument), f": {error}") from None
