from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from sockservices.connections.ledger import Ledger
from sockservices.errors import DescriptionError
from sockservices.process.idle_exit import IdleExit, IdleWatch
from tests.fakes import opened


class Setup:
    def __init__(self, seconds: float) -> None:
        self.clock = Clock()
        self.ledger = Ledger("echo")
        self.stopped: list[float] = []
        self.is_held = False
        self.watch = IdleWatch(
            self.clock,
            self.ledger,
            seconds,
            lambda: self.is_held,
            lambda: self.stopped.append(self.clock.seconds()),
        )

    def pass_by(self, seconds: float) -> None:
        self.clock.pump([0.25] * round(seconds * 4))


def test_it_ends_when_nobody_has_come() -> None:
    setup = Setup(10)
    setup.watch.start()
    setup.pass_by(9.75)
    assert setup.stopped == []
    setup.pass_by(1)
    assert setup.stopped == [10]
    setup.pass_by(30)
    assert setup.stopped == [10]
    assert setup.clock.getDelayedCalls() == []


def test_a_live_connection_keeps_it_and_it_waits_anew_after_the_end() -> None:
    setup = Setup(10)
    setup.watch.start()
    transport: Any = object()
    opened(setup.ledger, transport, object())
    setup.pass_by(60)
    setup.ledger.close(transport, Failure(ConnectionDone()))
    setup.pass_by(9.5)
    assert setup.stopped == []
    setup.pass_by(1.5)
    assert len(setup.stopped) == 1


def test_so_do_connections_between_two_looks_and_those_refused() -> None:
    setup = Setup(10)
    setup.watch.start()
    setup.pass_by(9.5)
    transport: Any = object()
    opened(setup.ledger, transport, object())
    setup.ledger.close(transport, Failure(ConnectionDone()))
    setup.pass_by(9.5)
    assert setup.stopped == []
    setup.ledger.refuse("tcp:7", IPv4Address("TCP", "127.0.0.1", 1), "rate")
    setup.pass_by(9.5)
    assert setup.stopped == []
    setup.pass_by(1.5)
    assert len(setup.stopped) == 1


def test_one_that_is_held_waits_anew_afterwards() -> None:
    setup = Setup(10)
    setup.is_held = True
    setup.watch.start()
    setup.pass_by(60)
    setup.is_held = False
    setup.pass_by(9)
    assert setup.stopped == []
    setup.pass_by(2)
    assert len(setup.stopped) == 1


def test_a_stop_ends_it() -> None:
    setup = Setup(10)
    setup.watch.start()
    setup.watch.end()
    assert setup.clock.getDelayedCalls() == []


def test_what_nobody_would_listen_on_is_refused() -> None:
    descriptions = ["systemd:index=0", "SYSTEMD-datagram:name=echo"]
    IdleExit(exit_idle=3).check(descriptions)
    IdleExit().check(["tcp:7"])
    with pytest.raises(DescriptionError, match=r"listen on 'tcp:7': it needs a socket that"):
        IdleExit(exit_idle=3).check([*descriptions, "tcp:7"])
