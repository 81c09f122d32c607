"""A reactor's methods for streams, with eager ports and transports or with Twisted's own."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import attrs
from twisted.internet import error
from twisted.internet.posixbase import PosixReactorBase
from zope.interface import directlyProvides, providedBy

from sockservices.transports import stock_streams, tcp, unix
from sockservices.transports.binding import Binding
from sockservices.transports.clock import keep_steady
from sockservices.transports.unix_binding import Access
from sockservices.transports.unix_stream_port import EagerUnixPort, UnixPort

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class _Listening:
    """The methods that listen, with our own ports."""

    tcp_port: Any
    unix_port: Any
    careful_unix_port: type[UnixPort]
    adopted_unix_port: Any

    def listenTCP(
        self,
        port: Any,
        factory: Any,
        backlog: int = 50,
        interface: str = "",
        ipv6only: bool | None = None,
        binding: Binding | None = None,
    ) -> Any:
        """See ``IReactorTCP.listenTCP``, ``ChoosesFamilies`` and ``Binding``."""
        listening = self.tcp_port(port, factory, backlog, interface, self)
        listening.ipv6only = ipv6only
        listening.binding = binding or Binding()
        listening.startListening()
        return listening

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> Any:
        """See ``IReactorUNIX.listenUNIX``."""
        listening = self.unix_port(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    def listen_at(
        self, address: bytes, factory: Any, backlog: int, access: Access, lockfile: bool
    ) -> Any:
        """Listen on a Unix socket that replaces only a stale file; see ``UnixPort``."""
        listening = self.careful_unix_port(address, factory, backlog, access, lockfile, self)
        listening.startListening()
        return listening

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """See ``IReactorSocket.adoptStreamPort``."""
        _check_family(addressFamily)
        if addressFamily == socket.AF_UNIX:
            port = self.adopted_unix_port._fromListeningDescriptor(self, fileDescriptor, factory)
        else:
            port = self.tcp_port._fromListeningDescriptor(
                self, fileDescriptor, addressFamily, factory
            )
        port.startListening()
        return port


class EagerMethods(_Listening):
    """The methods of ``IReactorTCP`` and ``IReactorUNIX``, and ``IReactorSocket``'s for streams."""

    tcp_port = tcp.Port
    unix_port = unix.Port
    careful_unix_port = EagerUnixPort
    adopted_unix_port = unix.AdoptedPort

    def connectTCP(
        self, host: str, port: Any, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> tcp.Connector:
        """See ``IReactorTCP.connectTCP``."""
        connector = tcp.Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30, checkPID: int = 0
    ) -> unix.Connector:
        """See ``IReactorUNIX.connectUNIX``."""
        connector = unix.Connector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

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
    """A wrapper around a reactor that replaces some of its methods.

    Parameters:
        reactor: any POSIX reactor of Twisted (``epoll``, ``poll``, ``select``, ``asyncio``…).
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reactor, name)

    # Bound here, so that they call our methods for TCP.
    listenSSL = PosixReactorBase.listenSSL
    connectSSL = PosixReactorBase.connectSSL


class EagerStreams(EagerMethods, _Facade):
    """A reactor whose streams are eager. It needs epoll(7).

    Pass it to endpoints in place of the reactor: ``serverFromString(EagerStreams(reactor),
    "tcp:7")``. If an endpoint does not use the reactor's methods for streams, nothing changes.
    """

    def __init__(self, reactor: PosixReactorBase) -> None:
        from sockservices.transports.nest import nest_of  # not available on every system

        super().__init__(reactor)
        keep_steady(reactor)
        self._nest = nest = nest_of(reactor)
        self.addReader, self.removeReader = nest.addReader, nest.removeReader
        self.addWriter, self.removeWriter = nest.addWriter, nest.removeWriter
        self.forget = nest.forget

    @property
    def turn(self) -> int:
        """The number of the reactor's current turn."""
        return self._nest.turn


class StockStreams(_Listening, _Facade):
    """A reactor whose connections are Twisted's own, with counters."""

    tcp_port = stock_streams.TCPPort
    unix_port = stock_streams.UNIXPort
    careful_unix_port = UnixPort
    adopted_unix_port = stock_streams.AdoptedUNIXPort

    connectTCP = PosixReactorBase.connectTCP
    connectUNIX = PosixReactorBase.connectUNIX
    adoptStreamConnection = PosixReactorBase.adoptStreamConnection


class WrappingStreams(_Facade):
    """A reactor that wraps the factory of every port.

    Parameters:
        reactor: the reactor that listens.
        wrap: takes a factory, and returns the one that builds the protocols.
        access: the owner and the group of the files of Unix sockets.
        options: further arguments for ``listenTCP``.
    """

    def __init__(
        self, reactor: Any, wrap: Callable[[Any], Any], access: Access, **options: Any
    ) -> None:
        super().__init__(reactor)
        self._wrap = wrap
        self._access = access
        self._options = options

    def listenTCP(self, port: Any, factory: Any, *rest: Any, **named: Any) -> Any:
        """See ``IReactorTCP.listenTCP``."""
        return self.reactor.listenTCP(port, self._wrap(factory), *rest, **named, **self._options)

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> Any:
        """See ``IReactorUNIX.listenUNIX``."""
        access = attrs.evolve(self._access, mode=mode)
        where = (os.fsencode(address), self._wrap(factory), backlog, access, bool(wantPID))
        return self.reactor.listen_at(*where)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """See ``IReactorSocket.adoptStreamPort``."""
        return self.reactor.adoptStreamPort(fileDescriptor, addressFamily, self._wrap(factory))


class LookingStreams(_Facade):
    """A reactor that does not listen, but remembers the factory it would listen with."""

    factory: Any = None

    def listenTCP(self, port: Any, factory: Any, *rest: Any, **named: Any) -> Any:
        """See ``IReactorTCP.listenTCP``."""
        return self._look(factory)

    def listenUNIX(self, address: Any, factory: Any, *rest: Any, **named: Any) -> Any:
        """See ``IReactorUNIX.listenUNIX``."""
        return self._look(factory)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """See ``IReactorSocket.adoptStreamPort``."""
        return self._look(factory)

    def _look(self, factory: Any) -> Any:
        self.factory = factory
        return SimpleNamespace()  # in place of a port, because listenSSL sets an attribute on it


def with_streams(reactor: Any, *, eager: bool) -> Any:
    """Return a reactor for endpoints, with eager or with stock streams.

    A reactor that is not a POSIX reactor is returned unchanged, and systems without epoll(7) have
    stock streams only.
    """
    if not isinstance(reactor, PosixReactorBase):
        return reactor
    if not (eager and hasattr(select, "epoll")):
        return StockStreams(reactor)
    return reactor if isinstance(reactor, EagerMethods) else EagerStreams(reactor)
