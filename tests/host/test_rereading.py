from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.logger import Logger

from sockservices.connections.parts import Steps
from sockservices.errors import ArgumentName, DescriptionError, SettingError
from sockservices.host import rereading as module
from sockservices.host.rereading import Rereading
from tests.fakes import logged


@pytest.fixture(autouse=True)
def _a_turn_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 0)


class Turns:
    """A reactor whose calls of one turn may ask for calls in the next."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def callLater(self, seconds: float, call: Callable[[], None]) -> None:
        assert seconds == 0
        self.due.append(call)

    def turn(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()


class Setup:
    """Rereading of two things, each in three steps, and what was done."""

    def __init__(self) -> None:
        self.reactor = Turns()
        self.done: list[str] = []
        self.rereading = Rereading(self.reactor, Logger(namespace="tried"), self._readings)
        self.fails: dict[str, Exception] = {}

    def _readings(self) -> list[tuple[str, Steps[None]]]:
        return [(what, self._read(what)) for what in ("first", "second")]

    def _read(self, what: str) -> Steps[None]:
        for step in range(3):
            self.done.append(f"{what} {step}")
            yield
        if what in self.fails:
            raise self.fails[what]

    def request(self, name: str) -> None:
        self.rereading.request().addCallback(lambda _none: self.done.append(name))

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.reactor.turn()


def test_the_reactor_turns_between_the_steps() -> None:
    setup = Setup()
    setup.request("done")
    assert setup.done == ["first 0"]
    setup.turn()
    assert setup.done == ["first 0", "first 1"]
    setup.turn(10)
    steps = [f"{what} {step}" for what in ("first", "second") for step in range(3)]
    assert setup.done == [*steps, "done"]
    assert not setup.reactor.due


def test_requests_that_come_meanwhile_are_answered_by_one_more_reading() -> None:
    setup = Setup()
    setup.request("one")
    setup.turn()
    for name in ("two", "three", "four"):
        setup.request(name)
    setup.turn(20)
    steps = [f"{what} {step}" for what in ("first", "second") for step in range(3)]
    assert setup.done == [*steps, "one", *steps, "two", "three", "four"]


def test_one_that_asks_when_it_hears_is_answered_too() -> None:
    setup = Setup()
    setup.rereading.request().addCallback(lambda _none: setup.request("later"))
    setup.turn(20)
    assert len(setup.done) == 13
    assert setup.done[-1] == "later"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SettingError(ArgumentName("deny_file"), ": no"), "not reloaded: --deny-file: no"),
        (DescriptionError("no"), "not reloaded: no"),
        (ZeroDivisionError(), "not reloaded: first"),
    ],
)
def test_one_that_fails_is_logged_and_costs_no_other(error: Exception, told: str) -> None:
    setup = Setup()
    setup.fails["first"] = error
    with logged() as events:
        setup.request("done")
        setup.turn(20)
    assert _said(events) == [told, "reloaded: second"]
    assert setup.done[-1] == "done"


def _said(events: list[Any]) -> list[str]:
    return [each["log_format"].format(**each) for each in events]


def test_short_steps_need_no_other_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 3600)
    setup = Setup()
    setup.request("done")
    assert setup.done[-1] == "done"
    assert not setup.reactor.due
