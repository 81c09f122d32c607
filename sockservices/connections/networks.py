"""Networks in CIDR notation, and lookup of the most specific one for an address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from sockservices.converters import readable_file
from sockservices.printable import escaped

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # RFC 4291, section 2.5.5.2


def network(value: str | Network) -> Network:
    """Convert ``192.0.2.0/24``, ``2001:db8::/32`` or a single address.

    Raises ``ValueError``, which quotes the text, for anything else, such as a network with bits
    set after its prefix.
    """
    try:
        found = ipaddress.ip_network(value.strip() if isinstance(value, str) else value)
        if found.version == 6 and found.subnet_of(_MAPPED):  # like ``address``
            number = int(found.network_address) & 0xFFFFFFFF
            return ipaddress.IPv4Network((number, found.prefixlen - _MAPPED.prefixlen))
        return found
    except ValueError as error:
        raise ValueError(
            f"{value!r} is not a network, such as 192.0.2.0/24 or 2001:db8::/32: {error}"
        ) from None


def networks_in(path: str) -> list[Network]:
    """Read a file with one network per line; ``#`` begins a comment.

    Raises ``ValueError``, which names the file and the line.
    """
    lines = Path(readable_file(path)).read_text("utf-8", "surrogateescape").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text:
            try:
                found.append(network(text))
            except ValueError as error:
                raise ValueError(f"{escaped(path)}, line {number}: {error}") from None
    return found


def address(host: str) -> Address | None:
    """Convert a numeric host without its scope, and an IPv4-mapped IPv6 address to IPv4.

    Returns ``None`` for anything else, such as the path of a Unix socket.
    """
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


class Networks:
    """A set of networks.

    Parameters:
        networks: in any order; they may overlap.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for each in networks:
            key = (each.version, each.prefixlen)
            self._by_length.setdefault(key, set()).add(int(each.network_address))
        self._lengths = sorted(self._by_length, key=lambda key: -key[1])

    def __bool__(self) -> bool:
        return bool(self._lengths)

    def specificity(self, of: Address) -> int:
        """Return the length of the longest prefix that contains an address, or -1 if none does."""
        number, bits = int(of), of.max_prefixlen
        for version, length in self._lengths:
            if version == of.version:
                shift = bits - length
                if number >> shift << shift in self._by_length[version, length]:
                    return length
        return -1
