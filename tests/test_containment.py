from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from zope.interface.verify import verifyObject

from sockservices.containment import ContainedFactory
from tests.fakes import connected, logged

_PEER = IPv4Address("TCP", "127.0.0.1", 40000)


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
    protocol = ContainedFactory(factory).buildProtocol(_PEER)
    assert isinstance(protocol, Greeting)
    assert protocol.factory is factory
    transport = StringTransport()
    connected(protocol, transport)
    assert transport.value() == b"hello"
    assert protocol.transport is transport
    assert vars(protocol).keys() == {"factory", "transport", "connected"}  # nothing is left on it


def test_a_factory_is_started_and_stopped_as_without_it() -> None:
    factory = Watched(Greeting)
    contained = ContainedFactory(factory)
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
        assert ContainedFactory(Watched(None)).buildProtocol(_PEER) is None
    assert events == []


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_a_factory_that_fails_refuses_the_connection(error: type[BaseException]) -> None:
    class Broken(Factory):
        def buildProtocol(self, addr: Any) -> Protocol:
            raise error("broken")

    with logged() as events:
        assert ContainedFactory(Broken()).buildProtocol(_PEER) is None
    [event] = events
    assert (event["what"], event["peer"]) == ("Broken", "127.0.0.1, port 40000")
    assert event["log_failure"].check(error)


def test_a_protocol_that_fails_when_it_is_connected_is_cut_off() -> None:
    transport, other = StringTransport(), StringTransport()
    factory = ContainedFactory(Factory.forProtocol(Fragile))
    with logged() as events:
        connected(factory.buildProtocol(_PEER), transport)
    assert transport.disconnected
    [event] = events
    assert (event["what"], event["peer"]) == ("Fragile", "127.0.0.1, port 40000")
    assert event["log_failure"].check(RuntimeError)
    connected(ContainedFactory(Watched(Greeting)).buildProtocol(_PEER), other)
    assert not other.disconnected


def test_a_protocol_with_slots_is_left_as_it_is() -> None:
    class Slotted:
        __slots__ = ("transport",)

        def makeConnection(self, transport: object) -> None:
            self.transport = transport

    class Slots(Factory):
        def buildProtocol(self, addr: Any) -> Any:
            return Slotted()

    protocol = ContainedFactory(Slots()).buildProtocol(_PEER)
    protocol.makeConnection("transport")
    assert protocol.transport == "transport"
