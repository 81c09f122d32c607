from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.connections import ledger
from sockservices.connections.ledger import Ledger
from sockservices.host import stopping
from sockservices.host.stopping import Stop, Stopping
from sockservices.service import IDrainable
from tests.fakes import logged, opened


class Peer(StringTransport):
    """A transport whose peer takes what is written, and the end, when a test says so."""

    def __init__(self, ledger: Ledger, *, reads: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger = ledger
        self.reads = reads
        self.how: list[str] = []

    def loseConnection(self) -> None:
        self.how.append("lose")
        if self.reads:
            self.ledger.close(self, Failure(ConnectionDone()))

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.how.append("abort")
        self.ledger.close(self, Failure(ConnectionAborted()))


@implementer(IDrainable)
class Draining(Protocol):
    drained = 0

    def drain(self) -> None:
        self.drained += 1


class Setup:
    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger("echo")
        self.done: list[None] = []

    def connection(self, protocol: Any = None, *, reads: bool = True) -> Peer:
        peer = Peer(self.ledger, reads=reads)
        protocol = protocol or Protocol()
        protocol.makeConnection(peer)
        opened(self.ledger, peer, protocol)
        return peer

    def stop(
        self,
        graceful_timeout: float = 0,
        flush: float = 2,
        is_accepting: bool = False,
        drain_idle: float | None = None,
    ) -> Stop:
        stop = Stop(
            self.ledger,
            self.clock,
            Logger("echo"),
            Stopping(graceful_timeout=graceful_timeout, drain_idle=drain_idle, flush=flush),
            self.ledger,
        )
        stop.begin(is_accepting)
        stop.when_done().addCallback(self.done.append)
        self.clock.advance(0)
        return stop


@pytest.fixture
def setup() -> Setup:
    return Setup()


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with logged() as events:
        yield events


def _texts(log: list[Any]) -> list[str]:
    return [event["log_format"].format(**event) for event in log]


def test_without_connections_it_is_done_at_once(setup: Setup, log: list[Any]) -> None:
    setup.stop(graceful_timeout=10)
    assert setup.done == [None]
    assert setup.clock.getDelayedCalls() == []
    assert _texts(log) == ["stopped: 0 connections finished, 0 were reset"]


def test_those_that_read_are_closed_in_order_the_others_are_cut(
    setup: Setup, log: list[Any]
) -> None:
    reading, stuck = setup.connection(), setup.connection(reads=False)
    setup.stop(flush=2)
    assert (reading.how, stuck.how) == (["lose"], ["lose"])
    setup.clock.advance(1.9)
    assert setup.done == []
    setup.clock.advance(0.1)
    assert stuck.how == ["lose", "abort"]
    assert setup.done == [None]
    assert setup.clock.getDelayedCalls() == []
    assert _texts(log) == ["stopped: 1 connection finished, 1 was reset"]
    assert setup.ledger.totals.closed == {"closed": 1, "stop": 1}


@pytest.mark.parametrize("graceful_timeout", [0, 3])
def test_long_turns_do_not_make_its_times_longer(setup: Setup, graceful_timeout: int) -> None:
    stuck = setup.connection(reads=False)
    stop = Stop(
        setup.ledger,
        setup.clock,
        Logger("echo"),
        Stopping(graceful_timeout=graceful_timeout, flush=4),
        setup.ledger,
    )
    setup.clock.advance(100)
    stop.begin(is_accepting=False)
    setup.clock.advance(2)
    setup.clock.advance(0)
    setup.clock.advance(graceful_timeout + 4 - 2 - 0.1)
    assert stuck.how == ["lose"]
    setup.clock.advance(0.1)
    assert stuck.how == ["lose", "abort"]


def test_work_may_be_finished_first(setup: Setup, log: list[Any]) -> None:
    protocol = Draining()
    ending, lasting = setup.connection(protocol), setup.connection()
    setup.stop(graceful_timeout=3)
    assert protocol.drained == 1
    assert (ending.how, lasting.how) == ([], [])
    setup.clock.advance(1)
    setup.ledger.close(ending, Failure(ConnectionDone()))
    setup.clock.advance(1)
    assert lasting.how == []
    setup.clock.advance(1)
    assert lasting.how == ["lose"]
    assert setup.done == [None]
    assert setup.clock.getDelayedCalls() == []
    assert _texts(log) == [
        "stopping: 2 connections remain, 3 s left",
        "stopping: 2 connections remain, 2 s left",
        "stopping: 1 connection remains, 1 s left",
        "stopped: 2 connections finished, 0 were reset",
    ]


def test_it_is_done_when_the_last_has_finished(setup: Setup) -> None:
    only = setup.connection()
    setup.stop(graceful_timeout=100)
    setup.ledger.close(only, Failure(ConnectionDone()))
    assert setup.done == [None]
    assert setup.clock.getDelayedCalls() == []


def test_in_a_hurry_all_are_cut(setup: Setup, log: list[Any]) -> None:
    peers = [setup.connection(), setup.connection(reads=False)]
    stop = setup.stop(graceful_timeout=100)
    stop.hurry()
    assert [peer.how for peer in peers] == [["abort"], ["abort"]]
    assert setup.done == [None]
    assert _texts(log)[-1] == "stopped: 0 connections finished, 2 were reset"
    stop.hurry()
    assert setup.done == [None]


def test_a_protocol_that_fails_costs_no_other_its_end(setup: Setup, log: list[Any]) -> None:
    @implementer(IDrainable)
    class Broken(Protocol):
        def drain(self) -> None:
            raise RuntimeError("broken")

    protocol = Draining()
    setup.connection(Broken())
    setup.connection(protocol)
    setup.stop(graceful_timeout=1, flush=1)
    assert protocol.drained == 1
    setup.clock.advance(1)
    assert setup.done == [None]
    assert [event["log_failure"].type for event in log if "log_failure" in event] == [RuntimeError]


def test_what_cannot_be_cut_does_not_hold_it_up(setup: Setup) -> None:
    class Immortal(Peer):
        def abortConnection(self) -> None: ...  # noqa: N802 - Twisted's name

    peer = Immortal(setup.ledger, reads=False)
    opened(setup.ledger, peer, Protocol())
    setup.stop(flush=1)
    setup.clock.advance(1)
    assert setup.done == []
    setup.clock.advance(1)
    assert setup.done == [None]


def test_a_producer_is_stopped_and_what_it_has_written_delivered(setup: Setup) -> None:
    class Producer:
        told: list[str] = []  # noqa: RUF012

        def stopProducing(self) -> None:
            self.told.append("stop")

    peer = setup.connection()
    producer: Any = Producer()
    peer.registerProducer(producer, True)  # type: ignore[no-untyped-call]
    setup.stop()
    assert producer.told == ["stop"]
    assert peer.how == ["lose"]


def test_those_that_end_before_it_begins_have_finished(setup: Setup, log: list[Any]) -> None:
    early, late = setup.connection(), setup.connection()
    stop = Stop(
        setup.ledger, setup.clock, Logger("echo"), Stopping(graceful_timeout=5), setup.ledger
    )
    setup.ledger.close(early, Failure(ConnectionDone()))
    stop.begin(is_accepting=False)
    setup.ledger.close(late, Failure(ConnectionDone()))
    assert setup.clock.getDelayedCalls() == []
    assert _texts(log) == ["stopped: 2 connections finished, 0 were reset"]


def test_a_hurry_before_it_begins_holds(setup: Setup, log: list[Any]) -> None:
    peer = setup.connection()
    stop = Stop(
        setup.ledger, setup.clock, Logger("echo"), Stopping(graceful_timeout=5), setup.ledger
    )
    stop.begin(is_accepting=False)
    stop.hurry()
    stop.hurry()
    setup.clock.advance(0)
    assert peer.how == ["abort"]
    assert setup.clock.getDelayedCalls() == []
    assert _texts(log) == ["stopped: 0 connections finished, 1 was reset"]


def test_connections_of_another_start_are_none_of_its_business(setup: Setup) -> None:
    own = setup.connection()
    setup.stop(graceful_timeout=1)
    other = setup.connection()
    setup.clock.advance(1)
    assert (own.how, other.how) == (["lose"], [])
    assert setup.done == [None]


def _late(setup: Setup, protocol: Any = None) -> Peer:
    peer = setup.connection(protocol)
    assert peer.how == []
    return peer


def test_one_accepted_late_is_told_and_may_finish(setup: Setup, log: list[Any]) -> None:
    early, protocol = setup.connection(), Draining()
    stop = setup.stop(graceful_timeout=3, flush=2, is_accepting=True)
    setup.ledger.close(early, Failure(ConnectionDone()))
    assert setup.done == []  # others may come
    late = _late(setup, protocol)
    setup.clock.advance(0)
    assert protocol.drained == 1
    stop.accept_no_more()
    assert setup.done == []
    setup.clock.advance(3)
    assert late.how == ["lose"]
    assert setup.done == [None]
    assert setup.clock.getDelayedCalls() == []
    assert _texts(log)[-1] == "stopped: 2 connections finished, 0 were reset"


def test_one_accepted_while_all_is_delivered_is_read_first(setup: Setup, log: list[Any]) -> None:
    stop = setup.stop(flush=2, is_accepting=True)
    setup.clock.advance(0)
    late, gone = _late(setup), _late(setup)
    stop.accept_no_more()
    setup.ledger.close(gone, Failure(ConnectionDone()))
    setup.clock.advance(0)
    assert (late.how, gone.how) == (["lose"], [])
    assert setup.done == [None]
    assert setup.clock.getDelayedCalls() == []
    assert _texts(log)[-1] == "stopped: 2 connections finished, 0 were reset"


def test_it_is_done_when_nobody_is_accepted_any_more(setup: Setup) -> None:
    stop = setup.stop(graceful_timeout=100, is_accepting=True)
    assert setup.done == []
    stop.accept_no_more()
    stop.accept_no_more()
    assert setup.done == [None]
    assert setup.clock.getDelayedCalls() == []


def test_what_was_cut_for_another_reason_keeps_it(setup: Setup, log: list[Any]) -> None:
    stuck = setup.connection(reads=False)
    setup.stop(graceful_timeout=5)
    setup.ledger.of(stuck).end("idle-timeout")
    assert setup.ledger.totals.closed == {"idle-timeout": 1}
    assert _texts(log)[-1] == "stopped: 0 connections finished, 1 was reset"


def test_a_producer_that_fails_does_not_keep_its_connection_open(setup: Setup) -> None:
    class Broken:
        def stopProducing(self) -> None:
            raise RuntimeError("broken")

    peer = setup.connection()
    producer: Any = Broken()
    peer.registerProducer(producer, True)  # type: ignore[no-untyped-call]
    with logged():
        setup.stop()
    assert peer.how == ["lose"]
    assert setup.done == [None]


def test_one_that_the_service_has_not_got_is_cut_at_once(setup: Setup) -> None:
    setup.ledger.enter("tcp:7", Peer(setup.ledger, reads=True))
    setup.stop()
    assert setup.done == [None]
    assert setup.ledger.totals.refused == {"stop": 1}


@pytest.fixture
def monotonic(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "monotonic", setup.clock.seconds)
    monkeypatch.setattr(ledger, "monotonic", setup.clock.seconds)


@pytest.mark.usefixtures("monotonic")
def test_idle_connections_are_not_waited_for(setup: Setup, log: list[Any]) -> None:
    setup.clock.advance(100)
    old, stuck = setup.connection(), setup.connection(reads=False)
    setup.clock.advance(4)
    new: Any = setup.connection()
    setup.stop(graceful_timeout=60, drain_idle=5)
    setup.clock.pump([0.5] * 3)
    assert (old.how, stuck.how, new.how) == (["lose"], ["lose"], [])
    new.bytes_in = 1
    setup.clock.pump([0.5] * 9)
    assert new.how == []
    setup.clock.pump([0.5] * 3)
    assert new.how == ["lose"]
    assert setup.done == []
    setup.clock.pump([0.5] * 120)
    assert stuck.how == ["lose", "abort"]  # it was asked once
    assert setup.done == [None]
    assert setup.clock.getDelayedCalls() == []
    assert _texts(log)[-1] == "stopped: 2 connections finished, 1 was reset"


@pytest.mark.usefixtures("monotonic")
def test_without_a_time_idle_connections_are_waited_for(setup: Setup) -> None:
    setup.clock.advance(100)
    idle = setup.connection()
    setup.stop(graceful_timeout=60)
    setup.clock.pump([0.5] * 119)
    assert idle.how == []
