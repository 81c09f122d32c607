"""What a reactor offers for streams, with eager ports and transports or with Twisted's own."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import error
from twisted.internet.posixbase import PosixReactorBase
from zope.interface import directlyProvides, providedBy

from sockservices.eager import tcp, unix
from sockservices.eager.transport import EagerConnection
from sockservices.eager.untried import Untried

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class EagerMethods:
    """``IReactorTCP``, ``IReactorUNIX`` and the streams of ``IReactorSocket``."""

    def listenTCP(
        self, port: Any, factory: Any, backlog: int = 50, interface: str = ""
    ) -> tcp.Port:
        """See ``IReactorTCP.listenTCP``."""
        listening = tcp.Port(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: str, port: Any, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> tcp.Connector:
        """See ``IReactorTCP.connectTCP``."""
        connector = tcp.Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> unix.Port:
        """See ``IReactorUNIX.listenUNIX``."""
        listening = unix.Port(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30, checkPID: int = 0
    ) -> unix.Connector:
        """See ``IReactorUNIX.connectUNIX``."""
        connector = unix.Connector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """See ``IReactorSocket.adoptStreamPort``."""
        _check_family(addressFamily)
        if addressFamily == socket.AF_UNIX:
            port: Any = unix.Port._fromListeningDescriptor(self, fileDescriptor, factory)
        else:
            port = tcp.Port._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        port.startListening()
        return port

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """See ``IReactorSocket.adoptStreamConnection``."""
        _check_family(addressFamily)
        if addressFamily == socket.AF_UNIX:
            return unix.Server._fromConnectedSocket(fileDescriptor, factory, self)
        return tcp.Server._fromConnectedSocket(fileDescriptor, addressFamily, factory, self)


def _check_family(family: int) -> None:
    if family not in _FAMILIES:
        raise error.UnsupportedAddressFamily(family)


class _Facade:
    """A reactor as it is, but for some of its methods.

    Parameters:
        reactor: any POSIX reactor of Twisted (``epoll``, ``poll``, ``select``, ``asyncio``…).
    """

    def __init__(self, reactor: PosixReactorBase) -> None:
        self.reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)

    # These call the methods for TCP.
    listenSSL = PosixReactorBase.listenSSL
    connectSSL = PosixReactorBase.connectSSL


class EagerStreams(EagerMethods, _Facade):
    """A reactor whose streams are eager.

    To be given to endpoints in place of the reactor: ``serverFromString(EagerStreams(reactor),
    "tcp:7")``. What an endpoint makes without the reactor's methods for streams is as ever.
    """

    def __init__(self, reactor: PosixReactorBase) -> None:
        super().__init__(reactor)
        self.addReader = reactor.addReader
        self.removeReader = reactor.removeReader
        self._untried = Untried(reactor)

    def addWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet.addWriter``."""
        if isinstance(writer, EagerConnection) and writer.connected and not writer.blocked:
            self._untried.add(writer)
        else:
            self.reactor.addWriter(writer)

    def removeWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet.removeWriter``."""
        self._untried.discard(writer)
        self.reactor.removeWriter(writer)

    def forget(self, connection: EagerConnection) -> None:
        """Let go of a connection that is about to be closed."""
        self.removeReader(connection)
        self.removeWriter(connection)


class StockStreams(_Facade):
    """An ``EagerReactor`` whose streams are Twisted's own."""

    listenTCP = PosixReactorBase.listenTCP
    connectTCP = PosixReactorBase.connectTCP
    listenUNIX = PosixReactorBase.listenUNIX
    connectUNIX = PosixReactorBase.connectUNIX
    adoptStreamPort = PosixReactorBase.adoptStreamPort
    adoptStreamConnection = PosixReactorBase.adoptStreamConnection


def with_streams(reactor: Any, *, eager: bool) -> Any:
    """Return what to give to endpoints for a reactor, so that their streams are eager, or not.

    A reactor that has no streams of the POSIX kind is returned as it is.
    """
    if not isinstance(reactor, PosixReactorBase) or isinstance(reactor, EagerMethods) is eager:
        return reactor
    return EagerStreams(reactor) if eager else StockStreams(reactor)
