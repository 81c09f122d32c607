"""Eager Unix streams: ports, the connections that they accept, and those that we make."""

from __future__ import annotations

from typing import Any

from twisted.internet import unix

from sockservices.eager.transport import EagerConnection


class Server(unix.Server):
    """A connection that a port has accepted."""


class Client(unix.Client):
    """A connection that we make."""


class Port(unix.Port):
    """A listening port; see ``twisted.internet.unix.Port`` for its parameters."""

    transport = Server


class Connector(unix.Connector):
    """Makes a connection; see ``twisted.internet.unix.Connector`` for its parameters."""

    def _makeTransport(self) -> Client:
        return Client(self.address, self, self.reactor, self.checkPID)  # type: ignore[no-untyped-call]
