"""Eager Unix streams: what is written is sent in the next turn, without asking the kernel.

Not at once, because of ``sendFileDescriptor``: a descriptor travels with bytes, and those that
were written just before must still be there to take it along.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_makeTransport``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import unix

from sockservices.transports.adopted import AdoptedUnixPort
from sockservices.transports.counted import Counting
from sockservices.transports.port import AcceptingPort
from sockservices.transports.transport import EagerConnection


class _Connection(Counting, EagerConnection):
    """Tried before it is watched: that is all."""


class Server(_Connection, unix.Server):
    """A connection that a port has accepted."""


class Client(_Connection, unix.Client):
    """A connection that we make."""


class Port(AcceptingPort, unix.Port):
    """A listening port; see ``twisted.internet.unix.Port`` for its parameters."""

    transport = Server


class AdoptedPort(AdoptedUnixPort, Port):
    """The same, on a socket that listens already."""


class Connector(unix.Connector):
    """Makes a connection; see ``twisted.internet.unix.Connector`` for its parameters."""

    def _makeTransport(self) -> Any:
        return Client(self.address, self, self.reactor, self.checkPID)
