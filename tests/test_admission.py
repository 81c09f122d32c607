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

from sockservices.admission import Door
from sockservices.ledger import Ledger
from tests.fakes import connected, logged

_PEER = IPv4Address("TCP", "127.0.0.1", 40000)


def _admitting(factory: Any, ledger: Ledger | None = None) -> Any:
    return Door("tcp:7", ledger or Ledger("test")).admitting(factory)


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
    transport, other = StringTransport(), StringTransport()
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
    assert (connection.listener, connection.transport) == ("tcp:7", transport)
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
        return Layer(self._above.buildProtocol(addr))


def test_with_a_layer_between_the_outer_one_admits_for_both() -> None:
    ledger, transport = Ledger("test"), StringTransport()
    door = Door("tcp:7", ledger)
    inner = door.admitting(Factory.forProtocol(Greeting))
    outer = door.admitting(LayerFactory(inner))
    assert door.admitting(inner) is inner
    protocol: Any = outer.buildProtocol(_PEER)
    protocol.above.connectionMade = lambda: None
    connected(protocol, transport)
    [connection] = ledger
    assert connection.transport is transport
    assert isinstance(connection.protocol, Greeting)


def test_with_a_layer_between_what_the_service_refuses_is_refused() -> None:
    ledger = Ledger("test")
    door = Door("tcp:7", ledger)
    outer = door.admitting(LayerFactory(door.admitting(Watched(None))))
    assert outer.buildProtocol(_PEER) is None
    assert ledger.totals.refused == {"service": 1}


def test_tls_may_ask_which_protocols_the_service_speaks() -> None:
    @implementer(IProtocolNegotiationFactory)
    class Negotiating(Factory):
        def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 - Twisted's name
            return [b"h2"]

    admitting = _admitting(Negotiating())
    assert IProtocolNegotiationFactory.providedBy(admitting)
    assert admitting.acceptableProtocols() == [b"h2"]
    assert not IProtocolNegotiationFactory.providedBy(_admitting(Factory()))
