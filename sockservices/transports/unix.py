"""Eager Unix streams: written data is sent in the next turn, without polling the kernel.

Not at once, because of ``sendFileDescriptor``: a file descriptor is sent along with bytes, so those
written just before must still be in the buffer.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_makeTransport``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import unix

from sockservices.transports.adopted_sockets import AdoptedUnixPort
from sockservices.transports.byte_counting import Counting
from sockservices.transports.closing import ReadsTheRest
from sockservices.transports.late_tls import StartsTLS
from sockservices.transports.log_prefixes import EscapedPrefix
from sockservices.transports.port import AcceptingPort
from sockservices.transports.transport import EagerConnection


class _Connection(Counting, StartsTLS, EagerConnection):
    """A connection that the reactor tries before it watches it."""


class Server(_Connection, ReadsTheRest, EscapedPrefix, unix.Server):
    """A connection that a port has accepted."""


class Client(_Connection, unix.Client):
    """A connection that we make."""


class Port(AcceptingPort, unix.Port):
    """A listening port; see ``twisted.internet.unix.Port`` for its parameters."""

    transport = Server


class AdoptedPort(AdoptedUnixPort, Port):
    """A port on a socket that listens already."""


class Connector(unix.Connector):
    """A Unix connector; see ``twisted.internet.unix.Connector`` for its parameters."""

    def _makeTransport(self) -> Any:
        return Client(self.address, self, self.reactor, self.checkPID)
