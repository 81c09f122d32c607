from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ILoggingContext
from twisted.internet.protocol import Protocol
from twisted.python import log
from zope.interface import implementer

from sockservices.transports import tcp
from sockservices.transports.proxied import Proxied, log_prefix, proxied_kind
from sockservices.transports.stock_streams import TCPServer, UNIXServer
from tests.fakes import ManualReactor, connected, logged
from tests.transports.pairs import Remembering

CLIENT = IPv4Address("TCP", "192.0.2.1", 4000)
HERE = IPv4Address("TCP", "198.51.100.1", 7)


class Setup:
    """A connection from a proxy, on a reactor that is turned by hand."""

    def __init__(self, accepted: socket.socket, peer: tuple[str, int]) -> None:
        self.reactor = ManualReactor()
        self.before = Remembering()
        kind = proxied_kind(TCPServer)
        self.transport: Any = kind(accepted, self.before, peer, None, 5, self.reactor)
        connected(self.before, self.transport)


@pytest.fixture
def setup() -> Iterator[Setup]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()),
    ):
        accepted, peer = listening.accept()
        with accepted:
            accepted.setblocking(False)
            yield Setup(accepted, peer)


def test_it_shows_the_proxy_until_it_is_told_of_another(setup: Setup) -> None:
    assert setup.transport.getPeer().host == "127.0.0.1"
    assert setup.transport.getHost().host == "127.0.0.1"
    setup.transport.show(CLIENT, HERE)
    assert setup.transport.getPeer() == CLIENT
    assert setup.transport.getHost() == HERE


def test_what_came_with_the_header_is_for_the_next_protocol(setup: Setup) -> None:
    setup.transport.show(CLIENT, HERE)
    protocol = Remembering()
    setup.transport.hand_over(protocol, b"rest")
    assert setup.transport.protocol is protocol
    assert protocol.transport is setup.transport
    assert protocol.received == b"rest"
    assert setup.before.received == b""
    assert setup.transport in setup.reactor.readers


def test_without_a_rest_it_is_connected_and_given_nothing(setup: Setup) -> None:
    class Strict(Remembering):
        def dataReceived(self, data: bytes) -> None:
            raise AssertionError(data)

    strict = Strict()
    with logged() as events:
        setup.transport.hand_over(strict, b"")
    assert strict.transport is setup.transport
    assert events == []


class Pausing(Remembering):
    """Pauses until it has somewhere to put what comes."""

    def connectionMade(self) -> None:
        self.transport.pauseProducing()


def test_a_protocol_that_pauses_at_first_gets_the_rest_when_it_resumes(setup: Setup) -> None:
    protocol = Pausing()
    setup.transport.hand_over(protocol, b"rest")
    setup.reactor.advance(0)
    assert protocol.received == b""
    assert setup.transport not in setup.reactor.readers
    protocol.transport.resumeProducing()
    assert protocol.received == b""  # not within its own call
    setup.reactor.advance(0)
    assert protocol.received == b"rest"
    assert setup.transport in setup.reactor.readers
    protocol.transport.resumeProducing()
    setup.reactor.advance(0)
    assert protocol.received == b"rest"


def test_one_that_resumes_and_pauses_again_is_left_alone(setup: Setup) -> None:
    protocol = Pausing()
    setup.transport.hand_over(protocol, b"rest")
    protocol.transport.resumeProducing()
    protocol.transport.pauseProducing()
    setup.reactor.advance(0)
    assert protocol.received == b""
    protocol.transport.resumeProducing()
    setup.reactor.advance(0)
    assert protocol.received == b"rest"


def test_a_connection_that_ends_before_delivers_nothing(setup: Setup) -> None:
    protocol = Pausing()
    setup.transport.hand_over(protocol, b"rest")
    protocol.transport.resumeProducing()
    setup.transport.abortConnection()
    setup.reactor.advance(0)
    assert protocol.received == b""
    assert len(protocol.reasons) == 1


def test_a_protocol_that_fails_on_the_rest_ends_its_connection_under_the_clients_name(
    setup: Setup,
) -> None:
    class Failing(Remembering):
        def dataReceived(self, data: bytes) -> None:
            raise ValueError(data)

    setup.transport.show(CLIENT, HERE)
    protocol = Failing()
    with logged() as events:
        setup.transport.hand_over(protocol, b"rest")
    setup.reactor.advance(0)
    [failed] = [each for each in events if "log_failure" in each]
    assert failed["log_failure"].check(ValueError)
    assert "192.0.2.1" in failed["peer"]
    assert len(protocol.reasons) == 1


def test_what_is_logged_says_the_protocol_and_the_client(setup: Setup) -> None:
    class Saying(Remembering):
        def dataReceived(self, data: bytes) -> None:
            log.msg("said")

    setup.transport.show(CLIENT, HERE)
    with logged() as events:
        setup.transport.hand_over(Saying(), b"rest")
    assert [each["log_system"] for each in events] == ["Saying,5,192.0.2.1"]
    assert setup.transport.logPrefix() == "Saying,5,192.0.2.1"


def test_a_kind_of_transports_is_made_once() -> None:
    for kind in (TCPServer, UNIXServer, tcp.Server):
        made = proxied_kind(kind)
        assert issubclass(made, kind)
        assert issubclass(made, Proxied)
        assert proxied_kind(kind) is made


def test_what_has_a_prefix_of_its_own_is_logged_by_that() -> None:
    @implementer(ILoggingContext)
    class Named:
        def logPrefix(self) -> str:
            return "its own"

    assert log_prefix(Named()) == "its own"
    assert log_prefix(Protocol()) == "Protocol"
    assert log_prefix(object()) == "object"
