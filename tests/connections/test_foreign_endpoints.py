from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockservices.connections.foreign_endpoints import ForeignAcceptor
from sockservices.connections.ledger import Ledger
from sockservices.connections.lifecycle import Hooks
from sockservices.connections.limits import Limits
from sockservices.connections.parts import Part
from sockservices.connections.proxy_protocol import ProxyProtocol
from tests.fakes import connected, context, logged

_PEER = IPv4Address("TCP", "127.0.0.1", 40000)


def _admitting(factory: Any, ledger: Ledger | None = None) -> Any:
    return _acceptor(factory, ledger).inner


def _acceptor(factory: Any, ledger: Ledger | None = None, *parts: Part) -> ForeignAcceptor:
    ledger = ledger or Ledger("test")
    hooks = Hooks()
    hooks.refresh(part.begin(context(ledger)) for part in parts)
    return ForeignAcceptor("foreign:7", factory, ledger, hooks)


class Lasting(StringTransport):
    """A transport that can be told of its end."""

    protocol: Any = None

    def end(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        super().abortConnection()  # type: ignore[no-untyped-call]
        self.end()


class Greeting(Protocol):
    transport: Any

    def connectionMade(self) -> None:
        self.transport.write(b"hello")


class Fragile(Protocol):
    def connectionMade(self) -> None:
        raise RuntimeError("broken")


class Watched(Factory):
    """Remembers what it was told."""

    def __init__(self, protocol: type[Protocol] | None) -> None:
        self.protocol = protocol
        self.told: list[str] = []

    def startFactory(self) -> None:
        self.told.append("start")

    def stopFactory(self) -> None:
        self.told.append("stop")

    def buildProtocol(self, addr: Any) -> Any:
        if self.protocol is None:
            return None
        return super().buildProtocol(addr)


def test_a_protocol_is_built_and_connected_as_without_it() -> None:
    factory = Watched(Greeting)
    protocol = _admitting(factory).buildProtocol(_PEER)
    assert isinstance(protocol, Greeting)
    assert protocol.factory is factory
    transport = StringTransport()
    connected(protocol, transport)
    assert transport.value() == b"hello"
    assert protocol.transport is transport
    assert "makeConnection" not in vars(protocol)


def test_a_factory_is_started_and_stopped_as_without_it() -> None:
    factory = Watched(Greeting)
    contained = _admitting(factory)
    verifyObject(IProtocolFactory, contained)
    for _ in range(2):
        contained.doStart()
    contained.doStop()
    assert factory.told == ["start"]
    contained.doStop()
    assert factory.told == ["start", "stop"]
    assert contained.logPrefix() == "Watched"


def test_a_factory_that_refuses_a_connection_may_do_so() -> None:
    with logged() as events:
        assert _admitting(Watched(None)).buildProtocol(_PEER) is None
    assert events == []


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_a_factory_that_fails_refuses_the_connection(error: type[BaseException]) -> None:
    class Broken(Factory):
        def buildProtocol(self, addr: Any) -> Protocol:
            raise error("broken")

    with logged() as events:
        assert _admitting(Broken()).buildProtocol(_PEER) is None
    [event] = events
    assert (event["what"], event["peer"]) == ("Broken", "127.0.0.1, port 40000")
    assert event["log_failure"].check(error)


def test_a_protocol_that_fails_when_it_is_connected_is_cut_off() -> None:
    transport, other = StringTransport(peerAddress=_PEER), StringTransport()
    factory = _admitting(Factory.forProtocol(Fragile))
    with logged() as events:
        connected(factory.buildProtocol(_PEER), transport)
    assert transport.disconnected
    [event] = events
    assert (event["what"], event["peer"]) == ("Fragile", "127.0.0.1, port 40000")
    assert event["log_failure"].check(RuntimeError)
    connected(_admitting(Watched(Greeting)).buildProtocol(_PEER), other)
    assert not other.disconnected


class Slotted:
    """A protocol on which nothing else can be set."""

    __slots__ = ("transport",)

    def makeConnection(self, transport: object) -> None:
        self.transport = transport

    def connectionLost(self, reason: Failure) -> None: ...


def test_a_protocol_with_slots_takes_the_place_that_was_kept_for_it() -> None:
    ledger, transport = Ledger("test"), Lasting()  # type: ignore[no-untyped-call]
    protocol: Any = Slotted()
    starter = _admitting(_Returning(protocol), ledger).buildProtocol(_PEER)
    starter.makeConnection(transport)
    assert transport.protocol is protocol
    assert protocol.transport is transport
    assert [each.protocol for each in ledger] == [protocol]


class _Returning(Factory):
    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Any:
        return self._protocol


def test_a_protocol_keeps_methods_of_its_own() -> None:
    told: list[Any] = []
    protocol: Any = Protocol()
    protocol.makeConnection = lambda transport: told.append("made")
    protocol.connectionLost = lambda reason: told.append("lost")
    built = _admitting(_Returning(protocol)).buildProtocol(_PEER)
    built.makeConnection(StringTransport())
    built.connectionLost(Failure(ConnectionDone()))
    assert told == ["made", "lost"]


def test_the_ledger_has_a_connection_from_its_beginning_to_its_end() -> None:
    ledger, transport = Ledger("test"), StringTransport()
    protocol = _admitting(Factory.forProtocol(Protocol), ledger).buildProtocol(_PEER)
    assert ledger.live == 0
    protocol.makeConnection(transport)
    [connection] = ledger
    assert (connection.listener, connection.transport) == ("foreign:7", transport)
    assert connection.protocol is protocol
    protocol.connectionLost(Failure(ConnectionDone()))
    assert (ledger.live, ledger.totals.closed) == (0, {"closed": 1})


def test_one_that_fails_is_opened_and_closed_once() -> None:
    ledger, transport = Ledger("test"), Lasting()  # type: ignore[no-untyped-call]
    protocol = _admitting(Factory.forProtocol(Fragile), ledger).buildProtocol(_PEER)
    transport.protocol = protocol
    with logged():
        protocol.makeConnection(transport)
    assert (ledger.totals.opened, ledger.totals.closed) == (1, {"closed": 1})


def test_what_the_service_refuses_is_in_the_ledger() -> None:
    ledger = Ledger("test")
    assert _admitting(Watched(None), ledger).buildProtocol(_PEER) is None
    assert (ledger.totals.opened, ledger.totals.refused) == (0, {"service": 1})


class Layer(Protocol):
    """What an endpoint may put between a transport and a service, as TLS."""

    def __init__(self, above: Any) -> None:
        self.above: Any = above

    def connectionMade(self) -> None:
        self.above.makeConnection(self)


class LayerFactory(Factory):
    def __init__(self, above: Any) -> None:
        self._above = above

    def buildProtocol(self, addr: Any) -> Any:
        layer = Layer(self._above.buildProtocol(addr))
        layer.factory = self
        return layer


def test_with_a_layer_between_it_is_known_what_the_service_has_built() -> None:
    acceptor = _acceptor(Factory.forProtocol(Greeting))
    assert acceptor.around(LayerFactory(acceptor.inner)) is acceptor
    protocol, served = acceptor.build(_PEER)
    assert isinstance(protocol, Layer)
    assert protocol.above is served
    assert isinstance(served, Greeting)


def test_with_a_layer_between_what_the_service_refuses_is_refused() -> None:
    acceptor = _acceptor(Watched(None))
    acceptor.around(LayerFactory(acceptor.inner))
    assert acceptor.build(_PEER)[1] is None


def test_a_layer_that_fails_or_refuses_builds_nothing() -> None:
    acceptor = _acceptor(Factory.forProtocol(Greeting))
    acceptor.build(_PEER)
    for layers in (Watched(None), object()):
        acceptor.around(layers)
        with logged() as events:
            assert acceptor.build(_PEER) == (None, None)
        assert len(events) == (not isinstance(layers, Watched))


def test_other_layers_take_the_place_of_those_before_also_at_another_start() -> None:
    acceptor = _acceptor(Factory.forProtocol(Greeting))
    before, after = LayerFactory(acceptor.inner), LayerFactory(acceptor.inner)
    acceptor.renew(before)  # it does not listen yet
    assert not acceptor.is_listening
    acceptor.around(LayerFactory(acceptor.inner))
    acceptor.renew(after)
    for _ in range(2):
        protocol, _served = acceptor.build(_PEER)
        assert protocol.factory is after
        acceptor.around(before)


# On a port that is not ours, whose connections have to be asked for more


def _behind_a_proxy(ledger: Ledger, factory: Any) -> tuple[Any, Any]:
    acceptor = _acceptor(factory, ledger, ProxyProtocol(proxy_protocol="v1"), Limits())
    return acceptor, acceptor.inner.buildProtocol(_PEER)


def test_a_header_is_read_and_its_client_shown() -> None:
    ledger = Ledger("test")
    transport: Any = Lasting()  # type: ignore[no-untyped-call]
    _acceptor, protocol = _behind_a_proxy(ledger, Watched(Echoing))
    protocol.makeConnection(transport)
    [connection] = ledger
    assert connection.protocol is None
    protocol.dataReceived(b"PROXY TCP4 192.0.2.1 192.0.2.2 10")
    protocol.dataReceived(b"00 2000\r\nwith it ")
    protocol.dataReceived(b"after it")
    assert transport.value() == b"with it after it"
    assert (transport.getPeer().host, transport.getHost().host) == ("192.0.2.1", "192.0.2.2")
    assert isinstance(connection.protocol, Echoing)
    protocol.connectionLost(Failure(ConnectionDone()))
    assert (ledger.live, ledger.totals.closed) == (0, {"closed": 1})


@pytest.mark.parametrize(
    ("sent", "reason"), [(b"hello", "proxy-header"), (b"PROXY UNKNOWN\r\n", "service")]
)
def test_one_that_is_refused_after_its_header_ends(sent: bytes, reason: str) -> None:
    ledger = Ledger("test")
    transport: Any = Lasting()  # type: ignore[no-untyped-call]
    _acceptor, protocol = _behind_a_proxy(ledger, Watched(None))
    transport.protocol = protocol
    protocol.makeConnection(transport)
    with logged():
        protocol.dataReceived(sent)
    assert transport.disconnected
    assert (ledger.live, ledger.totals.refused) == (0, {reason: 1})


def test_one_that_may_not_come_is_ended_and_refused_once() -> None:
    ledger, transport = Ledger("test"), StringTransport()
    nowhere = ProxyProtocol(proxy_protocol="v1", proxy_allow_from=())
    protocol = _acceptor(Watched(Echoing), ledger, nowhere).inner.buildProtocol(_PEER)
    protocol.makeConnection(transport)
    assert transport.disconnected
    protocol.dataReceived(b"PROXY UNKNOWN\r\n")
    protocol.connectionLost(Failure(ConnectionDone()))
    assert (ledger.live, ledger.totals.refused) == (0, {"proxy-allow-from": 1})


def test_limits_hold_for_ports_that_are_not_ours() -> None:
    ledger, transport = Ledger("test"), StringTransport()
    inner = _acceptor(Watched(Echoing), ledger, Limits(max_connections=1)).inner
    connected(inner.buildProtocol(_PEER), transport)
    assert inner.buildProtocol(_PEER) is None
    assert ledger.totals.refused == {"max-connections": 1}


class Echoing(Protocol):
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


def test_tls_may_ask_which_protocols_the_service_speaks() -> None:
    @implementer(IProtocolNegotiationFactory)
    class Negotiating(Factory):
        def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 - Twisted's name
            return [b"h2"]

    admitting = _admitting(Negotiating())
    assert IProtocolNegotiationFactory.providedBy(admitting)
    assert admitting.acceptableProtocols() == [b"h2"]
    assert not IProtocolNegotiationFactory.providedBy(_admitting(Factory()))


class Sniffing(Factory):
    """A layer that builds the service's protocol when the first bytes have come."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def buildProtocol(self, addr: Any) -> Any:
        return Protocol()


def test_a_layer_may_build_the_services_protocol_later() -> None:
    acceptor = _acceptor(Factory.forProtocol(Greeting))
    acceptor.around(Sniffing(acceptor.inner))
    protocol, served = acceptor.build(_PEER)
    assert protocol is served
    assert type(protocol) is Protocol
    assert isinstance(acceptor.inner.buildProtocol(_PEER), Greeting)
