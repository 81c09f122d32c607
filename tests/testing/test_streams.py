"""What a contract for streams asks a service, and with what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockservices.service import IDrainable
from sockservices.testing import ContractError, StreamServiceContract, rules

RULES = [name for name in dir(StreamServiceContract) if name[:5] == "test_"]
CUT = "test_any_cutting_of_the_input_gives_the_same_output"
ANY = "test_no_input_raises_an_exception"
ENDLESS = "test_a_message_that_never_ends_takes_bounded_memory"
UNREAD = "test_a_peer_that_never_reads_takes_bounded_memory"


class Told(Protocol):
    """Tells its factory what it was told."""

    factory: Any
    transport: Any

    def connectionMade(self) -> None:
        verifyObject(ITCPTransport, self.transport)
        self.received: list[bytes] = []
        self.factory.connections.append(self.received)

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)


class Telling(Factory):
    noisy = False
    protocol = Told
    connections: list[list[bytes]]
    happened: list[str]

    def startFactory(self) -> None:
        self.happened.append("start")

    def stopFactory(self) -> None:
        self.happened.append("stop")


def _told(test: str, protocol: type[Protocol] = Told, **more: Any) -> Any:
    """Hold a service to a rule; returns the class of its factories, which was told things."""
    memory: dict[str, Any] = {"connections": [], "happened": [], "protocol": protocol}
    factory = type("Telling", (Telling,), memory)
    contract = type("Contract", (StreamServiceContract,), {"factory": factory, **more})
    getattr(contract(), test)()
    return factory


def test_an_example_is_given_whole_and_in_all_pieces() -> None:
    connections = _told(CUT, examples=[b"hello\n"]).connections
    assert {b"".join(each) for each in connections} == {b"hello\n"}
    assert [b"hello\n"] in connections
    assert [b"h", b"e", b"l", b"l", b"o", b"\n"] in connections
    assert len({tuple(each) for each in connections}) > 3


def test_with_a_strategy_its_inputs_are_given() -> None:
    connections = _told(CUT, inputs=st.sampled_from([b"ab", b"cd"])).connections
    assert {b"".join(each) for each in connections} == {b"ab", b"cd"}


def test_what_means_something_is_given_with_rubbish_and_without() -> None:
    said = {b"".join(each) for each in _told(ANY, examples=[b"hello\n"]).connections}
    assert b"hello\n" in said
    assert any(b"hello\n" in each and each != b"hello\n" for each in said)
    assert any(b"hello\n" not in each for each in said)


def test_a_message_that_never_ends_begins_and_goes_on_as_it_is_told_to() -> None:
    class Counting(Told):
        def dataReceived(self, data: bytes) -> None:
            if len(self.received) < 2:
                super().dataReceived(data)
            self.factory.__class__.count = getattr(self.factory, "count", 0) + len(data)

    factory = _told(ENDLESS, Counting, endless=b"ab", endless_after=b"9:", max_memory=1 << 18)
    [[begun, piece]] = factory.connections
    assert begun == b"9:"
    assert piece == b"ab" * (len(piece) // 2)
    assert 1 << 18 < factory.count < 1 << 20


def test_a_service_that_closes_is_sent_no_more() -> None:
    class Closing(Told):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.loseConnection()

    for test in (ENDLESS, UNREAD):
        assert {len(each) for each in _told(test, Closing, examples=[b"x"]).connections} == {1}


@pytest.mark.parametrize("most", [1 << 16, 1 << 22])
def test_memory_is_bounded_by_what_an_author_allows(most: int) -> None:
    class Hoarding(Told):
        def dataReceived(self, data: bytes) -> None:
            self.received.append(bytes(bytearray(data)))
            if sum(map(len, self.received)) > 1 << 20:
                self.transport.loseConnection()

    if most > 1 << 20:
        _told(ENDLESS, Hoarding, max_memory=most)
    else:
        with pytest.raises(ContractError) as caught:
            _told(ENDLESS, Hoarding, max_memory=most)
        assert caught.value.rule == rules.ENDLESS
        assert str(most) in caught.value.what


@implementer(IDrainable)
class Draining(Told):
    def drain(self) -> None:
        self.factory.happened.append("drain")
        self.transport.loseConnection()


def test_one_that_asked_to_be_told_of_a_stop_is_told_once_for_each_connection() -> None:
    factory = _told("test_a_drain_ends_what_is_idle", Draining)
    assert factory.happened.count("drain") == len(factory.connections) > 0


@pytest.mark.parametrize("test", RULES)
def test_each_factory_is_started_and_stopped_again(test: str) -> None:
    happened = _told(test, Protocol).happened
    assert happened[:2] == ["start", "stop"]
    assert happened.count("start") == happened.count("stop")


def test_time_passes_for_a_service_with_a_clock_of_its_own() -> None:
    settled: list[str] = []

    class Contract(StreamServiceContract):
        factory = staticmethod(lambda: Factory.forProtocol(Protocol))
        examples = (b"x",)

        def settle(self) -> None:
            settled.append("turn")

    for test in RULES:
        del settled[:]
        getattr(Contract(), test)()
        assert settled, test
