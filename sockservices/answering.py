"""Answering the sender of a datagram, although its address may be forged.

A sender can put any source address on a datagram. With a forged one, two services that answer
everything keep answering each other forever, or one answers itself: CVE-1999-0103, CVE-2024-2169.
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

# Services that answer everything: echo, active users, daytime, quote of the day, character
# generator, time, DNS, TFTP, NTP. The first six are inetd's; all are in CVE-2024-2169.
_ANSWERING_PORTS = frozenset((7, 11, 13, 17, 19, 37, 53, 69, 123))
_MOST_KNOWN = 1024  # addresses in the cache


@implementer(IAnswering)
class AnsweringProtocol(DatagramProtocol):
    """A base class for datagram protocols that answer, which prevents endless loops of answers.

    It works with the listeners of this package and with Twisted's.
    """

    transport: Any
    """The listener, which Twisted sets."""

    def makeConnection(self, transport: Any) -> None:
        """See ``DatagramProtocol.makeConnection``."""
        # At once, because each datagram is to be answered.
        if type(self).answer is AnsweringProtocol.answer and hasattr(transport, "answer"):
            self.answer = transport.answer  # type: ignore[method-assign]
        super().makeConnection(transport)

    def answer(self, datagram: bytes, addr: DatagramPeer) -> None:
        """Send a datagram to the sender of another, unless that may start a loop.

        No answer goes to an unbound Unix socket, to port 0 or the port of a service that answers
        everything, to a broadcast or multicast address, to an address where this process itself
        listens, or to a relative Unix path. The listeners of this package count withheld answers,
        and log the first; on Linux they answer a path only if its socket belongs to the sender's
        user, which Twisted's listeners cannot check.

        Parameters:
            datagram: the answer.
            addr: the address that ``datagramReceived`` was given.
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
    """Return the reason not to answer this address, or ``None`` if there is none."""
    if isinstance(addr, tuple):
        host, port = addr[:2]
        if port in _ANSWERING_PORTS or not port:
            return f"port {port} may answer in turn" if port else "port 0 is not a valid port"
        return None if _is_of_one(host) else "the address is not unicast"
    if isinstance(addr, str) and not addr.startswith("/"):
        return "the path is relative, and names another socket here"
    return None


@lru_cache(maxsize=_MOST_KNOWN)
def _is_of_one(host: str) -> bool:
    """Whether an address is none of broadcast, multicast, reserved, "this host" (RFC 6890)."""
    found = ipaddress.ip_address(host.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    if found.version == 4:
        return 0 < found.packed[0] < 224
    return not (found.is_multicast or found.is_unspecified)


def unmapped(host: str) -> str:
    """Return the IPv4 address in an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), others as is."""
    return host.removeprefix("::ffff:")


def is_local(host: str) -> bool:
    """Whether an address is one of this machine's: the kernel refuses to bind to any other."""
    host = unmapped(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as trying:
        try:
            trying.bind(socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)[0][4])
        except OSError:
            return False
    return True
