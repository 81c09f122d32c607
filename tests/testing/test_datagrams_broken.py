"""Datagram services that are broken on purpose: each rule catches what it is for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from sockservices.service import IBatchReceiver, ITruncationReceiver
from sockservices.testing import ContractError, DatagramServiceContract, rules
from sockservices.testing.failures import Rule

reactor: Any = _reactor


class Base(DatagramProtocol):
    noisy = False
    transport: Any

    def datagramReceived(self, datagram: bytes, addr: Any) -> None: ...


class FirstByte(Base):
    """Thinks that there is always a first byte."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.kind = datagram[0]


class Doubling(Base):
    """Answers with more than fits."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if addr:
            self.transport.write(datagram * 2, addr)


class Repeating(Base):
    """Thinks that none comes twice."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        assert datagram not in self.seen
        self.seen.add(datagram)


@implementer(IBatchReceiver)
class BadBatch(Base):
    def datagrams_received(self, datagrams: list[Any]) -> None:
        assert len(datagrams) < 2


@implementer(ITruncationReceiver)
class BadlyCut(Base):
    max_datagram_size = 100

    def datagram_truncated(self, data: bytes, size: int, peer: Any) -> None:
        raise ValueError("too long")


class AnsweringNobody(Base):
    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.transport.write(datagram[:10], addr)


class Beating(Base):
    """Leaves its heart beating."""

    def startProtocol(self) -> None:
        self.beat = reactor.callLater(3600, str)


_all: list[Any] = []


class Remembered(Base):
    def startProtocol(self) -> None:
        _all.append(self)


class Sleeping(Base):
    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        time.sleep(0.06)


ANY = "test_no_datagram_raises_an_exception"
STOPPED = "test_a_listener_that_stops_leaves_nothing_behind"
BROKEN: list[tuple[type[Base], str, Rule, str, str]] = [
    (FirstByte, ANY, rules.DATAGRAMS, "^b'' from", "IndexError"),
    (Doubling, ANY, rules.DATAGRAMS, r"65507 bytes\) from", "MessageLengthError"),
    (Repeating, ANY, rules.DATAGRAMS, "b'' from", "AssertionError"),
    (BadBatch, ANY, rules.DATAGRAMS, "from .* from", "AssertionError"),
    (
        BadlyCut,
        "test_a_truncated_datagram_raises_no_exception",
        rules.TRUNCATED,
        "the first 0 bytes: b''",
        "too long",
    ),
    (
        AnsweringNobody,
        "test_an_unknown_peer_raises_no_exception",
        rules.UNKNOWN_PEER,
        "b'' from nobody",
        "there is no address",
    ),
    (Beating, STOPPED, rules.STOPPED, "b''", "a delayed call is pending"),
    (Remembered, STOPPED, rules.STOPPED, "b''", "is still referenced by a list"),
    (Sleeping, "test_nothing_holds_up_the_event_loop", rules.BLOCKING, "b''", "a call took"),
]


@pytest.mark.parametrize(
    ("protocol", "test", "rule", "given", "seen"), BROKEN, ids=[each[0].__name__ for each in BROKEN]
)
def test_it_is_caught(protocol: type[Base], test: str, rule: Rule, given: str, seen: str) -> None:
    class Contract(DatagramServiceContract):
        factory: Callable[[], Any] = protocol
        max_blocking = 0.05

    with pytest.raises(ContractError) as caught:
        getattr(Contract(), test)()
    assert caught.value.rule == rule
    assert not hasattr(caught.value, "__notes__")  # Hypothesis's own
    assert re.search(given, caught.value.given), caught.value
    assert seen in caught.value.what


@pytest.mark.parametrize(
    "test", [name for name in dir(DatagramServiceContract) if name[:4] == "test"]
)
def test_one_that_is_right_passes(test: str) -> None:
    class Contract(DatagramServiceContract):
        factory: Callable[[], Any] = Base
        examples = (b"one", b"two")

    getattr(Contract(), test)()


class Decoding(Base):
    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        datagram.decode("ascii")


@pytest.mark.parametrize(
    "test",
    [
        ANY,
        STOPPED,
        "test_a_truncated_datagram_raises_no_exception",
        "test_an_unknown_peer_raises_no_exception",
    ],
)
def test_one_mistake_breaks_one_rule(test: str) -> None:
    class Contract(DatagramServiceContract):
        factory: Callable[[], Any] = Decoding

    with pytest.raises(ContractError) as caught:
        getattr(Contract(), test)()
    assert caught.value.rule == rules.DATAGRAMS
