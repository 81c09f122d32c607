"""One description for each socket, from descriptions that stand for several.

- A host name as ``interface`` stands for all its addresses.
- The name of inherited sockets stands for all of the right kind.
- A socket on all IPv6 addresses serves IPv4, too, unless another listener has that port there.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from sockservices.errors import DescriptionError
from sockservices.listening.descriptions import (
    IP_PARTS,
    Description,
    description_of,
    ip_address,
)
from sockservices.listening.inherited import INHERITING, indexes
from sockservices.listening.ip_place import ip_place


def expanded(descriptions: Iterable[str]) -> list[str]:
    """Return descriptions of one socket each, in the order of those given.

    This looks host names up, and waits for the answer.

    Raises ``DescriptionError`` for a syntax error, and for a name that cannot be found.
    """
    return _apart([each for text in descriptions for each in _each(Description.parse(text))])


def _each(description: Description) -> list[str]:
    if description.prefix in IP_PARTS:
        return _on_each_address(description)
    if description.prefix in INHERITING:
        found = indexes(description)
        if len(found) > 1:
            return [description_of(description.prefix, index=each) for each in found]
    return [description.text]


def _on_each_address(description: Description) -> list[str]:
    given = description.arguments(IP_PARTS[description.prefix], required="port")
    host = given.get("interface")
    if host is None or _is_address(host):
        return [description.text]
    try:
        family = socket.AF_INET6 if description.prefix == "tcp6" else socket.AF_UNSPEC
        addresses = _addresses(host, family)
    except (OSError, ValueError) as error:  # a UnicodeError is a ValueError
        reason = error.strerror if isinstance(error, OSError) else "it is not a valid host name"
        raise DescriptionError(
            f"in {description.text!r}, interface: {host!r} is not an IPv4 or IPv6 address, nor a "
            f"host name that can be found: {reason}"
        ) from None
    port = given.pop("port")
    return [
        description_of(description.prefix, port, **{**given, "interface": each})
        for each in addresses
    ]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _addresses(host: str, family: socket.AddressFamily) -> list[str]:
    """Return the addresses of a host name, those that this machine has if it has any of them.

    Most machines have two addresses for ``localhost``, also if IPv6 is switched off. Raises
    ``OSError`` or ``ValueError`` if there are none.
    """
    if host.rpartition(".")[2].isdecimal():  # such as 127.1, an address for inet_aton(3)
        raise ValueError
    found = socket.getaddrinfo(host, None, family, socket.SOCK_DGRAM)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    return [each for each in addresses if _is_here(each)] or addresses


def _is_here(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _apart(texts: list[str]) -> list[str]:
    """Add ``ipv6only=yes`` where a socket on all IPv6 addresses would be in the way of IPv4."""
    places = [ip_place(Description.parse(each)) for each in texts]
    taken = {each.port for each in places if each is not None and not each.is_ipv6}
    return [
        f"{text}:ipv6only=yes" if place and place.may_serve_both and place.port in taken else text
        for text, place in zip(texts, places, strict=True)
    ]
