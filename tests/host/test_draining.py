from __future__ import annotations

from typing import Any

import h2.connection
import h2.errors
import h2.events
import pytest
from autobahn.twisted.websocket import (
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from sockservices.connections.ledger import Connection, Ledger
from sockservices.host.draining import drain, drain_foreign
from sockservices.service import IDrainable
from tests.fakes import opened


class Transport(StringTransport):
    bytes_in = 0
    negotiatedProtocol: bytes | None  # noqa: N815 - as INegotiated calls it

    def sent(self) -> bytes:
        sent: bytes = self.value()  # type: ignore[no-untyped-call]
        self.clear()  # type: ignore[no-untyped-call]
        return sent

    def abortConnection(self) -> None: ...  # noqa: N802 - as ITCPTransport calls it

    def setTcpNoDelay(self, enabled: bool) -> None: ...  # noqa: N802 - as ITCPTransport calls it


def _connected(protocol: Any, negotiated: bytes | None = None) -> tuple[Transport, Connection]:
    transport = Transport()  # type: ignore[no-untyped-call]
    transport.negotiatedProtocol = negotiated
    protocol.makeConnection(transport)
    return transport, opened(Ledger("test"), transport, protocol)


def _receive(protocol: Any, transport: Transport, data: bytes) -> None:
    transport.bytes_in += len(data)
    protocol.dataReceived(data)


@implementer(IDrainable)
class Draining(Protocol):
    drained = 0

    def drain(self) -> None:
        self.drained += 1


def test_one_that_can_finish_is_asked_once() -> None:
    protocol = Draining()
    _transport, connection = _connected(protocol)
    drain(connection)
    drain_foreign(connection)
    assert protocol.drained == 1


class Adapted(Protocol):
    drained = 0


@implementer(IDrainable)
class Adapter:
    def __init__(self, protocol: Adapted) -> None:
        self._protocol = protocol

    def drain(self) -> None:
        self._protocol.drained += 1


registerAdapter(Adapter, Adapted, IDrainable)


def test_an_adapter_of_the_author_is_used() -> None:
    protocol = Adapted()
    _transport, connection = _connected(protocol)
    drain(connection)
    drain_foreign(connection)
    assert protocol.drained == 1


def test_any_other_is_left_alone() -> None:
    transport, connection = _connected(Protocol())
    drain(connection)
    drain_foreign(connection)
    assert not transport.disconnecting


class Slow(Resource):
    def getChild(self, path: bytes, request: Any) -> Any:  # noqa: N802 - as Resource calls it
        return self

    def render_GET(self, request: Any) -> Any:  # noqa: N802 - as Resource calls it
        self.request = request
        return NOT_DONE_YET


REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def page() -> Slow:
    return Slow()  # type: ignore[no-untyped-call]


@pytest.fixture
def channel(page: Slow) -> Any:
    return Site(page).buildProtocol(None)


def test_http_that_waits_for_its_next_request_is_closed(page: Slow, channel: Any) -> None:
    transport, connection = _connected(channel)
    _receive(channel, transport, REQUEST)
    page.request.finish()
    assert not transport.disconnecting
    drain_foreign(connection)
    assert transport.disconnecting


def test_http_that_is_new_may_make_its_request(page: Slow, channel: Any) -> None:
    transport, connection = _connected(channel)
    drain_foreign(connection)
    assert not transport.disconnecting
    _receive(channel, transport, REQUEST)
    drain_foreign(connection)
    page.request.finish()
    assert transport.disconnecting
    assert b"\r\nConnection: close\r\n" in transport.sent()


def test_http_answers_first_and_says_that_it_is_the_last(page: Slow, channel: Any) -> None:
    transport, connection = _connected(channel)
    _receive(channel, transport, REQUEST)
    drain_foreign(connection)
    drain_foreign(connection)
    assert not transport.disconnecting
    page.request.write(b"answer")
    drain_foreign(connection)
    assert not transport.disconnecting
    page.request.finish()
    assert transport.disconnecting
    assert transport.sent().count(b"\r\nConnection: close\r\n") == 1


def test_http_2_says_goaway_and_keeps_no_producer_that_tls_would_wait_for(channel: Any) -> None:
    client = h2.connection.H2Connection()
    client.initiate_connection()
    transport, connection = _connected(channel, b"h2")
    _receive(channel, transport, client.data_to_send())
    client.receive_data(transport.sent())
    assert transport.producer is not None
    drain_foreign(connection)
    [event] = client.receive_data(transport.sent())
    assert isinstance(event, h2.events.ConnectionTerminated)
    assert event.error_code == h2.errors.ErrorCodes.NO_ERROR
    assert (transport.disconnecting, transport.producer) == (True, None)
    channel.connectionLost(Failure(ConnectionDone()))  # so that it forgets its timers


@pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction':DeprecationWarning")  # autobahn's
def test_a_websocket_says_that_it_goes_away() -> None:
    factory = WebSocketServerFactory()  # type: ignore[no-untyped-call]
    factory.protocol = WebSocketServerProtocol
    protocol = factory.buildProtocol(None)
    transport, connection = _connected(protocol)
    drain_foreign(connection)  # no websocket yet
    assert transport.sent() == b""
    _receive(
        protocol,
        transport,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    transport.sent()
    drain_foreign(connection)
    drain_foreign(connection)
    assert transport.sent() == b"\x88\x02\x03\xe9"  # once: close, 1001 (RFC 6455, 5.5.1)
