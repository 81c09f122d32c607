"""Eager TCP: ports, the connections that they accept, and those that we make."""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp

from sockservices.eager.transport import EagerConnection


class Server(EagerConnection, tcp.Server):
    """A connection that a port has accepted."""


class Client(EagerConnection, tcp.Client):
    """A connection that we make."""


class Port(tcp.Port):
    """A listening TCP port; see ``twisted.internet.tcp.Port`` for its parameters."""

    transport = Server


class Connector(tcp.Connector):
    """Makes a connection; see ``twisted.internet.tcp.Connector`` for its parameters."""

    def _makeTransport(self) -> Client:
        return Client(self.host, self.port, self.bindAddress, self, self.reactor)  # type: ignore[no-untyped-call]
