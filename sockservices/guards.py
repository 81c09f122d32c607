"""Guards: whom to let in, how many at a time, and how fast."""

from __future__ import annotations

import contextlib
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import monotonic
from typing import Any, Literal

import attrs
from twisted.internet.address import IPv4Address, IPv6Address

from sockservices.converters import one_of, readable_file, some_seconds, whole_number
from sockservices.credentials import Credentials, group_id, user_id
from sockservices.ledger import Closed, Event, Ledger, Opened
from sockservices.networks import Address, Network, Networks, address, network, networks_in
from sockservices.parts import Part
from sockservices.reasons import Reason
from sockservices.settings import setting

AtLimit = Literal["refuse", "wait"]

# Of sources and their times, as many as this are remembered; of more, those heard of last.
_MOST_SOURCES = 1 << 16
_MOST_TIMES = 1 << 20
_MOST_KNOWN = 1024  # addresses that need not be read again


_MOST_IN_A_RATE = 1_000_000  # so many times are remembered


def _times(value: str | int) -> int:
    return whole_number(1, _MOST_IN_A_RATE)(value)


@attrs.frozen
class Rate:
    """At most so many in any so many seconds.

    Parameters:
        count: how many, from 1 to 1,000,000.
        seconds: in which time, more than 0.

    Raises ``ValueError``.
    """

    count: int = attrs.field(converter=_times)
    seconds: float = attrs.field(converter=some_seconds)

    def __str__(self) -> str:
        return f"{self.count}/{self.seconds:g}"


def _rate(value: str | Rate) -> Rate:
    """Convert ``100/60``, at most 100 in 60 seconds; raise ``ValueError`` for others."""
    if isinstance(value, Rate):
        return value
    parts = re.fullmatch(r"([0-9]+)/([0-9]+(?:\.[0-9]+)?)", value)
    if parts is not None:
        with contextlib.suppress(ValueError):
            return Rate(parts[1], parts[2])
    raise ValueError(f"{value!r} is not a rate, as 100/60 for 100 in 60 seconds")


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
        converter=_rate,
        unit="count/seconds",
        help="Allow at most so many new connections, and datagrams, in any so many seconds, "
        "as in 100/60.",
    )
    rate_per_source: Rate | None = setting(
        default=None, converter=_rate, unit="count/seconds", help="The same for one source."
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

    def objection(self, listener: Any) -> str | None:
        """See ``Part.objection``."""
        asks_for_users = bool(self.allow_user or self.allow_group)
        if asks_for_users and listener.kind == "datagram":
            return "is for datagrams: users and groups can be told of streams only"
        return None


NO_LIMITS = Limits()


_COUNTED = (Opened, Closed)
_OF_THE_INTERNET = (IPv4Address, IPv6Address)


@attrs.frozen
class _Known:
    """What the guards know of an address."""

    is_admitted: bool
    source: tuple[int, int] | None
    """Where it counts."""
    limited: tuple[int, int] | None
    """The same, if the limits per source apply there."""


_NOBODY = _Known(True, None, None)  # on a Unix socket: networks are of the Internet


class Guards:
    """Says of each newcomer whether it is let in.

    Parameters:
        limits: what to hold to.
        ledger: knows who is in.
        clock: the time in seconds; only its differences matter.

    Raises ``ValueError`` for a file of networks that cannot be read or understood.
    """

    def __init__(
        self, limits: Limits, ledger: Ledger, clock: Callable[[], float] = monotonic
    ) -> None:
        self._limits = limits
        self._ledger = ledger
        self._clock = clock
        self._exempt = Networks(limits.exempt)
        self._live: Counter[Any] = Counter()
        self._connections, self._datagrams = _Rates(limits), _Rates(limits)
        if limits.max_per_source is not None:
            ledger.subscribe(self._heard)
        self.reload()

    def reload(self) -> None:
        """Read the files of networks again.

        Raises ``ValueError`` if one cannot be used; what was before stays in force then.
        """
        limits = self._limits
        allow = [
            *limits.allow,
            *(each for path in limits.allow_file for each in networks_in(path)),
        ]
        deny = [*limits.deny, *(each for path in limits.deny_file for each in networks_in(path))]
        self._allow, self._deny = Networks(allow), Networks(deny)
        self._only_allowed = bool(limits.allow or limits.allow_file)
        # To read an address takes longer than all else that is asked of a newcomer.
        self._known: Callable[[str], _Known] = (
            lru_cache(maxsize=_MOST_KNOWN)(self._look_up)
            if self._asks_about_addresses
            else lambda _host: _NOBODY
        )

    def _look_up(self, host: str) -> _Known:
        found = address(host)
        if found is None:
            return _NOBODY
        is_exempt = self._exempt.specificity(found) >= 0
        ignored = found.max_prefixlen - self._limits.ipv6_prefix if found.version == 6 else 0
        source = (found.version, int(found) >> ignored)
        return _Known(self._admits(found), source, None if is_exempt else source)

    def _who(self, peer: Any) -> _Known:
        return self._known(peer.host) if isinstance(peer, _OF_THE_INTERNET) else _NOBODY

    @property
    def _asks_about_networks(self) -> bool:
        limits = self._limits
        return any((limits.allow, limits.allow_file, limits.deny, limits.deny_file))

    @property
    def _asks_about_addresses(self) -> bool:
        limits = self._limits
        of_sources = (limits.max_per_source, limits.rate_per_source)
        return self._asks_about_networks or of_sources != (None, None)

    @property
    def asks_about_datagrams(self) -> bool:
        """Whether any of the limits is one of datagrams."""
        rates = (self._limits.rate, self._limits.rate_per_source)
        return self._asks_about_networks or rates != (None, None)

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        most = self._limits.max_connections
        return most is not None and self._ledger.live >= most

    @property
    def lets_wait(self) -> bool:
        """Whether newcomers wait when it is full."""
        return self._limits.at_limit == "wait"

    def is_allowed(self, peer: Any) -> bool:
        """Whether the networks that are allowed and denied admit a peer (``IAddress``)."""
        return self._who(peer).is_admitted

    def _admits(self, found: Address) -> bool:
        denied = self._deny.specificity(found)
        allowed = self._allow.specificity(found)
        if allowed < 0 and denied < 0:
            return not self._only_allowed
        return allowed > denied

    @property
    def asks_for_users(self) -> bool:
        """Whether it matters who the peer on a Unix socket is."""
        return bool(self._limits.allow_user or self._limits.allow_group)

    def is_user_allowed(self, credentials: Credentials) -> bool:
        """Whether a process with these credentials may connect."""
        limits = self._limits
        return credentials.uid in limits.allow_user or not credentials.gids.isdisjoint(
            limits.allow_group
        )

    def refusal(self, peer: Any, is_live: bool = False) -> Reason | None:
        """Return why a newcomer is refused; ``None`` lets it in, and counts it.

        Parameters:
            peer: an ``IAddress``.
            is_live: whether it is one of the ledger's live connections already.
        """
        who = self._who(peer)
        if not who.is_admitted:
            return "denied"
        if self.is_full and not is_live:
            return "max-connections"
        most = self._limits.max_per_source
        if most is not None and who.limited is not None and self._live[who.limited] >= most:
            return "max-per-source"
        return self._connections.refusal(who.limited, self._clock())

    def datagram_refusal(self, peer: Any) -> Reason | None:
        """Return why a datagram is dropped; ``None`` lets it in, and counts it.

        Parameters:
            peer: an ``IAddress``.
        """
        who = self._who(peer)
        return (
            "denied" if not who.is_admitted else self._datagrams.refusal(who.limited, self._clock())
        )

    def _heard(self, event: Event) -> None:
        if isinstance(event, _COUNTED):
            source = self._who(event.connection.peer).source
            if source is not None:
                self._live[source] += 1 if isinstance(event, Opened) else -1
                if not self._live[source]:
                    del self._live[source]


class _Rates:
    """The rate of all and that of each source, of connections or of datagrams."""

    def __init__(self, limits: Limits) -> None:
        self._all = _Window(limits.rate)
        self._sources = _Windows(limits.rate_per_source)

    def refusal(self, source: Any, now: float) -> Reason | None:
        """Return why one more is too many; ``None`` counts it."""
        if not self._all.has_room(now):
            return "rate"
        if source is not None and not self._sources.enter(source, now):
            return "rate-per-source"
        self._all.enter(now)
        return None


class _Window:
    """Those of the last seconds."""

    def __init__(self, rate: Rate | None) -> None:
        self._rate = rate
        self.entered: deque[float] = deque(maxlen=rate.count if rate is not None else 0)

    def has_room(self, now: float) -> bool:
        rate, entered = self._rate, self.entered
        return rate is None or len(entered) < rate.count or now - entered[0] >= rate.seconds

    def enter(self, now: float) -> None:
        self.entered.append(now)


class _Windows:
    """The windows of many sources, as many as there may be; who was heard of last stays."""

    def __init__(self, rate: Rate | None) -> None:
        self._rate = rate
        self._windows: OrderedDict[Any, _Window] = OrderedDict()
        self._times = 0  # in all of them

    def enter(self, source: Any, now: float) -> bool:
        """Return whether there was room."""
        if self._rate is None:
            return True
        window = self._windows.get(source)
        if window is None:
            window = self._windows[source] = _Window(self._rate)
        else:
            self._windows.move_to_end(source)
        has_room = window.has_room(now)
        if has_room:
            self._times -= len(window.entered)
            window.enter(now)
            self._times += len(window.entered)
        self._forget_some(now - self._rate.seconds)
        return has_room

    def _forget_some(self, expired: float) -> None:
        """Forget those of whom nothing is to be held any more, and others if there are too many."""
        while len(self._windows) > 1:
            oldest = next(iter(self._windows))
            entered = self._windows[oldest].entered
            are_too_many = len(self._windows) > _MOST_SOURCES or self._times > _MOST_TIMES
            if entered[-1] > expired and not are_too_many:
                return
            self._times -= len(entered)
            del self._windows[oldest]
