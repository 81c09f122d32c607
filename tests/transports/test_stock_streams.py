from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import tcp, unix
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory

from sockservices.transports import AcceptingPort, Counted
from sockservices.transports.stock_streams import (
    AdoptedUNIXPort,
    TCPPort,
    TCPServer,
    UNIXPort,
    UNIXServer,
)
from sockservices.transports.streams import StockStreams
from sockservices.transports.transport import EagerConnection
from tests.transports.pairs import Pair
from tests.transports.reactors import started


@pytest.fixture
def reactor() -> Iterator[Any]:
    with started(EPollReactor) as made:
        yield made


def test_a_tcp_connection_is_twisteds_own_and_counted(reactor: Any) -> None:
    with Pair(reactor, StockStreams) as pair:
        assert type(pair.port) is TCPPort
        assert type(pair.transport) is TCPServer
        assert isinstance(pair.transport, tcp.Server)
        assert not isinstance(pair.transport, EagerConnection)
        pair.peer.sendall(b"counted")
        pair.until(lambda: pair.protocol.received)
        assert pair.transport.bytes_in == 7


def test_a_unix_connection_is_twisteds_own_and_counted(reactor: Any, tmp_path: Path) -> None:
    with Pair(reactor, StockStreams, tmp_path) as pair:
        assert type(pair.port) is UNIXPort
        assert type(pair.transport) is UNIXServer
        assert isinstance(pair.transport, unix.Server)
        assert not isinstance(pair.transport, EagerConnection)
        pair.protocol.transport.write(b"counted")
        pair.until(lambda: pair.transport.bytes_out == 7)


def test_their_ports_accept_no_more_from_the_moment_that_they_are_told(reactor: Any) -> None:
    with Pair(reactor, StockStreams) as pair, socket.socket() as later:
        where = pair.port.getHost()
        assert isinstance(pair.port, AcceptingPort)
        pair.port.stopReading()
        later.connect(("127.0.0.1", where.port))
        pair.port.sessionno = 100
        for _ in range(3):
            reactor.iterate(0)
        assert pair.port.sessionno == 100
        pair.port.startReading()
        pair.until(lambda: pair.port.sessionno == 101)


def test_a_unix_socket_that_listens_already_is_taken(reactor: Any, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as owned, socket.socket(socket.AF_UNIX) as peer:
        owned.bind(str(tmp_path / "s"))
        owned.listen()
        owned.setblocking(False)
        made: list[Any] = []

        class Noted(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> None:
                made.append(addr)

        port: Any = StockStreams(reactor).adoptStreamPort(owned.fileno(), socket.AF_UNIX, Noted())
        assert type(port) is AdoptedUNIXPort
        assert issubclass(port.transport, Counted)
        peer.connect(str(tmp_path / "s"))
        for _ in range(100):
            reactor.iterate(0)
        assert len(made) == 1
