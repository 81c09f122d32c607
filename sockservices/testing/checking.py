"""Looking for an input that breaks a rule, and at what a service leaves behind."""

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

from sockservices.printable import escaped
from sockservices.testing import rules
from sockservices.testing.failures import ContractError, Rule

_V = TypeVar("_V")
__tracebackhide__ = True  # from pytest: an author looks for frames of the service
_LONGEST_SHOWN = 60  # bytes


def built_by(contract: Any) -> Any:
    """Return what a contract's ``factory`` builds; raise ``ContractError`` if it does not."""
    factory = type(contract).factory
    named = getattr(factory, "__qualname__", repr(factory))
    try:
        return factory(contract) if _takes_self(factory) else factory()
    except Exception as error:
        raise not_built(f"{type(error).__name__}: {error}", f"{named}()") from error


def not_built(what: str, given: str = "factory()") -> ContractError:
    """Return what to raise where a contract has nothing to look at."""
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
    """Call with so many inputs; what fails is tried with shorter ones, and told of the shortest.

    Parameters:
        inputs: where they come from.
        run: raises ``ContractError`` for one that breaks a rule.
        examples: how many at the most.
        shrinks: whether to look for a shorter one.
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
        # What is there already is nobody's fault here, and need not be looked at each time; but
        # Hypothesis looks at some of it, before its first input.
        gc.collect()
        gc.freeze()

    try:
        each()
    except ContractError as error:  # without what Hypothesis notes of its own
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
    for each in getattr(error, "exceptions", ()):
        yield from _within(each)


class _Input:
    """Keeps Hypothesis from showing what a contract shows itself, and shorter."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "..."


def shown(data: bytes) -> str:
    """Show bytes as Python writes them, long ones in part."""
    if len(data) <= _LONGEST_SHOWN:
        return repr(data)
    return f"{data[:_LONGEST_SHOWN]!r}... ({len(data)} bytes)"


class Watched:
    """What is logged and what is put off while something runs."""

    def __init__(self) -> None:
        self.failures: list[LogEvent] = []
        self._calls_before = _delayed_calls()

    def observe(self, event: LogEvent) -> None:
        """Remember a failure that is logged."""
        if event.get("log_failure") is not None or event.get("isError"):
            self.failures.append(event)

    def raise_logged(self, rule: Rule, given: str) -> None:
        """Raise ``ContractError`` if a failure was logged."""
        if self.failures:
            # Of an error in a Deferred the first event says only that there is one.
            failed = [each for each in self.failures if "log_failure" in each]
            event = (failed or self.failures)[0]
            failure = event.get("log_failure")
            if failure is None:
                raise ContractError(rule, f"logged: {escaped(formatEvent(event))}", given)
            what = f"{failure.type.__name__}: {failure.getErrorMessage()}"
            raise ContractError(rule, f"logged: {escaped(what)}", given) from failure.value

    def raise_left(self, reference: Callable[[], Any], rule: Rule, given: str) -> None:
        """Raise ``ContractError`` if a call is put off, or an object is still referred to.

        Parameters:
            reference: made by ``reference_to``.
        """
        self.raise_logged(rule, given)
        before = set(map(id, self._calls_before))
        left = [each for each in _delayed_calls() if id(each) not in before]
        if left:
            what = f"a call is put off: {left[0]}"
            for each in left:
                each.cancel()
            raise ContractError(rule, what, given)
        if reference() is not None:
            _let_the_log_forget(reference())
            gc.collect()
        if (kept := reference()) is not None:
            gc.unfreeze()  # or the oldest holders are not found
            holder = next((each for each in gc.get_referrers(kept) if not _is_frame(each)), None)
            what = f"{type(kept).__name__} is kept by a {type(holder).__name__}"
            raise ContractError(rule, what, given)


def _let_the_log_forget(source: Any) -> None:
    """Twisted keeps the first events of a process until a log is begun, with what logged them."""
    for holder in gc.get_referrers(source):
        if isinstance(holder, dict) and "log_namespace" in holder:
            holder.pop("log_source", None)
        elif isinstance(holder, Logger):
            holder.source = None
        elif isinstance(holder, dict):  # the attributes of a logger, before Python 3.11
            for logger in gc.get_referrers(holder):
                if isinstance(logger, Logger) and vars(logger) is holder:
                    logger.source = None


def reference_to(thing: Any) -> Callable[[], Any]:
    """Return what returns an object as long as anything refers to it."""
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
    """Run, and have what fails or is logged as a failure told as this rule that is broken."""
    watched = Watched()
    observer = cast(ILogObserver, watched.observe)
    globalLogPublisher.addObserver(observer)
    try:
        run(watched)
        gc.collect()  # a Deferred logs an error that nobody handled when it is forgotten
    except ContractError:
        raise
    except (Exception, SystemExit) as error:
        raise ContractError(rule, f"{type(error).__name__}: {error}", given) from error
    finally:
        globalLogPublisher.removeObserver(observer)
    watched.raise_logged(rule, given)


@contextmanager
def growth_in() -> Iterator[Callable[[], int]]:
    """Yield what tells by how many bytes Python's memory has grown meanwhile."""
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
        examples: tried first, the shortest first: to look for shorter ones would take long.
        inputs: what is tried after them.
        longest: gives an input to the service, and returns the seconds of the longest call.
        most: seconds that a call may take.
        otherwise: the rule that is broken if something fails.
    """

    def run(data: bytes) -> None:
        def look(_watched: Watched) -> None:
            times = [longest(data)]
            # What is slow once may be the machine; what is slow three times is the service.
            while len(times) < 3 and times[-1] > most:
                times.append(longest(data))
            if min(times) > most:
                what = f"a call took {min(times):.1f} s (max_blocking: {most})"
                raise ContractError(rules.BLOCKING, what, shown(data))

        running(otherwise, shown(data), look)

    for data in sorted(examples, key=len):
        run(data)
    check(inputs, run, shrinks=False)
