"""IP ports that bind to an address which is not there yet, or to one network device (Linux)."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import attrs

_IS_LINUX = sys.platform == "linux"
# Python has no names for these: ip(7), ipv6(7) and linux/in6.h.
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_LONGEST_NAME = 15  # IFNAMSIZ in linux/if.h, less the terminating null byte


def device_name(value: str) -> str:
    """Check the name of a network device; raise ``ValueError``."""
    if not _IS_LINUX:
        raise ValueError("only Linux binds a socket to a network device")
    if not 0 < len(os.fsencode(value)) <= _LONGEST_NAME:
        raise ValueError(f"{value!r} is not the name of a network device, such as eth0")
    return value


def check_freebind(wanted: bool) -> bool:
    """Return the value; raise ``ValueError`` if it is wanted and the system does not have it."""
    if wanted and not _IS_LINUX:
        raise ValueError("only Linux binds a socket to an address that the machine does not have")
    return wanted


@attrs.frozen
class Binding:
    """How a socket is bound, beyond its address."""

    freebind: bool = False
    """Whether it may have an address that this machine does not have, or not yet."""
    device: str | None = None
    """The network device through which all its traffic goes; ``None`` for any."""

    def prepare(self, made: socket.socket) -> None:
        """Set the options of a socket that is not bound yet; raise ``OSError``."""
        if self.freebind and made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        elif self.freebind:
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if self.device is not None:
            name = os.fsencode(self.device)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)


class BindsAsAsked:
    """A mixin for Twisted's IP ports, with a ``Binding``; list it before them."""

    binding = Binding()

    def createInternetSocket(self) -> socket.socket:
        """Create the socket to listen on."""
        port: Any = super()
        made: socket.socket = port.createInternetSocket()
        try:
            self.binding.prepare(made)
        except OSError:
            made.close()
            raise
        return made
