from __future__ import annotations

import errno
import resource
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.accepting import Gate
from sockservices.descriptors import Exhaustion, raise_limit
from sockservices.eager.stock import TCPPort
from sockservices.ledger import Ledger
from tests.fakes import ManualReactor, logged, opened

_FULL = OSError(errno.EMFILE, "Too many open files")


def test_the_soft_limit_becomes_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        raise_limit(SelectReactor.__new__(SelectReactor))  # select(2) knows 1024
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, before[1])
        raise_limit(Clock())
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Setup:
    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger("echo")
        self.gate = Gate()
        self.exhaustion = Exhaustion(self.gate, self.ledger, self.clock, Logger("echo"))
        self.reactor = ManualReactor()
        self.port: Any = TCPPort(0, Factory(), reactor=self.reactor)
        self.gate.add(self.port)
        self.port.startReading()
        self.exhaustion.watch(self.port)

    @property
    def accepts(self) -> bool:
        return self.port in self.reactor.readers


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_newcomers_wait_and_it_is_tried_again(setup: Setup) -> None:
    setup.port.on_exhausted(_FULL)
    assert not setup.accepts
    setup.clock.advance(0.4)
    assert not setup.accepts
    setup.clock.advance(0.1)
    assert setup.accepts


def test_an_end_makes_room_at_once(setup: Setup) -> None:
    transport = StringTransport()
    opened(setup.ledger, transport, object())
    setup.port.on_exhausted(_FULL)
    setup.ledger.close(transport, Failure(ConnectionDone()))
    assert setup.accepts
    assert setup.clock.getDelayedCalls() == []


def test_it_is_told_once_a_minute(setup: Setup) -> None:
    with logged() as log:
        for _ in range(100):
            setup.port.on_exhausted(_FULL)
            setup.clock.advance(0.5)
        assert [event["log_format"].format(**event) for event in log] == [
            "newcomers wait: Too many open files, with 0 connections live"
        ]
        setup.clock.advance(60)
        setup.port.on_exhausted(_FULL)
        assert len(log) == 2


def test_a_stop_tries_no_more(setup: Setup) -> None:
    setup.port.on_exhausted(_FULL)
    setup.exhaustion.stop()
    assert setup.clock.getDelayedCalls() == []
    setup.exhaustion.stop()


def test_a_port_of_a_foreign_kind_is_left_alone(setup: Setup) -> None:
    setup.exhaustion.watch(object())
