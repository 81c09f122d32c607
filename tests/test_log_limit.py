from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent

from sockservices.log_limit import LogLimit
from tests.fakes import logged


@pytest.mark.parametrize("most", [1, 3])
def test_the_first_of_each_kind_are_allowed_and_the_others_are_told_as_a_number(most: int) -> None:
    clock = Clock()
    limit = LogLimit(Logger("sock-echo"), clock, most, seconds=10)
    with logged() as events:
        assert [limit.allows("rate") for _ in range(5)] == [True] * most + [False] * (5 - most)
        clock.advance(9)
        # Every kind has its own number, and the period is one for all.
        assert [limit.allows("denied") for _ in range(4)] == [True] * most + [False] * (4 - most)
        assert not limit.allows("rate")
        assert events == []
        clock.advance(1)
    assert [formatEvent(each) for each in events] == [
        f"rate: {6 - most} more in 10 s",
        f"denied: {4 - most} more in 10 s",
    ]
    assert {each["log_namespace"] for each in events} == {"sock-echo"}


def test_after_a_period_it_begins_again_with_the_next_event() -> None:
    clock = Clock()
    limit = LogLimit(Logger("sock-echo"), clock, most=2, seconds=10)
    with logged() as events:
        assert limit.allows("rate")
        clock.advance(10)
        assert clock.getDelayedCalls() == []  # nothing wakes a process where nothing happens
        clock.advance(100)
        assert [limit.allows("rate") for _ in range(3)] == [True, True, False]
        clock.advance(9)
        assert events == []
        clock.advance(1)
    assert [formatEvent(each) for each in events] == ["rate: 1 more in 10 s"]


def test_nothing_is_said_of_a_period_in_which_all_were_logged() -> None:
    clock = Clock()
    limit = LogLimit(Logger("sock-echo"), clock, most=2)
    with logged() as events:
        assert limit.allows("rate")
        assert limit.allows("rate")
        clock.advance(60)
        limit.end_period()
    assert events == []


def test_at_its_end_it_says_the_rest_and_leaves_no_timer() -> None:
    clock = Clock()
    limit = LogLimit(Logger("sock-echo"), clock)
    with logged() as events:
        for _ in range(3):
            limit.allows("rate")
        limit.end_period()
        assert clock.getDelayedCalls() == []
        limit.end_period()
    assert [formatEvent(each) for each in events] == ["rate: 2 more in 60 s"]
