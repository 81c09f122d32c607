"""Listeners that are lost, with real sockets and the time of a clock."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure

from sockservices.host.ports import Ports
from sockservices.host.recovery import Recovery
from sockservices.listening import Listening, listener
from tests.fakes import ManualReactor, logged
from tests.transports.datagrams import Recorder

_AFTER = 0.1 + 0.2 + 0.4 + 0.8 + 1.6  # seconds until five attempts have failed


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Setup:
    """Two UDP listeners."""

    def __init__(self) -> None:
        self.reactor = ManualReactor()
        self.numbers = [_free_port(), _free_port()]
        self.texts = [f"udp:{each}:interface=127.0.0.1" for each in self.numbers]
        listeners = [listener(self.reactor, each, Listening()) for each in self.texts]
        self.ports = Ports(listeners, Logger("test"))
        self.changes: list[list[str]] = []
        self.hopeless: list[str] = []
        self.recovery = Recovery(
            self.ports,
            self.texts,
            self.reactor,
            Logger("test"),
            lambda: self.changes.append(self.recovery.lost),
            self.hopeless.append,
        )
        self.taken: list[socket.socket] = []
        self.ports.listen(lambda _number: Recorder(), lambda _number, _port: None)

    def lose(self, *numbers: int, is_taken: bool = False) -> None:
        """Lose these listeners, as a reactor closes them; perhaps others take their ports."""
        for number in numbers:
            port: Any = next(
                port
                for port in self.ports.open
                if port.description == f"udp:127.0.0.1:{self.numbers[number]}"
            )
            port.connectionLost(Failure(OSError("gone")))
            if is_taken:
                self.taken.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                self.taken[-1].bind(("127.0.0.1", self.numbers[number]))

    def free(self) -> None:
        for each in self.taken:
            each.close()
        self.taken = []

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 100) + 1):
            self.reactor.advance(0.01)


@pytest.fixture
def setup() -> Any:
    made = Setup()
    yield made
    made.free()
    made.recovery.stop()
    made.ports.close()
    made.reactor.advance(0)


def _told(events: list[Any]) -> list[str]:
    return [formatEvent(event) or "" for event in events if event["log_namespace"] == "test"]


def test_it_listens_again_in_its_place(setup: Setup) -> None:
    before = setup.ports.descriptions
    with logged() as events:
        setup.lose(0)
        assert setup.ports.descriptions == before[1:]
        setup.pass_time(0.2)
    assert setup.ports.descriptions == before
    assert setup.changes == [[setup.texts[0]], []]
    assert _told(events) == [
        f"{setup.texts[0]} no longer listens: OSError: gone",
        f"{setup.texts[0]} listens again",
    ]
    assert setup.hopeless == []


def test_while_it_cannot_it_tries_again_at_longer_and_longer_intervals(setup: Setup) -> None:
    setup.lose(0, is_taken=True)
    with logged() as events:
        setup.pass_time(100)
        told = _told(events)
    # After 0.1, 0.3, 0.7 … 51.1 s, and from then on every 30 s.
    assert told[0] == f"{setup.texts[0]} no longer listens: OSError: gone"
    assert len(told) == 1 + 9 + 1
    why = f"cannot listen on {setup.texts[0]}: address already in use: "
    assert {each[: len(why)] for each in told[1:]} == {why}
    assert setup.recovery.lost == [setup.texts[0]]
    assert setup.hopeless == []
    setup.free()
    setup.pass_time(30)
    assert setup.recovery.lost == []
    assert len(setup.ports.open) == 2


def test_it_is_hopeless_once_when_nothing_else_listens(setup: Setup) -> None:
    setup.lose(0, is_taken=True)
    setup.pass_time(_AFTER + 1)
    assert setup.hopeless == []
    setup.lose(1, is_taken=True)
    setup.pass_time(_AFTER - 0.1)
    assert setup.hopeless == []
    setup.pass_time(100)
    assert len(setup.hopeless) == 1
    assert setup.hopeless[0].startswith("nothing is left to listen on: cannot listen on udp:")


def test_both_lost_at_once_are_hopeless_once(setup: Setup) -> None:
    setup.lose(0, 1, is_taken=True)
    assert setup.reactor.getDelayedCalls()
    setup.pass_time(_AFTER + 60)
    assert len(setup.hopeless) == 1
    setup.free()
    setup.pass_time(30)
    assert setup.recovery.lost == []


def test_one_that_is_lost_again_and_again_is_tried_less_and_less_often(setup: Setup) -> None:
    waited = []
    for _ in range(5):
        setup.lose(0)
        waited.append(0.0)
        while len(setup.ports.open) < 2:
            setup.reactor.advance(0.01)
            waited[-1] += 0.01
    assert waited == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6], abs=0.03)
    setup.pass_time(31)
    setup.lose(0)
    setup.pass_time(0.2)
    assert len(setup.ports.open) == 2


@pytest.mark.parametrize("seconds", [0, 0.05, 1])
def test_after_a_stop_it_is_not_opened_again(setup: Setup, seconds: float) -> None:
    setup.lose(0, is_taken=True)
    setup.pass_time(seconds) if seconds else None
    setup.free()
    setup.recovery.stop()
    setup.ports.close()
    setup.pass_time(5)
    assert setup.ports.open == []
    assert setup.recovery.lost == []


def test_a_reactor_that_ends_loses_nothing(setup: Setup) -> None:
    with logged() as events:
        setup.lose(0, 1)  # disconnectAll; nothing is called any more
    assert _told(events) == []
