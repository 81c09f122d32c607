"""What a reactor offers for streams, with eager ports and transports."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import error
from twisted.internet.posixbase import PosixReactorBase
from zope.interface import directlyProvides, providedBy

from sockservices.eager import tcp, unix

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class StreamsMixin:
    """``IReactorTCP``, ``IReactorUNIX`` and the streams of ``IReactorSocket``.

    ``_reactor`` is what the ports and transports are watched by.
    """

    _reactor: Any

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> tcp.Port:
        """See ``IReactorTCP.listenTCP``."""
        listening = tcp.Port(port, factory, backlog, interface, self._reactor)
        listening.startListening()
        return listening

    def connectTCP(
        self, host: str, port: Any, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> tcp.Connector:
        """See ``IReactorTCP.connectTCP``."""
        connector = tcp.Connector(host, port, factory, timeout, bindAddress, self._reactor)
        connector.connect()
        return connector

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> unix.Port:
        """See ``IReactorUNIX.listenUNIX``."""
        listening = unix.Port(address, factory, backlog, mode, self._reactor, wantPID)
        listening.startListening()
        return listening

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30, checkPID: int = 0
    ) -> unix.Connector:
        """See ``IReactorUNIX.connectUNIX``."""
        connector = unix.Connector(address, factory, timeout, self._reactor, checkPID)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """See ``IReactorSocket.adoptStreamPort``."""
        _check_family(addressFamily)
        if addressFamily == socket.AF_UNIX:
            port: Any = unix.Port._fromListeningDescriptor(self._reactor, fileDescriptor, factory)
        else:
            port = tcp.Port._fromListeningDescriptor(
                self._reactor, fileDescriptor, addressFamily, factory
            )
        port.startListening()
        return port

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """See ``IReactorSocket.adoptStreamConnection``."""
        _check_family(addressFamily)
        if addressFamily == socket.AF_UNIX:
            return unix.Server._fromConnectedSocket(fileDescriptor, factory, self._reactor)
        return tcp.Server._fromConnectedSocket(
            fileDescriptor, addressFamily, factory, self._reactor
        )


def _check_family(family: int) -> None:
    if family not in _FAMILIES:
        raise error.UnsupportedAddressFamily(family)


class EagerStreams(StreamsMixin):
    """A reactor as it is, but for its streams, which are eager.

    To be given to endpoints in place of the reactor: ``serverFromString(EagerStreams(reactor),
    "tcp:7")``. What an endpoint makes without the reactor's methods for streams is as ever.

    Parameters:
        reactor: any POSIX reactor of Twisted (``epoll``, ``poll``, ``select``, ``asyncio``…).
    """

    # These need only the methods above.
    listenSSL = PosixReactorBase.listenSSL
    connectSSL = PosixReactorBase.connectSSL

    def __init__(self, reactor: PosixReactorBase) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
