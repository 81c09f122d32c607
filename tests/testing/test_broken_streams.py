"""Services that are broken on purpose: each rule catches what it is for, and says so."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from sockservices.interfaces import IDrainable
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
            from twisted.logger import Logger

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


CUT = "test_any_cutting_of_the_input_gives_the_same_output"
GONE = "test_a_peer_that_goes_leaves_nothing_behind"
ENDLESS = "test_a_message_that_never_ends_takes_bounded_memory"
BROKEN: list[tuple[type[Protocol], str, Rule, str, str]] = [
    (ByRead, CUT, rules.CUTTING, r"b'\S+' \+ b'\S+'", "when it came whole"),
    (Decoding, "test_no_input_raises_an_exception", rules.BYTES, "b'.x80'", "UnicodeDecodeError"),
    (LoggingError, "test_no_input_raises_an_exception", rules.BYTES, "b'.xff'", "a bad byte"),
    (Remembered, GONE, rules.GONE, "b''", "Remembered is kept by a list"),
    (Timing, GONE, rules.GONE, "b''", "a call is put off"),
    (FailingAtTheEnd, GONE, rules.GONE, "b''", "AttributeError"),
    (
        Generous,
        "test_a_peer_that_never_reads_takes_bounded_memory",
        rules.UNREAD,
        r"b'\S+', again and again",
        "bytes more after",
    ),
    (Hoarding, ENDLESS, rules.ENDLESS, "b'x', again", "bytes more after"),
    (Deaf, "test_a_half_close_loses_no_answer", rules.HALF_CLOSE, "b''", "keeps the connection"),
    (TellingItself, "test_connection_lost_comes_once", rules.ONCE, "b'.+'", "2 times"),
    (WritingAfterTheEnd, "test_connection_lost_comes_once", rules.ONCE, "b''", "after the end"),
    (Undrained, "test_a_drain_ends_what_is_idle", rules.DRAIN, "drain()", "it stays open"),
    (Sleeping, "test_nothing_holds_up_the_event_loop", rules.BLOCKING, "b'.+'", "a call took"),
]


def _contract(protocol: type[Protocol]) -> StreamServiceContract:
    def build() -> Any:
        factory: Any = Factory.forProtocol(protocol)
        factory.noisy = False
        return factory

    class Contract(StreamServiceContract):
        factory: Callable[[], Any] = staticmethod(build)
        max_blocking = 0.05

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


@pytest.mark.parametrize(
    "test", [name for name in dir(StreamServiceContract) if name[:4] == "test"]
)
def test_one_that_is_right_passes(test: str) -> None:
    contract: Any = _contract(Patient)
    type(contract).examples = [b"one\n", b"one\ntwo\nthr"]
    getattr(contract, test)()
