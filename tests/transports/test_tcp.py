"""Eager TCP: its connections never wait to fill a packet (TCP_NODELAY)."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import ClientFactory, Factory

from sockservices.transports import EagerReactor, EagerStreams
from tests.transports.reactors import Noting, started, turn_until


@pytest.fixture(params=[EPollReactor, EagerReactor])
def reactor(request: Any) -> Any:
    with started(request.param) as made:
        yield made


def _no_delay(of: Any) -> bool:
    return bool(of.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


def test_no_connection_waits_for_acknowledgements(reactor: Any) -> None:
    streams = reactor if isinstance(reactor, EagerReactor) else EagerStreams(reactor)
    accepted: list[Any] = []
    accepting = Factory.forProtocol(lambda: Noting(accepted))
    port: Any = streams.listenTCP(0, accepting, interface="127.0.0.1")
    with (
        socket.create_connection(("127.0.0.1", port.getHost().port)),
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        turn_until(reactor, lambda: accepted)
        assert _no_delay(accepted[0].transport.socket)
        made: list[Any] = []
        factory = ClientFactory.forProtocol(lambda: Noting(made))
        streams.connectTCP("127.0.0.1", listening.getsockname()[1], factory)
        turn_until(reactor, lambda: made)
        assert _no_delay(made[0].transport.socket)
        made[0].transport.setTcpNoDelay(False)
        assert not _no_delay(made[0].transport.socket)
        made[0].transport.loseConnection()


@pytest.mark.parametrize("is_set", [False, True])
def test_nor_does_one_from_a_socket_of_somebody_else(reactor: Any, is_set: bool) -> None:
    streams = reactor if isinstance(reactor, EagerReactor) else EagerStreams(reactor)
    made: list[Any] = []
    factory = Factory.forProtocol(lambda: Noting(made))
    with socket.create_server(("127.0.0.1", 0)) as owned:
        owned.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, is_set)
        owned.setblocking(False)
        port = streams.adoptStreamPort(owned.fileno(), socket.AF_INET, factory)
        with socket.create_connection(owned.getsockname()) as peer:
            turn_until(reactor, lambda: made)
            assert _no_delay(made[0].transport.socket)
            assert _no_delay(owned) == is_set  # which is its owner's affair
            other = peer.dup()
            other.setblocking(False)
            streams.adoptStreamConnection(other.fileno(), socket.AF_INET, factory)
            assert _no_delay(made[1].transport.socket)
            other.close()
        port.stopListening()
