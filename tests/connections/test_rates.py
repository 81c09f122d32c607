from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockservices.connections import rates as module
from sockservices.connections.rates import Rate, Rates, to_rate


def _held_to(of_all: Rate | None = None, of_each: Rate | None = None) -> Rates:
    rates = Rates()
    rates.hold_to(of_all, of_each)
    return rates


@given(st.integers(1, 5), st.lists(st.floats(0, 3, allow_nan=False), max_size=60), st.booleans())
def test_in_no_time_come_more_than_the_rate(count: int, gaps: list[float], is_each: bool) -> None:
    rates = _held_to(None, Rate(count, 5.0)) if is_each else _held_to(Rate(count, 5.0))
    now, admitted = 0.0, deque[float]()
    for gap in gaps:
        now += gap
        recent = sum(now - each < 5.0 for each in admitted)
        if rates.refusal("source", now) is None:
            admitted.append(now)
            assert recent < count
        else:
            assert recent >= count


def test_without_rates_all_come_in_and_nothing_is_remembered() -> None:
    rates = _held_to()
    assert {rates.refusal(number, 0.0) for number in range(100)} == {None}
    assert (rates.sources, rates.times) == (0, 0)


def test_a_flood_of_sources_takes_no_more_memory_than_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST_SOURCES", 10)
    rates = _held_to(None, Rate(1, 60))
    assert rates.refusal("first", 0.0) is None
    for number in range(100):
        rates.refusal(number, 1.0)
        assert rates.refusal("first", 1.0) == "rate-per-source"  # heard of all the time
    assert rates.sources == 10


def test_times_are_bounded_as_well_and_forgotten_when_they_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST_TIMES", 100)
    rates = _held_to(None, Rate(30, 60))
    for number in range(10):
        admitted = [rates.refusal(number, 0.0) for _ in range(40)].count(None)
        assert admitted == 30
        assert rates.times <= 100
    assert rates.times == 30 * rates.sources
    assert rates.refusal(9, 0.0) == "rate-per-source"
    assert rates.refusal(77, 60.0) is None
    assert (rates.sources, rates.times) == (1, 1)


def test_other_rates_begin_from_nothing_and_the_same_go_on() -> None:
    rates = _held_to(Rate(1, 60), Rate(1, 60))
    assert rates.refusal("a", 0.0) is None
    rates.hold_to(Rate(1, 60), Rate(2, 60))
    assert (rates.sources, rates.times) == (0, 0)
    assert rates.refusal("a", 1.0) == "rate"
    rates.hold_to(Rate(2, 60), Rate(2, 60))
    assert [rates.refusal("a", 2.0) for _ in range(3)] == [None, None, "rate"]


@pytest.mark.parametrize(
    "wrong", [(0, 60), (1_000_001, 60), (1, 0), (1, -1), ("x", 60), (1, float("nan"))]
)
def test_a_rate_of_nothing_is_refused_at_once(wrong: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="is not a"):
        Rate(*wrong)


@pytest.mark.parametrize("text", ["x", "1", "1/-1", "", "1/1/1"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate, such as 100/60 for 100 in 60 seconds"):
        to_rate(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0/60", "0 is not a whole number from 1 to 1000000"),
        ("1000001/60", "1000001 is not a whole number from 1 to 1000000"),
        ("1/0", "'0' is not a number of seconds, more than 0"),
        (f"1/{'9' * 400}", "is not a number of seconds, 0 or more"),
    ],
)
def test_a_rate_that_is_too_small_or_too_large_says_which_it_may_be(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is not a rate: .*{reason}$"):
        to_rate(text)


def test_a_rate_is_shown_as_it_is_written() -> None:
    for text in ("100/60", "1/0.5"):
        assert str(to_rate(text)) == text
    assert to_rate(Rate(1, 2)) == Rate(1, 2)


def test_a_place_is_free_again_when_the_time_is_over_and_not_before() -> None:
    for rates, reason in (
        (_held_to(Rate(2, 10)), "rate"),
        (_held_to(None, Rate(2, 10)), "rate-per-source"),
    ):
        assert [rates.refusal("a", now) for now in (0.0, 1.0, 9.9)] == [None, None, reason]
        assert [rates.refusal("a", now) for now in (10.0, 10.9, 11.0)] == [None, reason, None]


def test_who_is_refused_for_its_source_uses_nothing_of_the_rate_of_all() -> None:
    rates = _held_to(Rate(2, 10), Rate(1, 10))
    assert rates.refusal("a", 0.0) is None
    assert rates.refusal("a", 0.0) == "rate-per-source"
    assert rates.refusal(None, 0.0) is None  # without a source
    assert rates.refusal("b", 0.0) == "rate"
    assert (rates.sources, rates.times) == (1, 1)


def test_those_of_whom_nothing_is_held_any_more_are_forgotten_one_by_one() -> None:
    rates = _held_to(None, Rate(1, 10))
    for number in range(3):
        assert rates.refusal(number, float(number)) is None
    assert rates.refusal("later", 11.0) is None  # 0 and 1 are over
    assert (rates.sources, rates.times) == (2, 2)


def test_a_source_holds_no_more_times_than_its_rate_needs() -> None:
    rates = _held_to(None, Rate(3, 10))
    for now in (0.0, 0.0, 0.0, 10.0, 10.0, 10.0, 20.0):
        assert rates.refusal("a", now) is None
        assert rates.times <= 3
    assert rates.times == 3


def test_as_many_times_as_may_be_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_TIMES", 6)
    rates = _held_to(None, Rate(3, 60))
    for source in ("a", "a", "a", "b", "b", "c"):
        assert rates.refusal(source, 0.0) is None
    assert (rates.sources, rates.times) == (3, 6)


def test_the_only_source_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_TIMES", 5)
    rates = _held_to(None, Rate(10, 60))
    assert [rates.refusal("a", 0.0) for _ in range(10)] == [None] * 10
    assert rates.refusal("a", 0.0) == "rate-per-source"
