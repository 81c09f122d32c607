"""The IP address and port that a description names, for our types and Twisted's."""

from __future__ import annotations

from ipaddress import IPv6Address

import attrs

from sockservices.listening.descriptions import IP_PARTS, Description

# The arguments of Twisted's types as far as they may be given by position, and the defaults.
_TWISTED: dict[str, tuple[str, ...]] = {
    "ssl": ("port",),
    "tls": ("path", "port", "backlog", "interface"),
}
_DEFAULTS = {
    "tcp6": {"interface": "::"},
    "tls": {"interface": "::", "port": "443"},
}


@attrs.frozen
class IpPlace:
    """Where a description listens, if it says that correctly."""

    port: tuple[str, int]
    """``tcp`` or ``udp``, and the number."""
    interface: str
    """The address; empty for all IPv4 addresses."""
    ipv6only: str | None
    """What the description says about that, if anything."""

    @property
    def is_ipv6(self) -> bool:
        """Whether the socket is an IPv6 one, which may serve IPv4, too."""
        return ":" in self.interface

    @property
    def may_serve_both(self) -> bool:
        """Whether the socket takes its port for IPv4, too, if the system decides so."""
        if self.ipv6only is not None or self.port[1] == 0:  # the kernel chooses a free port
            return False
        try:
            return IPv6Address(self.interface).is_unspecified
        except ValueError:
            return False


def ip_place(description: Description) -> IpPlace | None:
    """Return the place of a description; ``None`` if it is not on IP, or its port is not valid."""
    prefix, *positional = (description.prefix, *description.positional)
    if prefix == "haproxy" and positional:
        prefix, *positional = (positional[0].lower(), *positional[1:])
    order = _TWISTED.get(prefix) or tuple(IP_PARTS.get(prefix, ()))
    given = {
        **_DEFAULTS.get(prefix, {}),
        **dict(zip(order, positional, strict=False)),
        **description.named,
    }
    port = given.get("port", "")
    if not order or not port.isdecimal():
        return None
    protocol = "udp" if prefix == "udp" else "tcp"
    return IpPlace((protocol, int(port)), given.get("interface", ""), given.get("ipv6only"))
