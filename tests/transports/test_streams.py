"""What gives eager transports to a reactor, and takes them from one."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import tcp as stock_tcp
from twisted.internet import unix as stock_unix
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import IReactorSSL, IReactorTCP, IReactorTime
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.task import Clock
from zope.interface import providedBy

from sockservices.transports import (
    EagerMethods,
    EagerReactor,
    EagerStreams,
    tcp,
    unix,
    with_streams,
)
from sockservices.transports.nest import nest_of
from sockservices.transports.polling import is_readable
from sockservices.transports.streams import StockStreams
from tests.transports.reactors import started, turn_until


@pytest.fixture
def reactor() -> Any:
    with started(EPollReactor) as made:
        yield made


class Keeping(ClientFactory):
    noisy = False

    def __init__(self) -> None:
        self.built: list[Protocol] = []

    def buildProtocol(self, addr: Any) -> Protocol:
        self.built.append(Protocol())
        return self.built[-1]

    @property
    def transport(self) -> Any:
        return self.built[0].transport


def test_it_provides_what_the_reactor_does(reactor: Any) -> None:
    streams = EagerStreams(reactor)
    assert list(providedBy(streams)) == list(providedBy(reactor))
    assert IReactorTCP.providedBy(streams)
    assert IReactorTime.providedBy(streams)
    assert IReactorSSL.providedBy(streams)


def test_all_else_is_the_reactors(reactor: Any) -> None:
    streams = EagerStreams(reactor)
    assert streams.callLater == reactor.callLater
    assert streams.listenUDP == reactor.listenUDP
    with pytest.raises(AttributeError):
        streams.no_such_thing  # noqa: B018


def test_listeners_and_connections_are_eager(reactor: Any, tmp_path: Path) -> None:
    streams = EagerStreams(reactor)
    path = str(tmp_path / "s")
    servers, clients = Keeping(), Keeping()
    port: Any = streams.listenTCP(0, servers, interface="127.0.0.1")
    streams.connectTCP("127.0.0.1", port.getHost().port, clients)
    turn_until(reactor, lambda: servers.built and clients.built)
    assert (type(servers.transport), type(clients.transport)) == (tcp.Server, tcp.Client)
    servers, clients = Keeping(), Keeping()
    streams.listenUNIX(path, servers)
    streams.connectUNIX(path, clients)
    turn_until(reactor, lambda: servers.built and clients.built)
    assert (type(servers.transport), type(clients.transport)) == (unix.Server, unix.Client)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_adopted_sockets_are_eager(reactor: Any, family: int, tmp_path: Path) -> None:
    streams = EagerStreams(reactor)
    module: Any = unix if family == socket.AF_UNIX else tcp
    factory = Keeping()
    with socket.socket(family) as listening, socket.socket(family) as peer:
        listening.bind(str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listening.listen()
        peer.connect(listening.getsockname())
        connection, _address = listening.accept()
        with connection:
            connection.setblocking(False)
            streams.adoptStreamConnection(connection.fileno(), family, factory)
        assert type(factory.transport) is module.Server
        listening.setblocking(False)
        port = streams.adoptStreamPort(listening.fileno(), family, factory)
        assert type(port) is (module.AdoptedPort if module is unix else module.Port)


def test_another_family_is_refused(reactor: Any) -> None:
    streams = EagerStreams(reactor)
    with pytest.raises(UnsupportedAddressFamily):
        streams.adoptStreamPort(0, socket.AF_APPLETALK, Factory())
    with pytest.raises(UnsupportedAddressFamily):
        streams.adoptStreamConnection(0, socket.AF_APPLETALK, Factory())


def test_with_streams(reactor: Any) -> None:
    eager = with_streams(reactor, eager=True)
    assert isinstance(eager, EagerMethods)
    assert isinstance(with_streams(reactor, eager=False), StockStreams)
    clock = Clock()
    assert with_streams(clock, eager=True) is clock


def test_an_eager_reactor_can_have_twisteds_own(tmp_path: Path) -> None:
    with started(EagerReactor) as reactor:
        assert with_streams(reactor, eager=True) is reactor
        streams = with_streams(reactor, eager=False)
        factory = Keeping()
        port = streams.listenTCP(0, factory, interface="127.0.0.1")
        with socket.create_connection(("127.0.0.1", port.getHost().port)) as peer:
            turn_until(reactor, lambda: factory.built)
            assert isinstance(factory.transport, stock_tcp.Server)
            assert not isinstance(factory.transport, tcp.Server)
            factory.transport.write(b"x")
            factory.transport.loseConnection()
            turn_until(reactor, lambda: factory.transport.disconnected)
            assert peer.recv(10) == b"x"
        unix_port = streams.listenUNIX(str(tmp_path / "s"), factory)
        assert issubclass(unix_port.transport, stock_unix.Server)
        assert not issubclass(unix_port.transport, unix.Server)


class Poller:
    """An ``epoll`` object that counts what is registered."""

    def __init__(self, poller: Any) -> None:
        self.poll, self.modify, self.unregister = poller.poll, poller.modify, poller.unregister
        self._register = poller.register
        self.registered = 0

    def register(self, descriptor: int, events: int) -> None:
        self.registered += 1
        self._register(descriptor, events)


def test_a_connection_that_is_closed_when_it_is_made_is_never_watched(
    reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closing(Protocol):
        transport: Any

        def connectionMade(self) -> None:
            if closes:
                self.transport.loseConnection()

    streams = EagerStreams(reactor)
    nest = nest_of(reactor)
    poller = Poller(nest._poller)
    monkeypatch.setattr(nest, "_poller", poller)
    port = streams.listenTCP(0, Factory.forProtocol(Closing), interface="127.0.0.1")
    address = ("127.0.0.1", port.getHost().port)
    closes = True
    with socket.create_connection(address) as client:
        turn_until(reactor, lambda: is_readable(client.fileno()))
        assert (client.recv(1), poller.registered) == (b"", 0)
    closes = False
    with socket.create_connection(address):
        turn_until(reactor, lambda: poller.registered)
        assert poller.registered == 1


def test_a_port_that_accepts_while_another_does_keeps_its_connections(reactor: Any) -> None:
    class Counting(Protocol):
        def connectionMade(self) -> None:
            made.append(self)
            if len(made) == 1:
                other.doRead()

        def dataReceived(self, data: bytes) -> None:
            received.append(data)

    made: list[Any] = []
    received: list[bytes] = []
    streams, factory = EagerStreams(reactor), Factory.forProtocol(Counting)
    ports = [streams.listenTCP(0, factory, interface="127.0.0.1") for _ in range(2)]
    first, other = ports
    with ExitStack() as stack:
        for port in (other, first):
            address = ("127.0.0.1", port.getHost().port)
            stack.enter_context(socket.create_connection(address)).sendall(b"x")
        first.doRead()
        turn_until(reactor, lambda: len(received) == 2)
