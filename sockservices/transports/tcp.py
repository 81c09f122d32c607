"""Eager TCP: connections that send at once, and never wait to fill a packet.

``TCP_NODELAY`` is set on each, as in asyncio, uvloop and Go; accepted ones inherit it.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_addressType``,
``_makeTransport``.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv6Address

from sockservices.transports.accelerator import Accelerated
from sockservices.transports.binding import BindsAsAsked
from sockservices.transports.closing import ClosesInOrder
from sockservices.transports.eager_stream import EagerServer, EagerStream
from sockservices.transports.ipv6_only import ChoosesFamilies
from sockservices.transports.port import AcceptingPort


def _send_without_delay(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # not TCP but, for example, SCTP
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Server(Accelerated, EagerServer, ClosesInOrder, tcp.Server):  # type: ignore[override]
    """A connection that a port has accepted; see ``twisted.internet.tcp.Server``."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Any,
        client: Any,
        server: Any,
        sessionno: int,
        reactor: Any,
    ) -> None:
        if server is None or not server.gives_no_delay:
            _send_without_delay(sock)
        if len(client) != 2:
            self._addressType = IPv6Address
        super().__init__(sock, protocol, client, server, sessionno, reactor)


class Client(Accelerated, EagerStream, tcp.Client):
    """A connection that we make."""

    def createInternetSocket(self) -> socket.socket:
        """Create the socket to connect."""
        made: socket.socket = super().createInternetSocket()
        _send_without_delay(made)
        return made


class Port(ChoosesFamilies, BindsAsAsked, AcceptingPort):
    """A listening TCP port; see ``twisted.internet.tcp.Port`` for its parameters."""

    transport = Server
    # Whether accepted sockets inherit TCP_NODELAY, as on Linux, which saves a call for each.
    gives_no_delay = False

    def createInternetSocket(self) -> socket.socket:
        """Create the socket to listen on. (An inherited one is left unchanged.)"""
        made: socket.socket = super().createInternetSocket()
        _send_without_delay(made)
        return made

    def startListening(self) -> None:
        """See ``IListeningPort.startListening``."""
        super().startListening()
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # as in _send_without_delay
                is_set = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                self.gives_no_delay = bool(is_set)


class Connector(tcp.Connector):
    """A TCP connector; see ``twisted.internet.tcp.Connector`` for its parameters."""

    def _makeTransport(self) -> Client:
        return Client(self.host, self.port, self.bindAddress, self, self.reactor)
