"""Eager Unix streams: what is written in ``dataReceived`` is sent when that returns.

Data that is written at another time is sent in the next turn, because of ``sendFileDescriptor``: a
file descriptor is sent along with bytes, so those that were just written must still be there.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_dataReceived``,
``_makeTransport``, ``_sendmsgQueue``.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import main, unix
from twisted.internet.interfaces import IFileDescriptorReceiver

from sockservices.transports.accelerator import Accelerated
from sockservices.transports.adopted_sockets import AdoptedUnixPort
from sockservices.transports.closing import ReadsTheRest
from sockservices.transports.eager_stream import EagerServer, EagerStream
from sockservices.transports.port import AcceptingPort
from sockservices.transports.transport import EagerConnection


class _UnixStream(EagerStream):
    """A mixin for Twisted's Unix streams, with all that concerns file descriptors."""

    _sends_at_once = False
    _asks_protocol = True
    # The protocol that was last asked whether it takes file descriptors, if it does not.
    _plain_protocol: Any = None

    def doRead(self) -> Any:
        """See ``IReadDescriptor.doRead``."""
        protocol = self.protocol
        if protocol is self._plain_protocol:
            return EagerStream.doRead(self)  # the kernel closes those that come: unix(7)
        # The first read is Twisted's for every protocol, to log descriptors that nobody takes.
        takes_descriptors = IFileDescriptorReceiver.providedBy(protocol)
        self._plain_protocol = None if takes_descriptors else protocol
        if self._was_full is None:
            self._was_full = False
            self._look_again()
        return self._holding(super(EagerConnection, self).doRead)

    def _dataReceived(self, data: bytes) -> Any:
        if not data and self._broken:
            return main.CONNECTION_LOST
        self.bytes_in += len(data)
        why: Any = super()._dataReceived(data)  # type: ignore[misc]
        return why

    def sendFileDescriptor(self, fileno: int) -> None:
        """See ``IUNIXTransport.sendFileDescriptor``."""
        self._leave_to_twisted()  # it travels with the bytes before it that are not yet sent
        super().sendFileDescriptor(fileno)  # type: ignore[misc]

    def _look_again(self) -> None:
        super()._look_again()
        if self._sendmsgQueue:
            self._leave_to_twisted()

    def _let_go(self) -> None:
        super()._let_go()
        self._plain_protocol = None  # which refers to this connection

    def writeSomeData(self, data: Any) -> Any:
        """See ``FileDescriptor.writeSomeData``."""
        if not self._sendmsgQueue:
            return super().writeSomeData(data)
        sent = super(EagerConnection, self).writeSomeData(data)
        if isinstance(sent, int):
            self.bytes_out += sent
        return sent


class _AcceleratedStream(Accelerated, _UnixStream):
    _read_purely = _UnixStream.doRead


class Server(_AcceleratedStream, EagerServer, ReadsTheRest, unix.Server):  # type: ignore[misc, override]
    """A connection that a port has accepted; see ``twisted.internet.unix.Server``."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Any,
        client: Any,
        server: Any,
        sessionno: int,
        reactor: Any,
    ) -> None:
        self._sendmsgQueue = []
        EagerServer.__init__(self, sock, protocol, (client, None), server, sessionno, reactor)


class Client(_AcceleratedStream, unix.Client):  # type: ignore[misc]
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
