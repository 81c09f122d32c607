"""Zones of IPv6 addresses, such as ``%eth0`` in ``fe80::1%eth0``: RFC 4007.

Python takes a zone for the calls of a socket only as a number of its own; in the text of the
address, it drops it without an error.
"""

from __future__ import annotations

import socket
from typing import Any


def sockaddr(peer: Any) -> Any:
    """Return a host and port as a socket takes them; raise ``OSError`` if there is no such zone."""
    host, number = peer
    address, percent, zone = host.partition("%")
    return (address, number, 0, interface_index(zone)) if percent else peer


def interface_index(name: str) -> int:
    """Return the index of a network interface, given its name or index.

    Raises ``OSError`` if there is no such interface.
    """
    return int(name) if name.isdecimal() else socket.if_nametoindex(name)


def host_of(name: tuple[Any, ...]) -> str:
    """Return the host in what getsockname(2) returned, with its zone by name if it has one."""
    host: str = name[0]
    if len(name) == 4 and name[3]:
        try:
            return f"{host}%{socket.if_indextoname(name[3])}"
        except OSError:  # the interface has gone
            return f"{host}%{name[3]}"
    return host
