"""Multicast groups that a UDP socket joins: ip(7), ipv6(7), RFC 3678."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
import sys
from collections.abc import Sequence

import attrs

from sockservices.printable import system_reason
from sockservices.transports.zones import interface_index

_IP_MULTICAST_ALL = 49  # linux/in.h; Python has no name for it
_IPV6_MULTICAST_ALL = 29  # linux/in6.h, Linux 4.20

_MEMBERSHIP = struct.Struct("=4s4si")  # struct ip_mreqn: group, address, interface
_MEMBERSHIP_6 = struct.Struct("=16si")  # struct ipv6_mreq: group, interface


class JoinError(Exception):
    """The error, of one line, for a group that cannot be joined."""


@attrs.frozen
class Group:
    """A multicast group, on one network interface."""

    address: str
    interface: str | None = None
    """The name or index of the interface; the route to the group decides if it is ``None``."""

    @classmethod
    def parse(cls, text: str) -> Group:
        """Read ``224.0.0.251`` or ``ff02::fb%eth0``; raise ``ValueError``."""
        address, percent, interface = text.partition("%")
        try:
            is_group = ipaddress.ip_address(address).is_multicast
        except ValueError:
            is_group = False
        if not is_group or (percent and not interface):
            raise ValueError(
                f"{text!r} is not a multicast group, such as 224.0.0.251, or 224.0.0.251%eth0 to "
                "join it on that interface"
            )
        return cls(address, interface or None)

    def __str__(self) -> str:
        """Return the group as it is written."""
        return self.address if self.interface is None else f"{self.address}%{self.interface}"

    @property
    def is_ipv6(self) -> bool:
        """Whether it is an IPv6 group."""
        return ":" in self.address


def join(receiving: socket.socket, groups: Sequence[Group]) -> None:
    """Make a socket that is not bound yet a member of groups, of its address family.

    It receives what is sent to these groups and to its own addresses. Other sockets can have the
    same port. What it sends to groups leaves by the first interface that they name. Raises
    ``JoinError``.
    """
    receiving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform != "linux" and hasattr(socket, "SO_REUSEPORT"):
        # On Linux, which does not need it, only one of these sockets would receive a datagram.
        receiving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if sys.platform == "linux":  # which otherwise delivers what is for other sockets' groups
        level, option = (
            (socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL)
            if receiving.family == socket.AF_INET6
            else (socket.IPPROTO_IP, _IP_MULTICAST_ALL)
        )
        with contextlib.suppress(OSError):  # an older kernel
            receiving.setsockopt(level, option, 0)
    for group in groups:
        try:
            _join(receiving, group)
        except OSError as error:
            raise JoinError(f"cannot join {group}: {_why_not(group, error)}") from None
    named = [group.interface for group in groups if group.interface is not None]
    if named:
        _send_by(receiving, interface_index(named[0]))


def _join(receiving: socket.socket, group: Group) -> None:
    index = 0 if group.interface is None else interface_index(group.interface)
    packed = ipaddress.ip_address(group.address).packed
    if group.is_ipv6:
        request = _MEMBERSHIP_6.pack(packed, index)
        receiving.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    else:
        request = _MEMBERSHIP.pack(packed, bytes(4), index)
        receiving.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)


def _send_by(sending: socket.socket, index: int) -> None:
    if sending.family == socket.AF_INET6:
        sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        request = _MEMBERSHIP.pack(bytes(4), bytes(4), index)
        sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)


def _why_not(group: Group, error: OSError) -> str:
    match error.errno:
        case errno.ENODEV if group.interface is None:
            return f"no route leads to it; name the interface, as in {group}%eth0"
        case errno.ENODEV | errno.ENXIO | None:
            return "this machine has no such interface"
        case errno.EADDRINUSE:
            return "it is given twice"
        case errno.ENOBUFS:
            return "too many groups (on Linux, net.ipv4.igmp_max_memberships is the limit)"
    return system_reason(error)
