"""IP ports that can be told whether an IPv6 socket serves IPv4, too: IPV6_V6ONLY, ipv6(7)."""

from __future__ import annotations

import socket
from typing import Any


class ChoosesFamilies:
    """A mixin for Twisted's IP ports, with the choice; list it before them."""

    ipv6only: bool | None = None
    """Whether its IPv6 socket is for IPv6 only; ``None`` leaves that to the system. By default,
    Linux lets a socket on all IPv6 addresses serve all IPv4 addresses, too."""

    def createInternetSocket(self) -> socket.socket:
        """Create the socket to listen on."""
        port: Any = super()
        made: socket.socket = port.createInternetSocket()
        if self.ipv6only is not None:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, self.ipv6only)
        return made
