from __future__ import annotations

from twisted.internet.task import Clock

from sockservices.timer import cancel


def test_a_call_that_is_cancelled_is_not_made() -> None:
    clock = Clock()
    made: list[str] = []
    cancel(clock.callLater(1, made.append, "cancelled"))
    clock.callLater(1, made.append, "other")
    clock.advance(1)
    assert made == ["other"]
    assert clock.getDelayedCalls() == []


def test_what_was_made_or_cancelled_or_never_was_is_no_trouble() -> None:
    clock = Clock()
    made: list[str] = []
    call = clock.callLater(1, made.append, "made")
    clock.advance(1)
    cancel(call)
    other = clock.callLater(1, made.append, "cancelled")
    cancel(other)
    cancel(other)
    cancel(None)
    clock.advance(1)
    assert made == ["made"]
