"""Searching for an input that breaks a rule, and detecting what a service leaves behind."""

from __future__ import annotations

import functools
import gc
import inspect
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent, globalLogPublisher

from sockservices.mistakes import described
from sockservices.printable import escaped
from sockservices.testing import rules
from sockservices.testing.failures import ContractError, Rule

_V = TypeVar("_V")
__tracebackhide__ = True  # pytest hides these frames: an author wants those of the service
_LONGEST_SHOWN = 60  # bytes


def built_by(contract: Any) -> Any:
    """Return what a contract's ``factory`` builds; raise ``ContractError`` if it cannot."""
    factory = type(contract).factory
    named = getattr(factory, "__qualname__", repr(factory))
    try:
        return factory(contract) if _takes_self(factory) else factory()
    except Exception as error:
        raise not_built(described(error), f"{named}()") from error


def not_built(what: str, given: str = "factory()") -> ContractError:
    """Return the error to raise when a contract has nothing to check."""
    return ContractError(rules.BUILDING, what, given)


def _takes_self(factory: Any) -> bool:
    parameters = inspect.signature(factory).parameters if inspect.isfunction(factory) else {}
    return any(each.default is each.empty for each in parameters.values())


def check(
    inputs: st.SearchStrategy[_V],
    run: Callable[[_V], None],
    examples: int = 50,
    shrinks: bool = True,
) -> None:
    """Call ``run`` with many inputs; report the shortest one that fails.

    Parameters:
        inputs: the strategy that generates them.
        run: raises ``ContractError`` for an input that breaks a rule.
        examples: the maximum number of inputs.
        shrinks: whether to look for a shorter input that fails.
    """

    @st.composite
    def hidden(draw: st.DrawFn) -> _Input:
        return _Input(draw(inputs))

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink) if shrinks else (Phase.generate,),
    )
    @given(hidden())
    def each(found: _Input) -> None:
        freeze()
        run(found.value)

    @functools.cache
    def freeze() -> None:
        # Objects that exist already do not matter, so the collector can skip them. Not earlier:
        # Hypothesis needs to collect some of them before its first input.
        gc.collect()
        gc.freeze()

    try:
        each()
    except ContractError as error:  # without the notes that Hypothesis adds
        raise ContractError(error.rule, error.what, error.given) from error.__cause__
    except Flaky as error:
        broken = [each for each in _within(error) if isinstance(each, ContractError)]
        if not broken:
            raise
        what = f"only once: {broken[0].what}"
        raise ContractError(rules.REPEATABLE, what, broken[0].given) from None
    finally:
        gc.unfreeze()


def _within(error: BaseException) -> Iterator[BaseException]:
    yield error
    # Older versions of Hypothesis raise it from the first failure.
    for each in (*getattr(error, "exceptions", ()), error.__cause__):
        if each is not None:
            yield from _within(each)


class _Input:
    """A wrapper that keeps Hypothesis from printing an input: the contract prints it, shortened."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "..."


def shown(data: bytes) -> str:
    """Return bytes as Python writes them, shortened if there are many."""
    if len(data) <= _LONGEST_SHOWN:
        return repr(data)
    return f"{data[:_LONGEST_SHOWN]!r}... ({len(data)} bytes)"


class Watched:
    """A watch for failures that are logged, and calls left pending, while something runs."""

    def __init__(self) -> None:
        self.failures: list[LogEvent] = []
        self._calls_before = _delayed_calls()

    def observe(self, event: LogEvent) -> None:
        """Remember a logged failure."""
        if event.get("log_failure") is not None or event.get("isError"):
            self.failures.append(event)

    def raise_logged(self, rule: Rule, given: str) -> None:
        """Raise ``ContractError`` if a failure was logged."""
        if self.failures:
            # For an error in a Deferred, the first event says only that there was one.
            failed = [each for each in self.failures if "log_failure" in each]
            event = (failed or self.failures)[0]
            failure = event.get("log_failure")
            if failure is None:
                raise ContractError(rule, f"logged: {escaped(formatEvent(event))}", given)
            what = escaped(described(failure.value))
            raise ContractError(rule, f"logged: {what}", given) from failure.value

    def raise_left(self, reference: Callable[[], Any], rule: Rule, given: str) -> None:
        """Raise ``ContractError`` if a delayed call is pending, or an object is still referenced.

        Parameters:
            reference: what ``reference_to`` returned for the object.
        """
        self.raise_logged(rule, given)
        before = set(map(id, self._calls_before))
        left = [each for each in _delayed_calls() if id(each) not in before]
        if left:
            what = f"a delayed call is pending: {left[0]}"
            for each in left:
                each.cancel()
            raise ContractError(rule, what, given)
        if reference() is not None:
            _let_the_log_forget(reference())
            gc.collect()
        if (kept := reference()) is not None:
            gc.unfreeze()  # otherwise the oldest referrers are not found
            holder = next((each for each in gc.get_referrers(kept) if not _is_frame(each)), None)
            what = f"{type(kept).__name__} is still referenced by a {type(holder).__name__}"
            raise ContractError(rule, what, given)


def _let_the_log_forget(source: Any) -> None:
    """Remove an object from the log events that Twisted buffers until logging begins."""
    for holder in gc.get_referrers(source):
        if isinstance(holder, dict) and "log_namespace" in holder:
            holder.pop("log_source", None)
        elif isinstance(holder, Logger):
            holder.source = None


def reference_to(thing: Any) -> Callable[[], Any]:
    """Return a weak reference to an object; call it to get the object or ``None``."""
    try:
        return weakref.ref(thing)
    except TypeError:  # one with __slots__
        return lambda: None


def _is_frame(holder: Any) -> bool:
    return type(holder).__name__ in ("frame", "cell")


def _delayed_calls() -> list[Any]:
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    return list(reactor.getDelayedCalls()) if reactor is not None else []


def running(rule: Rule, given: str, run: Callable[[Watched], None]) -> None:
    """Call ``run``; report an exception, or a logged failure, as a violation of this rule."""
    watched = Watched()
    observer = cast(ILogObserver, watched.observe)
    globalLogPublisher.addObserver(observer)
    try:
        run(watched)
        gc.collect()  # a Deferred logs its unhandled error when it is collected
    except ContractError:
        raise
    except (Exception, SystemExit) as error:
        raise ContractError(rule, described(error), given) from error
    finally:
        globalLogPublisher.removeObserver(observer)
    watched.raise_logged(rule, given)


@contextmanager
def growth_in() -> Iterator[Callable[[], int]]:
    """Yield a function that returns by how many bytes Python's memory has grown."""
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start(1)
    begun = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - begun
    finally:
        if not was_tracing:
            tracemalloc.stop()


def check_blocking(
    examples: Sequence[bytes],
    inputs: st.SearchStrategy[bytes],
    longest: Callable[[bytes], float],
    most: float,
    otherwise: Rule,
) -> None:
    """Raise ``ContractError`` if a call into a protocol takes too long.

    Parameters:
        examples: the inputs to try first, shortest first: shrinking slow ones would take too long.
        inputs: the inputs to try after them.
        longest: gives an input to the service, and returns the seconds of the longest call.
        most: the seconds that a call may take.
        otherwise: the rule that is broken if something fails.
    """

    def run(data: bytes) -> None:
        def look(_watched: Watched) -> None:
            times = [longest(data)]
            # If it is slow once, it may be the machine; if it is slow three times, the service.
            while len(times) < 3 and times[-1] > most:
                times.append(longest(data))
            if min(times) > most:
                what = f"a call took {min(times):.1f} s (max_blocking: {most})"
                raise ContractError(rules.BLOCKING, what, shown(data))

        running(otherwise, shown(data), look)

    for data in sorted(examples, key=len):
        run(data)
    check(inputs, run, shrinks=False)
