"""The limits of a service as ``twistd`` options."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.python import usage

from sockservices.converters import one_of, some_seconds, whole_number
from sockservices.credentials import can_be_asked, group_id, user_id
from sockservices.guards import Limits, Rate
from sockservices.networks import network, networks_in
from sockservices.parameters import coerced, parameter
from sockservices.proxy_protocol import ProxyProtocol, Version

_IPV6_PREFIX = Limits().ipv6_prefix
_MOST = 1_000_000  # of a rate: so many times are remembered


def rate(text: str) -> Rate:
    """Convert ``100/60``, at most 100 in 60 seconds; raise ``ValueError`` for others."""
    parts = re.fullmatch(r"([0-9]+)/([0-9]+(?:\.[0-9]+)?)", text)
    if parts is None or not 1 <= int(parts[1]) <= _MOST or float(parts[2]) <= 0:
        raise ValueError(f"{text!r} is not a rate, as 100/60 for 100 in 60 seconds")
    return Rate(int(parts[1]), float(parts[2]))


_COUNT = whole_number(least=1)


class LimitOptions(usage.Options):
    """Whom to admit, how many, how fast, and for how long."""

    optParameters: ClassVar[list[list[Any]]] = [
        parameter("max-connections", "Connections at a time.", _COUNT),
        parameter(
            "max-per-source",
            "Connections at a time from one source: an IPv4 address, or --ipv6-prefix bits.",
            _COUNT,
        ),
        parameter(
            "ipv6-prefix",
            "Bits of an IPv6 address that make a source.",
            whole_number(1, 128),
            _IPV6_PREFIX,
        ),
        parameter(
            "at-limit",
            "At --max-connections: 'refuse' closes a newcomer, 'wait' leaves it in the backlog.",
            one_of("refuse", "wait"),
            "refuse",
        ),
        parameter("rate", "New connections, as 100/60: at most 100 in any 60 seconds.", rate),
        parameter("rate-per-source", "The same, from one source.", rate),
        parameter("idle-timeout", "Seconds without a byte from a peer; then cut.", some_seconds),
        parameter("max-time", "Seconds that a connection may last; then cut.", some_seconds),
        parameter(
            "max-write-buffer",
            "Bytes that may wait for a peer that does not read; with more it is cut.",
            _COUNT,
        ),
        parameter(
            "proxy-protocol",
            "PROXY header that each connection must begin with: off, v1, v2 or any (v1 or v2).",
            one_of("off", "v1", "v2", "any"),
            "off",
        ),
    ]
    lists = (
        *("allow", "deny", "allow-file", "deny-file", "exempt"),
        *("allow-user", "allow-group", "proxy-allow-from"),
    )
    """The options that may be repeated."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._lists: dict[str, list[Any]] = {name: [] for name in self.lists}

    def opt_allow(self, cidr: str) -> None:
        """Network to admit, as 192.0.2.0/24; with any, nobody else is. May be repeated."""
        self._lists["allow"].append(coerced(network, "allow")(cidr))

    def opt_deny(self, cidr: str) -> None:
        """Network to refuse; the more specific one decides. May be repeated."""
        self._lists["deny"].append(coerced(network, "deny")(cidr))

    def opt_allow_file(self, path: str) -> None:
        """File with a network to admit on each line; read again at SIGHUP. May be repeated."""
        coerced(networks_in, "allow-file")(path)
        self._lists["allow-file"].append(path)

    def opt_deny_file(self, path: str) -> None:
        """File with networks to refuse, as --allow-file. May be repeated."""
        coerced(networks_in, "deny-file")(path)
        self._lists["deny-file"].append(path)

    def opt_exempt(self, cidr: str) -> None:
        """Network to which the limits per source do not apply. May be repeated."""
        self._lists["exempt"].append(coerced(network, "exempt")(cidr))

    def opt_allow_user(self, user: str) -> None:
        """User (name or number) that may use Unix sockets; then others may not. May be repeated."""
        self._lists["allow-user"].append(self._known(user_id, "allow-user", user))

    def opt_allow_group(self, group: str) -> None:
        """Group (name or number) that may use Unix sockets, as --allow-user. May be repeated."""
        self._lists["allow-group"].append(self._known(group_id, "allow-group", group))

    def _known(self, convert: Callable[[str], int], name: str, text: str) -> Any:
        if not can_be_asked:
            raise usage.UsageError(f"--{name}: this system does not tell who a Unix peer is")
        return coerced(convert, name)(text)

    def opt_proxy_allow_from(self, cidr: str) -> None:
        """Network of proxies, for --proxy-protocol; loopback unless given. May be repeated."""
        self._lists["proxy-allow-from"].append(coerced(network, "proxy-allow-from")(cidr))

    def proxy_protocol(self) -> ProxyProtocol | None:
        """Return what was given; raise ``usage.UsageError`` if it makes no sense together."""
        allow_from = self._lists["proxy-allow-from"]
        if self["proxy-protocol"] == "off":
            if allow_from:
                raise usage.UsageError("--proxy-allow-from goes with --proxy-protocol")
            return None
        version: Version = self["proxy-protocol"]
        return ProxyProtocol(version, allow_from) if allow_from else ProxyProtocol(version)

    def check_together(self) -> None:
        """Raise ``usage.UsageError`` for options that would do nothing without others."""
        self.proxy_protocol()
        if self["at-limit"] == "wait" and self["max-connections"] is None:
            raise usage.UsageError("--at-limit goes with --max-connections")
        per_source = self["max-per-source"] is not None or self["rate-per-source"] is not None
        for name, given in (
            ("exempt", self._lists["exempt"]),
            ("ipv6-prefix", int(self["ipv6-prefix"]) != _IPV6_PREFIX),
        ):
            if given and not per_source:
                raise usage.UsageError(f"--{name} goes with --max-per-source or --rate-per-source")

    def limits(self) -> Limits:
        """Return what was given."""
        return Limits(
            max_connections=self["max-connections"],
            max_per_source=self["max-per-source"],
            at_limit=self["at-limit"],
            rate=self["rate"],
            rate_per_source=self["rate-per-source"],
            allow=tuple(self._lists["allow"]),
            deny=tuple(self._lists["deny"]),
            allow_files=tuple(self._lists["allow-file"]),
            deny_files=tuple(self._lists["deny-file"]),
            exempt=tuple(self._lists["exempt"]),
            ipv6_prefix=int(self["ipv6-prefix"]),
            allow_users=tuple(self._lists["allow-user"]),
            allow_groups=tuple(self._lists["allow-group"]),
        )
