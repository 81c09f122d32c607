from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from sockservices import timeouts as module
from sockservices.ledger import Ledger
from sockservices.timeouts import RunningTimeouts, Timeouts
from tests.fakes import logged, opened


class Transport(StringTransport):
    last_read: float | None = None
    aborted = 0

    def abortConnection(self) -> None:  # noqa: N802 - as ITCPTransport calls it
        self.aborted += 1


class Setup:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        monkeypatch.setattr(module, "monotonic", self.clock.seconds)
        self.ledger = Ledger("echo")

    def connection(self) -> Transport:
        transport = Transport()  # type: ignore[no-untyped-call]
        opened(self.ledger, transport, object()).opened = self.clock.seconds()
        return transport

    def pass_by(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds * 100))


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(monkeypatch)


def test_one_that_is_silent_is_cut_and_one_that_speaks_is_not(setup: Setup) -> None:
    timeouts = RunningTimeouts(Timeouts(idle_timeout=2.0, max_time=None), setup.ledger, setup.clock)
    timeouts.start()
    silent, speaking = setup.connection(), setup.connection()
    setup.pass_by(1.5)
    speaking.last_read = setup.clock.seconds()
    setup.pass_by(0.4)
    assert (silent.aborted, speaking.aborted) == (0, 0)
    setup.pass_by(0.4)
    assert (silent.aborted, speaking.aborted) == (1, 0)
    setup.pass_by(1.0)  # once is enough
    assert silent.aborted == 1
    assert setup.ledger.of(silent).cut == "idle-timeout"
    setup.ledger.close(silent, Failure(ConnectionAborted()))
    assert setup.ledger.totals.closed == {"idle-timeout": 1}
    timeouts.stop()
    assert setup.clock.getDelayedCalls() == []


def test_one_that_lasts_is_cut_though_it_speaks(setup: Setup) -> None:
    timeouts = RunningTimeouts(
        Timeouts(idle_timeout=100.0, max_time=2.0), setup.ledger, setup.clock
    )
    timeouts.start()
    timeouts.start()
    dribbling = setup.connection()
    for _ in range(19):
        setup.pass_by(0.1)
        dribbling.last_read = setup.clock.seconds()
    assert dribbling.aborted == 0
    setup.pass_by(0.4)
    assert setup.ledger.of(dribbling).cut == "max-time"
    timeouts.stop()


def test_without_times_nothing_is_looked_at(setup: Setup) -> None:
    timeouts: Any = RunningTimeouts(
        Timeouts(idle_timeout=None, max_time=None), setup.ledger, setup.clock
    )
    timeouts.start()
    assert setup.clock.getDelayedCalls() == []
    timeouts.stop()


def test_one_that_cannot_be_cut_keeps_no_other_from_it(setup: Setup) -> None:
    class Immortal(Transport):
        def abortConnection(self) -> None:  # noqa: N802 - as ITCPTransport calls it
            raise RuntimeError("no")

    timeouts = RunningTimeouts(Timeouts(idle_timeout=None, max_time=1.0), setup.ledger, setup.clock)
    timeouts.start()
    opened(setup.ledger, Immortal(), object()).opened = 0.0  # type: ignore[no-untyped-call]
    other = setup.connection()
    with logged() as log:
        setup.pass_by(1.2)
    assert other.aborted == 1
    assert [event["log_failure"].type for event in log] == [RuntimeError]
    timeouts.stop()


def test_a_transport_that_knows_only_the_slower_way_goes_it(setup: Setup) -> None:
    class Slow:
        lost = 0

        def loseConnection(self) -> None:
            self.lost += 1

    slow = Slow()
    opened(setup.ledger, slow, object()).end("max-time")
    assert slow.lost == 1
