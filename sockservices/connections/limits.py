"""Limits on which peers are admitted, how many at a time, and how fast."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from time import monotonic
from typing import Any, Literal
from weakref import WeakValueDictionary

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from sockservices.connections.ledger import Connection, Reason, Source
from sockservices.connections.networks import (
    Address,
    Network,
    Networks,
    address,
    network,
)
from sockservices.connections.parts import Context, Part, RunningPart, Steps
from sockservices.connections.rates import Rate, Rates, to_rate
from sockservices.converters import group_id, one_of, readable_file, user_id, whole_number
from sockservices.errors import ArgumentName, SettingError
from sockservices.settings import setting
from sockservices.transports.credentials import can_be_asked, credentials_of

AtLimit = Literal["refuse", "wait"]

_MOST_KNOWN = 1024  # addresses in the cache


def _file_of_networks(value: str) -> str:
    path = readable_file(value)
    for _ in Networks().read(path):
        pass
    return path


def _of_peers(convert: Callable[[Any], int]) -> Callable[[Any], int]:
    """Return a converter for the users or groups of peers, on systems that can tell them."""

    def converted(value: Any) -> int:
        if not can_be_asked:
            raise ValueError("this system cannot tell the user of a Unix peer")
        return convert(value)

    return converted


_COUNT = whole_number(least=1)
_PER_SOURCE = ("max_per_source", "rate_per_source")


@attrs.frozen
class Limits(Part):
    """Limits on which peers are admitted, how many at a time, and how fast.

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
        help="Allow at most COUNT new connections, and as many datagrams, in any SECONDS seconds, "
        "such as 100/60.",
    )
    rate_per_source: Rate | None = setting(
        default=None, converter=to_rate, unit="count/seconds", help="Like --rate, for each source."
    )
    ipv6_prefix: int = setting(
        default=64,  # the smallest network that a site gets: RFC 6177
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
        help="Do not apply the limits per source to this network.",
    )
    allow: Sequence[Network] = setting(
        converter=network,
        unit="network",
        repeated=True,
        help="Admit this network, such as 192.0.2.0/24. Refuse addresses that match no --allow.",
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
        help="Admit the networks in this file, one per line. SIGHUP reads it again.",
    )
    deny_file: Sequence[str] = setting(
        converter=_file_of_networks,
        unit="path",
        repeated=True,
        help="Refuse the networks in this file, like --allow-file.",
    )
    allow_user: Sequence[int] = setting(
        converter=_of_peers(user_id),
        unit="user",
        repeated=True,
        listener="Unix stream",
        help="Admit this user (name or ID) on Unix sockets, and refuse others.",
    )
    allow_group: Sequence[int] = setting(
        converter=_of_peers(group_id),
        unit="group",
        repeated=True,
        listener="Unix stream",
        help="Admit members of this group (name or ID), like --allow-user.",
    )
    max_write_buffer: int | None = setting(
        default=None,
        converter=_COUNT,
        unit="bytes",
        listener="stream",
        help="Reset a connection when more than this many bytes wait to be sent because its peer "
        "does not read.",
    )

    @property
    def are_by_address(self) -> bool:
        """Whether any of them depends on the address of a peer."""
        networks = self.allow or self.deny or self.allow_file or self.deny_file
        return bool(networks) or (self.max_per_source, self.rate_per_source) != (None, None)

    def begin(self, context: Context) -> RunningLimits:
        """See ``Part.begin``."""
        return RunningLimits(self, context)

    def objection(self, listener: Any) -> str | None:
        """See ``Part.objection``."""
        if listener.reads_proxy_headers and self.are_by_address:
            return (
                "reads the addresses of clients after the limits by address have been applied; "
                "use --proxy-protocol instead of haproxy:"
            )
        asks_for_users = bool(self.allow_user or self.allow_group)
        if asks_for_users and listener.kind == "datagram":
            return "is for datagrams, but users and groups are known for streams only"
        return None


_OF_THE_INTERNET = (IPv4Address, IPv6Address)


@attrs.frozen
class _Known:
    """The cached facts about an address."""

    is_admitted: bool
    source: Source | None
    limited: Source | None
    """The source, if the limits per source apply to it."""


_NOBODY = _Known(True, None, None)  # for Unix sockets, which belong to no network


class RunningLimits(RunningPart[Limits]):
    """The part that decides whether to admit each connection and each datagram.

    Parameters:
        limits: the limits to enforce.
        context: the surroundings; its ledger has the live connections.
        clock: returns the time in seconds; only differences matter.

    Raises ``SettingError`` if a file of networks cannot be read or is not valid.
    """

    def __init__(
        self, limits: Limits, context: Context, clock: Callable[[], float] = monotonic
    ) -> None:
        self._clock = clock
        self._ledger = context.ledger
        self._connected = context.ledger.connections
        # Sources live as long as a connection, a rate or the cache refers to them.
        self._sources: WeakValueDictionary[Any, Source] = WeakValueDictionary()
        self._connections, self._datagrams = Rates(), Rates()
        self._forget: Callable[[], None] = lambda: None  # set while it waits for a place
        self._asked: Any = None  # the last peer asked about; _asked_known has its facts
        self._asked_known = _NOBODY
        super().__init__(limits, context)

    def prepare_in_steps(self, settings: Limits) -> Steps[tuple[Networks, Networks]]:
        """See ``RunningPart.prepare_in_steps``."""
        allow = yield from _networks("allow_file", settings.allow, settings.allow_file)
        deny = yield from _networks("deny_file", settings.deny, settings.deny_file)
        return allow, deny

    def apply(self, settings: Limits, prepared: tuple[Networks, Networks]) -> None:
        """See ``RunningPart.apply``; connections that are no longer allowed are reset."""
        self.settings = limits = settings
        self._allow, self._deny = prepared
        self._only_allowed = bool(limits.allow or limits.allow_file)
        self._exempt = Networks(limits.exempt)
        asks_about_networks = self._only_allowed or bool(limits.deny or limits.deny_file)
        # Parsing an address takes longer than all other checks.
        self._known: Callable[[str], _Known] = (
            lru_cache(maxsize=_MOST_KNOWN)(self._look_up)
            if limits.are_by_address
            else lambda _host: _NOBODY
        )
        for rates in (self._connections, self._datagrams):
            rates.hold_to(limits.rate, limits.rate_per_source)
        has_rates = self._has_rates = (limits.rate, limits.rate_per_source) != (None, None)
        waits = limits.at_limit == "wait"
        counts = limits.max_per_source is not None
        asks_for_users = bool(limits.allow_user or limits.allow_group)
        has_most = limits.max_connections is not None
        # The checks of each connection read plain attributes, which is fastest.
        self._most = limits.max_connections or sys.maxsize
        self._most_per_source = limits.max_per_source or sys.maxsize
        self.ask_socket = self._refuses_socket if asks_for_users else None
        self.ask_place = self._refuses_place if has_most else None
        asks_about_peers = has_most or limits.are_by_address or has_rates
        self.ask_peer = self._refuses_peer if asks_about_peers else None
        self.ask_datagram = self._refuses_datagram if asks_about_networks or has_rates else None
        self.entered = self._entered if waits else None
        self.opened = self._opened if waits or counts else None
        self._apply_to_the_live()

    def _apply_to_the_live(self) -> None:
        for counted in self._sources.values():
            counted.live = 0
        for connection in self._ledger:
            connection.source = None
            if connection.protocol is None:  # the peer behind the proxy is not known yet
                continue
            peer = connection.peer
            source = connection.source = self._who(peer).source
            if source is not None:
                source.live += 1
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

    def _refuses_place(self) -> Reason | None:
        return "max-connections" if self.is_full else None

    def _refuses_socket(self, peer: IAddress, accepted: Any) -> Reason | None:
        if not isinstance(peer, UNIXAddress):
            return None
        return self._refuses_place() or self._refuses_user(accepted)

    def _refuses_user(self, accepted: Any) -> Reason | None:
        try:
            who = credentials_of(accepted)
        except (AttributeError, OSError):  # a foreign transport, or a closed one
            return "user"
        limits = self.settings
        is_allowed = who.uid in limits.allow_user or not who.gids.isdisjoint(limits.allow_group)
        return None if is_allowed else "user"

    def _refuses_live(self, peer: IAddress, transport: Any) -> Reason | None:
        """Return why a live connection is no longer allowed, or ``None``."""
        if not self._who(peer).is_admitted:
            return "denied"
        if self.ask_socket is None:
            return None
        handle = getattr(transport, "getHandle", lambda: None)()
        # The peer may be the one that a proxy's header names; the user is the proxy's.
        family = getattr(handle, "family", None)
        is_unix = isinstance(peer, UNIXAddress) if family is None else family == socket.AF_UNIX
        return self._refuses_user(handle) if is_unix else None

    def _refuses_peer(self, peer: IAddress, has_place: bool) -> Reason | None:
        who = self._known(peer.host) if isinstance(peer, _OF_THE_INTERNET) else _NOBODY
        self._asked, self._asked_known = peer, who
        if not who.is_admitted:
            return "denied"
        if not has_place and len(self._connected) >= self._most:
            return "max-connections"
        source = who.limited
        if source is not None and source.live >= self._most_per_source:
            return "max-per-source"
        return self._connections.refusal(source, self._clock()) if self._has_rates else None

    def _refuses_datagram(self, peer: IAddress) -> Reason | None:
        who = self._who(peer)
        return (
            "denied" if not who.is_admitted else self._datagrams.refusal(who.limited, self._clock())
        )

    def _entered(self, _connection: Connection) -> None:
        if self.is_full:
            self._wait_while_full()

    def _overflown(self, transport: Any) -> None:
        self._ledger.of(transport).end("max-write-buffer")

    def _opened(self, connection: Connection, peer: IAddress) -> None:
        who = self._asked_known if self._asked is peer else self._who(peer)
        source = connection.source = who.source
        if source is not None:
            source.live += 1
        if len(self._connected) >= self._most:
            self._wait_while_full()

    # What is known

    @property
    def is_full(self) -> bool:
        """Whether the limit of live connections is reached."""
        return len(self._connected) >= self._most

    def _wait_while_full(self, _connection: Connection | None = None) -> None:
        self._forget()
        if self.settings.at_limit == "wait" and self.is_full:
            self.context.pause("full")
            self._forget = self._ledger.watch(self._wait_while_full)
        else:
            self.context.resume("full")

    def _who(self, peer: IAddress) -> _Known:
        return self._known(peer.host) if isinstance(peer, _OF_THE_INTERNET) else _NOBODY

    def _look_up(self, host: str) -> _Known:
        found = address(host)
        if found is None:
            return _NOBODY
        is_exempt = self._exempt.specificity(found) >= 0
        ignored = found.max_prefixlen - self.settings.ipv6_prefix if found.version == 6 else 0
        key = (found.version, int(found) >> ignored, ignored)
        source = self._sources.setdefault(key, Source())
        return _Known(self._admits(found), source, None if is_exempt else source)

    def _admits(self, found: Address) -> bool:
        denied = self._deny.specificity(found)
        allowed = self._allow.specificity(found)
        if allowed < 0 and denied < 0:
            return not self._only_allowed
        return allowed > denied


def _networks(argument: str, networks: Iterable[Network], paths: Iterable[str]) -> Steps[Networks]:
    found = Networks(networks)
    for path in paths:
        try:
            yield from found.read(path)
        except ValueError as error:
            raise SettingError(ArgumentName(argument), f": {error}") from None
    return found
