"""Answering the sender of a datagram, though nothing proves who that is.

Whoever sends a datagram can write any address on it. One that is forged makes two services that
answer everything talk to each other for ever, or one with itself: CVE-1999-0103, CVE-2024-2169.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from functools import lru_cache
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from sockservices.printable import DatagramPeer
from sockservices.service import IAnswering

# Services that answer whatever comes: echo, active users, daytime, quote of the day, character
# generator, time, DNS, TFTP, NTP. The first six are inetd's, all are in CVE-2024-2169.
_ANSWERING_PORTS = frozenset((7, 11, 13, 17, 19, 37, 53, 69, 123))
_MOST_KNOWN = 1024  # addresses that need not be read again


@implementer(IAnswering)
class AnsweringProtocol(DatagramProtocol):
    """A datagram protocol that answers its senders, and cannot be made to do so for ever.

    To be inherited from, on listeners of this package and of Twisted alike.
    """

    transport: Any
    """The listener, as Twisted gives it."""

    def answer(self, datagram: bytes, addr: DatagramPeer) -> None:
        """Send a datagram to the sender of another, unless that may start a loop.

        There is no answer to a sender without a name, to port 0 and to the ports of services that
        answer everything, to addresses of many, to those where this process itself listens, and to
        a relative name of a Unix socket. Listeners of this package count what they hold back, and
        log the first; on Linux they answer a path only if its socket belongs to the sender's user,
        which Twisted's listeners cannot tell.

        Parameters:
            datagram: what to send.
            addr: as ``datagramReceived`` was given it.
        """
        answer = getattr(self.transport, "answer", None)
        if answer is not None:
            answer(datagram, addr)
        elif addr and why_no_answer(addr) is None and not self._is_own(addr):
            self.transport.write(datagram, addr)

    def _is_own(self, addr: DatagramPeer) -> bool:
        own = self.transport.getHost()
        if isinstance(addr, tuple):
            return addr[1] == own.port and is_local(addr[0])
        return addr is not None and os.fsencode(addr) == getattr(own, "name", None)


def why_no_answer(addr: DatagramPeer) -> str | None:
    """Return why nobody should answer this address; ``None`` if there is no reason."""
    if isinstance(addr, tuple):
        host, port = addr[:2]
        if port in _ANSWERING_PORTS or not port:
            return f"port {port} may answer in turn" if port else "nobody has port 0"
        return None if _is_of_one(host) else "the address is not of one machine"
    if isinstance(addr, str) and not addr.startswith("/"):
        return "the name is relative, and means another socket here"
    return None


@lru_cache(maxsize=_MOST_KNOWN)
def _is_of_one(host: str) -> bool:
    """Whether an address is not broadcast, multicast, reserved or "this host" (RFC 6890)."""
    found = ipaddress.ip_address(host.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    if found.version == 4:
        return 0 < found.packed[0] < 224
    return not (found.is_multicast or found.is_unspecified)


def unmapped(host: str) -> str:
    """Return an IPv4 address as it is, also where a socket of IPv6 shows it (RFC 4291, 2.5.5.2)."""
    return host.removeprefix("::ffff:")


def is_local(host: str) -> bool:
    """Whether an address is one of this machine's; the kernel lets nobody bind to others."""
    host = unmapped(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as trying:
        try:
            trying.bind(socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)[0][4])
        except OSError:
            return False
    return True
