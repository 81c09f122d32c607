from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, IPushProducer, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockservices.testing.wire import HOST, PEER, Conversation


class Remembering(Protocol):
    """Remembers what happens to it, and does what a test wants it to."""

    transport: Any

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.received = b""
        self.then: Callable[[bytes], object] = lambda _data: None

    def connectionMade(self) -> None:
        self.happened.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.happened.append("data")
        self.received += data
        self.then(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert reason.type is not None
        self.happened.append(reason.type.__name__)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Remembering):
    def readConnectionLost(self) -> None:
        self.happened.append("end of input")

    def writeConnectionLost(self) -> None: ...


class Producer:
    """Remembers what it is told; a pull producer writes so many times, then unregisters."""

    def __init__(self, protocol: Remembering, pulls: int = 0) -> None:
        self.told: list[str] = []
        self._protocol = protocol
        self._left = pulls

    def resumeProducing(self) -> None:
        self.told.append("resume")
        if self._left:
            self._left -= 1
            self._protocol.transport.write(b".")
            if not self._left:
                self._protocol.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def stopProducing(self) -> None:
        self.told.append("stop")


def _talk(kind: type[Remembering] = Remembering) -> tuple[Any, Conversation]:
    factory = Factory.forProtocol(kind)
    conversation = Conversation(factory, lambda: None)
    conversation.connect()
    return conversation.protocol, conversation


def test_it_is_a_transport_with_addresses() -> None:
    protocol, _conversation = _talk()
    for interface in (ITransport, IConsumer, IPushProducer):
        verifyObject(interface, protocol.transport)
    assert protocol.transport.getPeer() == PEER
    assert protocol.transport.getHost() == HOST


def test_what_is_said_and_answered_arrives_in_order() -> None:
    protocol, conversation = _talk()
    protocol.then = lambda data: protocol.transport.writeSequence([data.upper(), b"!"])
    conversation.send(b"one")
    conversation.send(b"")
    conversation.send(b"two")
    assert protocol.received == b"onetwo"
    assert protocol.happened == ["made", "data", "data"]
    assert conversation.output == b"ONE!TWO!"
    assert conversation.is_open


def test_what_is_no_bytes_is_refused_as_twisted_does() -> None:
    protocol, _conversation = _talk()
    with pytest.raises(TypeError):
        protocol.transport.write("text")


def test_a_factory_may_refuse_the_peer() -> None:
    class Closed(Factory):
        def buildProtocol(self, addr: Any) -> None:
            assert addr == PEER

    conversation = Conversation(Closed(), lambda: None)
    conversation.connect()
    conversation.send(b"x")
    assert conversation.is_refused
    assert not conversation.is_open
    assert conversation.output == b""


def test_a_paused_protocol_gets_nothing_until_it_resumes() -> None:
    protocol, conversation = _talk()
    protocol.transport.pauseProducing()
    conversation.send(b"x")
    assert protocol.received == b""
    assert not conversation.takes_more
    protocol.transport.resumeProducing()
    conversation.turn()
    assert protocol.received == b"x"
    assert conversation.takes_more


def test_closing_takes_effect_later_and_once() -> None:
    protocol, conversation = _talk()

    def close(_data: bytes) -> None:
        protocol.transport.loseConnection()
        protocol.transport.loseConnection()
        protocol.transport.write(b"still sent")
        assert protocol.happened[-1] == "data"

    protocol.then = close
    conversation.send(b"x")
    assert protocol.happened == ["made", "data", ConnectionDone.__name__]
    assert conversation.output == b"still sent"
    conversation.vanish()
    conversation.turn()
    assert len(protocol.happened) == 3


def test_aborting_drops_what_is_written_after_it() -> None:
    protocol, conversation = _talk()

    def abort(_data: bytes) -> None:
        protocol.transport.abortConnection()
        protocol.transport.write(b"dropped")

    protocol.then = abort
    conversation.send(b"x")
    assert protocol.happened[-1] == ConnectionAborted.__name__
    assert conversation.output == b""


def test_what_is_written_after_the_end_is_dropped_and_noticed() -> None:
    protocol, conversation = _talk()
    conversation.vanish()
    assert protocol.happened[-1] == ConnectionLost.__name__
    assert not conversation.transport.was_written_after_the_end
    protocol.transport.write(b"x")
    assert conversation.output == b""
    assert conversation.transport.was_written_after_the_end


@pytest.mark.parametrize(
    ("kind", "last"), [(Remembering, "ConnectionDone"), (HalfCloseable, "end of input")]
)
def test_the_end_of_input_is_the_end_unless_a_protocol_asks_for_it(
    kind: type[Remembering], last: str
) -> None:
    protocol, conversation = _talk(kind)
    conversation.send(b"x")
    conversation.end_input()
    assert protocol.happened == ["made", "data", last]
    assert conversation.is_open == (kind is HalfCloseable)


def test_input_and_its_end_may_come_together() -> None:
    protocol, conversation = _talk(HalfCloseable)
    conversation.send_and_end(b"all")
    assert protocol.received == b"all"
    assert protocol.happened == ["made", "data", "end of input"]


def test_a_producer_is_paused_when_too_much_waits_for_a_peer_that_does_not_read() -> None:
    protocol, conversation = _talk()
    producer = Producer(protocol)
    protocol.transport.registerProducer(producer, True)
    conversation.transport.peer_reads = False
    protocol.transport.write(bytes(1 << 16))
    assert producer.told == []
    protocol.transport.write(b"x")
    assert producer.told == ["pause"]
    conversation.vanish()
    assert producer.told == ["pause", "stop"]


def test_a_second_producer_is_refused() -> None:
    protocol, _conversation = _talk()
    protocol.transport.registerProducer(Producer(protocol), True)
    with pytest.raises(RuntimeError, match="unregistered"):
        protocol.transport.registerProducer(Producer(protocol), True)


def test_one_that_registers_after_the_end_is_stopped() -> None:
    protocol, conversation = _talk()
    conversation.vanish()
    producer = Producer(protocol)
    protocol.transport.registerProducer(producer, True)
    assert producer.told == ["stop"]


def test_closing_waits_for_a_producer_that_stays_registered() -> None:
    protocol, conversation = _talk()
    protocol.transport.registerProducer(Producer(protocol), True)
    protocol.transport.loseConnection()
    conversation.turn()
    assert conversation.hangs
    assert protocol.happened == ["made"]
    protocol.transport.unregisterProducer()
    conversation.turn()
    assert not conversation.hangs
    assert protocol.happened == ["made", "ConnectionDone"]


def test_a_pull_producer_is_asked_until_it_has_no_more() -> None:
    protocol, conversation = _talk()
    producer = Producer(protocol, pulls=3)
    protocol.transport.registerProducer(producer, False)
    assert conversation.is_endless
    conversation.turn()
    assert conversation.output == b"..."
    assert not conversation.is_endless


def test_a_pull_producer_without_an_end_is_asked_a_bounded_number_of_times() -> None:
    protocol, conversation = _talk()
    producer = Producer(protocol)
    protocol.transport.registerProducer(producer, False)
    conversation.turn()
    assert 0 < len(producer.told) < 10_000
    assert conversation.is_endless


def test_a_peer_that_goes_while_the_service_writes_is_told_of_after_its_call() -> None:
    protocol, conversation = _talk()

    def answer(_data: bytes) -> None:
        protocol.transport.write(b"1")
        protocol.transport.write(b"2")
        assert protocol.happened[-1] == "data"

    protocol.then = answer
    conversation.vanish_at_write()
    conversation.send(b"x")
    assert protocol.happened == ["made", "data", "ConnectionLost"]


def test_calls_of_connection_lost_are_counted_whoever_makes_them() -> None:
    protocol, conversation = _talk()
    count = conversation.count_connection_lost()
    assert count() == 0
    protocol.connectionLost(Failure(ConnectionDone()))
    conversation.vanish()
    assert count() == 2


def test_time_passes_in_each_turn() -> None:
    turns: list[str] = []
    factory = Factory.forProtocol(Remembering)
    conversation = Conversation(factory, lambda: turns.append("turn"))
    conversation.connect()
    before = len(turns)
    assert before
    conversation.send(b"x")
    assert len(turns) > before
    conversation.vanish()
    after = len(turns)
    conversation.turn()
    assert len(turns) == after
