"""Timers that go by a clock that nobody sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.base import ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock

from sockservices.transports import EagerReactor, EagerStreams, clock, keep_steady
from tests.transports.reactors import started


class Clocks:
    """In place of the system's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.monotonic = 1_800_000_000.0, 1000.0
        monkeypatch.setattr(clock, "time", lambda: self.wall)
        monkeypatch.setattr(clock, "monotonic", lambda: self.monotonic)
        monkeypatch.setattr(ReactorBase, "seconds", staticmethod(lambda: self.wall))

    def go_on(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.mark.parametrize("make", [EPollReactor, PollReactor, SelectReactor, EagerReactor])
@pytest.mark.parametrize("step", [-3600, 3600])
def test_what_is_to_be_done_later_is_done_in_time(
    clocks: Clocks, make: Callable[[], Any], step: int
) -> None:
    with started(make) as reactor:
        done: list[str] = []
        reactor.callLater(10, done.append, "before")
        keep_steady(reactor)
        reactor.callLater(10, done.append, "after")
        clocks.wall += step
        reactor.callLater(10, done.append, "set")
        clocks.go_on(9)
        reactor.iterate(0)
        assert done == []
        clocks.go_on(2)
        reactor.iterate(0)
        assert sorted(done) == ["after", "before", "set"]


@pytest.mark.parametrize("make", [SelectReactor, EagerReactor])
def test_the_time_goes_on_from_where_it_was(clocks: Clocks, make: Callable[[], Any]) -> None:
    with started(make) as reactor:
        keep_steady(reactor)
        clocks.go_on(5)
        assert reactor.seconds() == clocks.wall
        keep_steady(reactor)  # again: as it is
        clocks.wall += 60
        keep_steady(reactor)
        assert reactor.seconds() == clocks.wall - 60


def test_eager_streams_keep_their_reactor_steady(clocks: Clocks) -> None:
    with started(SelectReactor) as reactor:
        streams = EagerStreams(reactor)
        clocks.wall -= 60
        assert streams.seconds() == reactor.seconds() == clocks.wall + 60


def test_another_clock_is_left_as_it_is() -> None:
    class Own(SelectReactor):
        def seconds(self) -> float:
            return 7.0

    with started(Own) as reactor:
        keep_steady(reactor)
        assert reactor.seconds() == 7.0
    fake = Clock()
    keep_steady(fake)
    assert fake.seconds() == 0.0
