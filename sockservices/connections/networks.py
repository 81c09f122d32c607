"""Networks in CIDR notation, and lookup of the most specific one for an address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from socket import AF_INET, inet_pton
from typing import TypeAlias

from sockservices.converters import readable_file
from sockservices.printable import escaped

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


_LINES_AT_ONCE = 256
_LENGTHS = {str(length): length for length in range(33)}
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

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._by_length: dict[tuple[int, int], set[int]] = {}
        self._lengths: list[tuple[int, int]] = []
        for each in networks:
            self._add(*_parts(each))

    def __bool__(self) -> bool:
        return bool(self._lengths)

    def read(self, path: str) -> Iterator[None]:
        """Add the networks in a file, one per line; ``#`` begins a comment.

        Yields now and then, for a caller that has other things to do.

        Raises ``ValueError``, which names the file and the line.
        """
        with open(readable_file(path), encoding="utf-8", errors="surrogateescape") as lines:
            for number, line in enumerate(lines, 1):
                text = line.partition("#")[0].strip()
                if text:
                    try:
                        self._add(*(_parts_of_usual(text) or _parts(network(text))))
                    except ValueError as error:
                        raise ValueError(f"{escaped(path)}, line {number}: {error}") from None
                if not number % _LINES_AT_ONCE:
                    yield

    def _add(self, version: int, length: int, number: int) -> None:
        key = (version, length)
        if key not in self._by_length:
            self._by_length[key] = set()
            self._lengths = sorted(self._by_length, key=lambda key: -key[1])
        self._by_length[key].add(number)

    def specificity(self, of: Address) -> int:
        """Return the length of the longest prefix that contains an address, or -1 if none does."""
        number, bits = int(of), of.max_prefixlen
        for version, length in self._lengths:
            if version == of.version:
                shift = bits - length
                if number >> shift << shift in self._by_length[version, length]:
                    return length
        return -1


def _parts(network: Network) -> tuple[int, int, int]:
    return network.version, network.prefixlen, int(network.network_address)


def _parts_of_usual(text: str) -> tuple[int, int, int] | None:
    """Return the same for an IPv4 network or address in the usual notation, but faster.

    Returns ``None`` for anything else, valid or not.
    """
    host, slash, length = text.partition("/")
    prefix = _LENGTHS.get(length) if slash else 32
    try:
        number = int.from_bytes(inet_pton(AF_INET, host), "big")
    except (OSError, ValueError):
        return None
    if prefix is None or number & (0xFFFFFFFF >> prefix):
        return None
    return 4, prefix, number
