"""Services that are broken on purpose: each rule catches what it is for, and says so."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.protocols import wire
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from sockservices.service import IDrainable
from sockservices.testing import StreamServiceContract, rules
from sockservices.testing.failures import ContractError, Rule

reactor: Any = _reactor


class Base(Protocol):
    transport: Any
    factory: Any


class ByRead(Base):
    """Takes a read for a message."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"<" + data + b">")


class Decoding(Base):
    """Believes that all the world speaks UTF-8."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data.decode().upper().encode())


class LoggingError(Base):
    """Logs as an error what its peer did wrong."""

    def dataReceived(self, data: bytes) -> None:
        if b"\xff" in data:
            try:
                raise ValueError("a bad byte")
            except ValueError:
                Logger().failure("oh")


class Remembered(Base):
    """Is kept by its factory for ever."""

    def connectionMade(self) -> None:
        self.factory.__dict__.setdefault("all", []).append(self)


class Timing(Base):
    """Leaves a delayed call behind."""

    def connectionMade(self) -> None:
        reactor.callLater(3600, self.transport.write, b"are you there?")


class FailingAtTheEnd(Base):
    """Is not prepared for an end before the first byte."""

    def dataReceived(self, data: bytes) -> None:
        self.first = data[:1]

    def connectionLost(self, reason: object = None) -> None:
        self.first.hex()


class Generous(Base):
    """Echoes without a producer."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Hoarding(Base):
    """Waits for the end of a line without a limit."""

    kept = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, self.kept = (self.kept + data).split(b"\n")
        for line in lines:
            self.transport.write(line + b"\n")


@implementer(IHalfCloseableProtocol)
class Deaf(Base):
    """Does not notice that its peer has ended."""

    def dataReceived(self, data: bytes) -> None: ...

    def readConnectionLost(self) -> None: ...

    def writeConnectionLost(self) -> None: ...


class TellingItself(Base):
    """Calls connectionLost, as if it were its own."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()
        self.connectionLost()


class WritingAfterTheEnd(Base):
    def dataReceived(self, data: bytes) -> None: ...

    def connectionLost(self, reason: object = None) -> None:
        self.transport.write(b"good-bye")


@implementer(IDrainable)
class Undrained(Base):
    def drain(self) -> None: ...


class Sleeping(Base):
    def dataReceived(self, data: bytes) -> None:
        time.sleep(0.06)


class Forgetting(Base):
    """Starts what may fail, and forgets about it."""

    def dataReceived(self, data: bytes) -> None:
        ensureDeferred(self.answer(data))

    async def answer(self, data: bytes) -> None:
        self.transport.write(data.decode().encode())


class StillProducing(LineOnlyReceiver):
    """Closes, and keeps its producer: over TLS that is never the end."""

    transport: Any
    delimiter = b"\n"

    def connectionMade(self) -> None:
        self.transport.registerProducer(self.transport, True)

    def lineReceived(self, line: bytes) -> None:
        self.transport.loseConnection()


@implementer(IDrainable)
class DrainedStillProducing(StillProducing):
    def lineReceived(self, line: bytes) -> None: ...

    def drain(self) -> None:
        self.transport.loseConnection()


class Terse(LineOnlyReceiver):
    """Answers much less than it reads, to whoever reads it or not."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = 100

    def lineReceived(self, line: bytes) -> None:
        self.transport.write(b"OK\n")


class Trusting(Base):
    """Believes a length that it is told."""

    data: bytes = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        length, colon, rest = self.data.partition(b":")
        if not colon and len(length) > 20:
            self.transport.loseConnection()
        elif colon and len(rest) >= int(length):
            self.data = b""


class Chatty(Base):
    """Greets each peer in another way."""

    def connectionMade(self) -> None:
        self.transport.write(os.urandom(8))


class Late(Base):
    """Answers later, and does not know that a peer may be waiting with its side closed."""

    clock = Clock()

    def dataReceived(self, data: bytes) -> None:
        self.later = self.clock.callLater(1, self.transport.write, data)

    def connectionLost(self, reason: object = None) -> None:
        if self.later is not None and self.later.active():
            self.later.cancel()

    later: Any = None


class Leaving(Base):
    """Ends the process."""

    def dataReceived(self, data: bytes) -> None:
        sys.exit(3)


CUT = "test_any_cutting_of_the_input_gives_the_same_output"
GONE = "test_a_peer_that_goes_leaves_nothing_behind"
UNREAD = "test_a_peer_that_never_reads_takes_bounded_memory"
HALF_CLOSE = "test_a_half_close_loses_no_answer"
DRAIN = "test_a_drain_ends_what_is_idle"
LINE = "b'a line that is longer than any answer.n'"
ENDLESS = "test_a_message_that_never_ends_takes_bounded_memory"
BROKEN: list[tuple[type[Protocol], str, Rule, str, str]] = [
    (ByRead, CUT, rules.CUTTING, r"b'\S+' \+ b'\S+'", "when the input arrives whole"),
    (Decoding, "test_no_input_raises_an_exception", rules.BYTES, "b'.x80'", "UnicodeDecodeError"),
    (LoggingError, "test_no_input_raises_an_exception", rules.BYTES, "b'.xff'", "a bad byte"),
    (Forgetting, "test_no_input_raises_an_exception", rules.BYTES, "b'.x80'", "codec can't decode"),
    (Leaving, "test_no_input_raises_an_exception", rules.BYTES, "b'.+'", "SystemExit: 3"),
    (Chatty, CUT, rules.REPEATABLE, "b''", "before"),
    (Chatty, HALF_CLOSE, rules.REPEATABLE, "b''", "when the peer waits"),
    (StillProducing, "test_connection_lost_comes_once", rules.CLOSING, LINE, "still registered"),
    (DrainedStillProducing, DRAIN, rules.CLOSING, LINE, "still registered"),
    (Terse, UNREAD, rules.UNREAD, LINE, "more bytes after"),
    (Trusting, ENDLESS, rules.ENDLESS, "b'999999999:', then b'x', again", "more bytes after"),
    (Late, HALF_CLOSE, rules.HALF_CLOSE, "b'.+' and the end", "when the peer waits"),
    (Remembered, GONE, rules.GONE, "b''", "Remembered is still referenced by a list"),
    (Timing, GONE, rules.GONE, "b''", "a delayed call is pending"),
    (FailingAtTheEnd, GONE, rules.GONE, "b''", "AttributeError"),
    (
        Generous,
        UNREAD,
        rules.UNREAD,
        r"b'\S+', again and again",
        "more bytes after",
    ),
    (Hoarding, ENDLESS, rules.ENDLESS, "b'x', again", "more bytes after"),
    (Deaf, HALF_CLOSE, rules.HALF_CLOSE, "b''", "keeps the connection"),
    (TellingItself, "test_connection_lost_comes_once", rules.ONCE, "b'.+'", "2 times"),
    (WritingAfterTheEnd, "test_connection_lost_comes_once", rules.ONCE, "b''", "after the end"),
    (Undrained, DRAIN, rules.DRAIN, "drain()", "the connection stays open"),
    (Sleeping, "test_nothing_holds_up_the_event_loop", rules.BLOCKING, "b'.+'", "a call took"),
]


def _contract(protocol: type[Protocol]) -> StreamServiceContract:
    def build() -> Any:
        factory: Any = Factory.forProtocol(protocol)
        factory.noisy = False
        return factory

    lines = issubclass(protocol, (StillProducing, Terse))

    class Contract(StreamServiceContract):
        factory: Callable[[], Any] = staticmethod(build)
        max_blocking = 0.05
        endless_after = b"999999999:" if protocol is Trusting else b""
        examples = (b"a line that is longer than any answer\n",) if lines else ()

        def settle(self) -> None:
            Late.clock.advance(1)

    return Contract()


@pytest.mark.parametrize(
    ("protocol", "test", "rule", "given", "seen"), BROKEN, ids=[each[0].__name__ for each in BROKEN]
)
def test_it_is_caught(
    protocol: type[Protocol], test: str, rule: Rule, given: str, seen: str
) -> None:
    with pytest.raises(ContractError) as caught:
        getattr(_contract(protocol), test)()
    assert caught.value.rule == rule
    assert not hasattr(caught.value, "__notes__")  # Hypothesis's own
    assert re.search(given, caught.value.given), caught.value
    assert seen in caught.value.what
    assert rule.text in str(caught.value)
    assert rule.hint in str(caught.value)


class Patient(LineOnlyReceiver):
    """Right in all: lines, with a limit, and a producer."""

    transport: Any
    MAX_LENGTH = 1000
    delimiter = b"\n"

    def connectionMade(self) -> None:
        self.transport.registerProducer(self.transport, True)

    def lineReceived(self, line: bytes) -> None:
        self.transport.write(line + b"\n")

    def lineLengthExceeded(self, line: bytes) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class Unusual(Patient):
    """Logs, asks its transport whether it is there, and uses what its factory starts with."""

    log = Logger()
    factory: Any

    def connectionMade(self) -> None:
        super().connectionMade()
        self.log.info("here")
        self.factory.users.add(self)

    def lineReceived(self, line: bytes) -> None:
        if self.transport.connected and not self.transport.disconnected:
            super().lineReceived(line)

    def connectionLost(self, reason: object = None) -> None:
        self.factory.users.discard(self)


class UnusualFactory(Factory):
    """Has a timer as long as it is started."""

    noisy = False
    protocol = Unusual

    def startFactory(self) -> None:
        self.users: set[Unusual] = set()
        self.beat = reactor.callLater(600, str)

    def stopFactory(self) -> None:
        self.beat.cancel()


RULES = [name for name in dir(StreamServiceContract) if name[:4] == "test"]


@pytest.mark.parametrize("test", RULES)
def test_one_that_is_right_passes(test: str) -> None:
    contract: Any = _contract(Patient)
    type(contract).examples = [b"one\n", b"one\ntwo\nthr"]
    getattr(contract, test)()


@pytest.mark.parametrize("test", RULES)
def test_one_that_is_unusual_passes(test: str) -> None:
    class Contract(StreamServiceContract):
        factory: Callable[[], Any] = UnusualFactory
        examples = (b"one\n", b"one\ntwo\nthr")

    getattr(Contract(), test)()


@pytest.mark.parametrize("test", [CUT, HALF_CLOSE])
def test_one_that_never_ends_by_itself_passes(test: str) -> None:
    getattr(_contract(wire.Chargen), test)()


@pytest.mark.parametrize("factory", [Patient, lambda: None, lambda: 7])
def test_what_is_no_factory_breaks_no_other_rule(factory: Any) -> None:
    class Contract(StreamServiceContract):
        pass

    Contract.factory = staticmethod(factory)
    for test in RULES:
        with pytest.raises(ContractError) as caught:
            getattr(Contract(), test)()
        assert caught.value.rule == rules.BUILDING
        assert "is not a protocol factory" in caught.value.what


class Failing(Patient):
    """Fails, later, at each line."""

    def lineReceived(self, line: bytes) -> None:
        ensureDeferred(self.fail(line))

    async def fail(self, line: bytes) -> None:
        raise ValueError(line)


@pytest.mark.parametrize("test", [GONE, UNREAD, HALF_CLOSE, DRAIN])
def test_one_mistake_breaks_one_rule(test: str) -> None:
    contract: Any = _contract(Failing)
    type(contract).examples = [b"one\n" * 100]
    with pytest.raises(ContractError) as caught:
        getattr(contract, test)()
    assert caught.value.rule == rules.BYTES
    assert "ValueError" in caught.value.what
