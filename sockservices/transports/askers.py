"""The senders of UDP datagrams, with the address that each has asked, to answer from that address.

A socket that is bound to all addresses sends from the address that the route to the peer suggests.
A client that asked another address of this machine takes no answer from there, and neither do
stateful firewalls. RFC 1122, 4.1.3.5, therefore demands an answer from the address that was asked.
Linux tells that address with each datagram: ``IP_PKTINFO`` in ip(7), ``IPV6_RECVPKTINFO`` in
ipv6(7). A socket that is bound to one address needs none of this.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from sockservices.transports.zones import sockaddr

MOST_KNOWN = 1024  # askers of one port that are remembered

_IP_PKTINFO = 8  # linux/in.h; Python has a name for it since 3.14
# The kernel tells more if whoever made the socket has asked for it, such as the time or the TTL.
_ADDRESSES = ((socket.IPPROTO_IP, _IP_PKTINFO), (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO))
_SPACE = 128  # bytes for all of that

# The address has gone since, or is one that nothing can be sent from: a broadcast or multicast one.
_NOT_FROM_THERE = {errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENETUNREACH}

_Ancillary = list[tuple[int, int, bytes]]


class Asker(tuple[str, int]):
    """The host and port of a sender, with the address that it asked."""

    asked: _Ancillary
    """What the kernel told about that address."""
    source: _Ancillary
    """What tells the kernel to send from there."""


class Askers:
    """The latest askers of a port, for answers to an address that is equal, but a new tuple."""

    def __init__(self) -> None:
        self._latest: OrderedDict[Any, Asker] = OrderedDict()

    def asker(self, peer: tuple[str, int], ancillary: _Ancillary) -> Asker:
        """Return and remember a sender; the longest unheard of those before may be forgotten."""
        if len(ancillary) != 1 or ancillary[0][:2] not in _ADDRESSES:
            ancillary = [each for each in ancillary if each[:2] in _ADDRESSES]
        found = self._latest.get(peer)
        if found is None or found.asked != ancillary:
            found = Asker(peer)
            found.asked = ancillary
            found.source = [(level, kind, _source(level, data)) for level, kind, data in ancillary]
            self._latest[found] = found
            if len(self._latest) > MOST_KNOWN:
                self._latest.popitem(last=False)
        self._latest.move_to_end(found)
        return found

    def get(self, peer: Any) -> Any:
        """Return a peer as it was last heard of; if it is not known (any more), as it is."""
        return peer if isinstance(peer, Asker) else self._latest.get(peer, peer)


def ask_for_addresses(receiving: socket.socket) -> bool:
    """Make the kernel tell the address that each datagram from now on was sent to.

    Returns whether it will: not for a socket with a single address, and only on Linux.
    """
    if sys.platform != "linux":
        return False
    host = receiving.getsockname()[0]
    if host == "0.0.0.0":
        receiving.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    elif host == "::":  # of IPv4 datagrams on such a socket too
        receiving.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        return False
    return True


def receiver(
    receiving: socket.socket,
    buffer: memoryview,
    peer_of: Callable[[Any], Any],
    askers: Askers,
) -> Callable[[], tuple[int, Any]]:
    """Return a function that receives a datagram; it returns the original size and the asker."""
    receive, into, asker = receiving.recvmsg_into, [buffer], askers.asker

    def receive_with_address() -> tuple[int, Any]:
        size, ancillary, _flags, name = receive(into, _SPACE, socket.MSG_TRUNC)
        return size, asker(peer_of(name), ancillary)

    return receive_with_address


def send_to(sending: socket.socket, datagram: bytes, peer: Any) -> int:
    """Send a datagram, from the address that its peer has asked if it is an ``Asker``.

    If nothing can be sent from there, the kernel chooses the address. Returns the number of bytes
    sent; raises ``OSError``.
    """
    address = sockaddr(peer)
    if isinstance(peer, Asker):
        try:
            return sending.sendmsg([datagram], peer.source, 0, address)
        except OSError as failed:
            if failed.errno not in _NOT_FROM_THERE:
                raise
    return sending.sendto(datagram, address)


def _source(level: int, data: bytes) -> bytes:
    # Without an interface, the route decides, as for any datagram: the way back may be another.
    if level == socket.IPPROTO_IP:  # interface, address to send from, address in the header
        return bytes(4) + data[4:8] + bytes(4)
    is_link_local = data[0] == 0xFE and data[1] & 0xC0 == 0x80  # means nothing without interface
    return data if is_link_local else data[:16] + bytes(4)
