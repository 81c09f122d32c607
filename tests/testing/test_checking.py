"""What a contract takes for its factory, how it looks for an input, and what it notices."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import fail
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python import log
from twisted.python.failure import Failure

from sockservices import EchoFactory
from sockservices.testing import ContractError, StreamServiceContract, rules
from sockservices.testing.checking import (
    Watched,
    built_by,
    check,
    check_blocking,
    growth_in,
    not_built,
    reference_to,
    running,
    shown,
)
from sockservices.testing.failures import Rule
from tests.fakes import logged

reactor: Any = _reactor

BYTES = "test_no_input_raises_an_exception"


def make_echo(report: bool = False) -> EchoFactory:
    return EchoFactory(report=report)


class ByClass(StreamServiceContract):
    factory: Callable[[], Any] = EchoFactory


class ByFunction(StreamServiceContract):
    factory = make_echo


class ByMethod(StreamServiceContract):
    report = True

    def factory(self) -> EchoFactory:
        return EchoFactory(report=self.report)


@pytest.mark.parametrize("contract", [ByClass, ByFunction, ByMethod])
def test_a_class_a_function_or_a_method(contract: type[Any]) -> None:
    getattr(contract(), BYTES)()


class Faulty(Factory):
    def __init__(self, needed: int) -> None:
        self.needed = needed


def test_one_that_cannot_be_built_breaks_no_other_rule() -> None:
    class Contract(StreamServiceContract):
        factory: Any = Faulty

    with pytest.raises(ContractError) as caught:
        getattr(Contract(), BYTES)()
    assert caught.value.rule == rules.BUILDING
    assert caught.value.given == "Faulty()"
    assert "needed" in caught.value.what


RULE = Rule("doors are shut at night", "turn the key")


def _refuse(data: bytes) -> None:
    if len(data) > 3:
        raise ContractError(RULE, "it is open", repr(data))


def test_the_shortest_input_that_breaks_a_rule_is_found() -> None:
    with pytest.raises(ContractError) as caught:
        check(st.binary(max_size=50), _refuse)
    assert caught.value.given == repr(b"\0\0\0\0")
    assert caught.value.rule == RULE
    assert not hasattr(caught.value, "__notes__")  # Hypothesis's own


def test_without_shrinking_some_input_that_breaks_a_rule_is_found() -> None:
    tried: list[bytes] = []

    def refuse(data: bytes) -> None:
        tried.append(data)
        _refuse(data)

    with pytest.raises(ContractError) as caught:
        check(st.binary(max_size=50), refuse, shrinks=False)
    assert caught.value.given == repr(next(each for each in tried if len(each) > 3))


def test_the_same_inputs_are_tried_each_time_and_no_more_than_asked_for() -> None:
    runs: list[list[bytes]] = [[], []]
    for tried in runs:
        check(st.binary(max_size=50), tried.append, examples=20)
    assert runs[0] == runs[1]
    assert 10 < len(runs[0]) <= 20


def test_what_breaks_a_rule_only_once_is_told_so() -> None:
    broken: list[bytes] = []

    def refuse_once(data: bytes) -> None:
        if len(data) > 3 and not broken:
            broken.append(data)
            _refuse(data)

    with pytest.raises(ContractError) as caught:
        check(st.binary(max_size=50), refuse_once)
    assert caught.value.rule == rules.REPEATABLE
    assert caught.value.given == repr(broken[0])
    assert "it is open" in caught.value.what


@pytest.mark.parametrize(("size", "whole"), [(0, True), (60, True), (61, False), (10_000, False)])
def test_long_bytes_are_shown_in_part_with_their_number(size: int, whole: bool) -> None:
    data = b"x" * size
    assert (shown(data) == repr(data)) is whole
    assert len(shown(data)) < 100
    assert whole or str(size) in shown(data)


def test_what_fails_breaks_the_rule_with_its_cause() -> None:
    for error in (ValueError("broken"), SystemExit(3)):
        with pytest.raises(ContractError) as caught:
            running(RULE, "b'x'", _raising(error))
        assert (caught.value.rule, caught.value.given) == (RULE, "b'x'")
        assert caught.value.__cause__ is error
        assert type(error).__name__ in caught.value.what


def test_a_contract_that_is_broken_within_stays_that_one() -> None:
    own = ContractError(rules.ONCE, "own", "b'own'")
    with pytest.raises(ContractError) as caught:
        running(RULE, "b'x'", _raising(own))
    assert caught.value is own


def _raising(error: BaseException) -> Callable[[Watched], None]:
    def run(_watched: Watched) -> None:
        raise error

    return run


def test_a_failure_that_is_logged_breaks_the_rule() -> None:
    def log_failure(_watched: Watched) -> None:
        Logger().failure("at work", Failure(ValueError("broken\nin two")))

    def log_error(_watched: Watched) -> None:
        log.msg("broken", isError=True)

    def forget_a_failure(_watched: Watched) -> None:
        fail(ValueError("broken"))

    for run in (log_failure, log_error, forget_a_failure):
        with pytest.raises(ContractError) as caught:
            running(RULE, "b'x'", run)
        assert caught.value.rule == RULE
        assert "broken" in caught.value.what
        assert "\n" not in caught.value.what


def test_what_is_only_said_breaks_nothing() -> None:
    ran: list[str] = []

    def say(_watched: Watched) -> None:
        Logger().warn("it is late")
        ran.append("said")

    running(RULE, "b'x'", say)
    assert ran == ["said"]


class Thing:
    """Something that may be kept."""


def test_what_nobody_keeps_is_gone() -> None:
    watched = Watched()
    thing = Thing()
    reference = reference_to(thing)
    assert reference() is thing
    del thing
    watched.raise_left(reference, RULE, "b'x'")
    assert reference() is None


def test_what_is_kept_is_told_with_its_holder() -> None:
    watched = Watched()
    kept = {"a": Thing()}
    with pytest.raises(ContractError) as caught:
        watched.raise_left(reference_to(kept["a"]), RULE, "b'x'")
    assert caught.value.rule == RULE
    assert caught.value.what.startswith("Thing ")
    assert caught.value.what.endswith(" dict")


def test_what_is_held_by_itself_alone_is_gone() -> None:
    watched = Watched()
    thing: Any = Thing()
    thing.own = thing
    reference = reference_to(thing)
    del thing
    watched.raise_left(reference, RULE, "b'x'")


def test_what_a_log_that_has_not_begun_keeps_is_not_the_services() -> None:
    class Logging(Thing):
        log = Logger()

    buffered: list[dict[str, Any]] = []
    watched = Watched()
    thing = Logging()
    with logged() as events:
        thing.log.info("here")
        buffered += events
    reference = reference_to(thing)
    del thing, events
    watched.raise_left(reference, RULE, "b'x'")
    assert len(buffered) == 1


def test_a_call_that_is_put_off_is_told_and_cancelled() -> None:
    before = reactor.callLater(3600, str)
    watched = Watched()
    call = reactor.callLater(3600, str)
    with pytest.raises(ContractError) as caught:
        watched.raise_left(lambda: None, RULE, "b'x'")
    assert caught.value.rule == RULE
    assert not call.active()
    assert before.active()
    before.cancel()


def test_the_growth_of_memory_is_that_of_meanwhile() -> None:
    was_tracing = tracemalloc.is_tracing()
    before = bytearray(1 << 20)
    with growth_in() as growth:
        assert growth() < 1 << 19
        more = bytearray(1 << 20)
        assert growth() >= 1 << 20
        del more
        assert growth() < 1 << 19
    assert len(before) == 1 << 20
    assert tracemalloc.is_tracing() == was_tracing


def _slow(*times: float) -> tuple[list[bytes], Callable[[bytes], float]]:
    """Return what was tried, and a service that takes these times, in turn, of three bytes."""
    tried: list[bytes] = []
    left = list(times)

    def longest(data: bytes) -> float:
        tried.append(data)
        return left.pop(0) if data == b"123" and left else 0.0

    return tried, longest


def test_what_is_slow_three_times_is_the_service() -> None:
    tried, longest = _slow(0.9, 0.8, 0.7)
    with pytest.raises(ContractError) as caught:
        check_blocking([b"123", b"1"], st.nothing(), longest, 0.5, RULE)
    assert caught.value.rule == rules.BLOCKING
    assert caught.value.given == repr(b"123")
    assert "0.7" in caught.value.what
    assert tried == [b"1", b"123", b"123", b"123"]


def test_what_is_slow_once_may_be_the_machine() -> None:
    tried, longest = _slow(0.9, 0.8, 0.5)
    check_blocking([b"123"], st.just(b"other"), longest, 0.5, RULE)
    assert tried[:4] == [b"123", b"123", b"123", b"other"]


def test_what_fails_while_it_is_timed_breaks_the_other_rule() -> None:
    def longest(_data: bytes) -> float:
        raise ValueError("broken")

    with pytest.raises(ContractError) as caught:
        check_blocking([b"123"], st.nothing(), longest, 0.5, RULE)
    assert caught.value.rule == RULE


def test_a_contract_with_nothing_to_look_at_is_of_the_rule_on_building() -> None:
    error = not_built("7 is no factory", "make()")
    assert (error.rule, error.what, error.given) == (rules.BUILDING, "7 is no factory", "make()")


def test_what_a_factory_raises_is_told_with_its_cause() -> None:
    class Contract(StreamServiceContract):
        def factory(self) -> Any:
            raise ValueError("no oil")

    with pytest.raises(ContractError) as caught:
        built_by(Contract())
    assert caught.value.rule == rules.BUILDING
    assert "ValueError" in caught.value.what
    assert "no oil" in caught.value.what
    assert isinstance(caught.value.__cause__, ValueError)
