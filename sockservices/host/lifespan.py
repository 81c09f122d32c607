"""What a service does itself when it starts, reloads and ends, and when its factory may stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.converters import some_seconds
from sockservices.errors import ListenError, SettingError
from sockservices.mistakes import described
from sockservices.service import ILifespan
from sockservices.settings import setting


@attrs.frozen
class Lifespan(Part):
    """The time limit of what a service does itself when it starts, reloads and ends."""

    heading = "Start and end"

    lifespan_timeout: float = setting(
        default=10.0,
        converter=some_seconds,
        unit="seconds",
        help="Wait this long for the service's own start, and as long for its reload and its end, "
        "if it has them (ILifespan).",
    )

    def begin(self, context: Context) -> RunningPart[Lifespan]:
        """See ``Part.begin``; the host reads the setting when it starts, reloads and stops."""
        return RunningPart(self, context)


class _UnfinishedError(Exception):
    """The error, of one line, for a start, a reload or an end that was late or cancelled itself."""


class Life:
    """The starts, reloads and ends of the objects that serve, one at a time.

    Parameters:
        factory: the stream factory, or ``None``. Its ports call its ``doStop`` when they close,
            but what its ``stopFactory`` closes is needed until the last connection has ended.
        reactor: an ``IReactorTime``.
        log: receives what fails.
        timeout: returns how long each start, reload and end may take, in seconds.
    """

    def __init__(
        self, factory: Any, reactor: Any, log: Logger, timeout: Callable[[], float]
    ) -> None:
        self._factory = factory
        self._reactor = reactor
        self._log = log
        self._timeout = timeout
        self._turn = DeferredLock()
        self._begun: list[Any] = []
        self._reloads: list[Deferred[None]] = []
        self._running: Deferred[Any] | None = None
        self._is_ending = False
        self._is_interrupted = False
        self._is_hurried = False
        self._is_held = False

    def begin(self, serving: Callable[[], Iterable[Any]]) -> Deferred[None]:
        """Start those of the objects that provide ``ILifespan`` and have not been started yet.

        Parameters:
            serving: returns all objects that serve.

        Returns a ``Deferred`` that fires when they have started. It fails with ``ListenError`` if
        one cannot start, and with ``CancelledError`` after ``interrupt``.
        """
        self._is_hurried = False
        return self._turn.run(self._begin, serving)

    async def _begin(self, serving: Callable[[], Iterable[Any]]) -> None:
        before = len(self._begun)
        try:
            for each in serving():
                is_new = all(each is not other for other in self._begun)
                if ILifespan.providedBy(each) and is_new:
                    await self._await(each.start)
                    self._begun.append(each)
        except (Exception, SystemExit) as error:
            await self._end_each(before)
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, CancelledError):
            return error
        is_plain = isinstance(error, _UnfinishedError | SettingError)
        return ListenError(f"cannot start: {error if is_plain else described(error)}")

    def hold(self) -> None:
        """Keep the stream factory started until ``end``; one of its ports has started it."""
        if not self._is_held:
            self._is_held = True
            self._factory.doStart()

    def reload(self) -> Deferred[None]:
        """Reload the objects that were started, and log how that went.

        Returns a ``Deferred`` that fires when that is done, once for all calls before it begins.
        """
        done: Deferred[None] = Deferred()
        self._reloads.append(done)
        if len(self._reloads) == 1:
            self._turn.run(self._reload)
        return done

    async def _reload(self) -> None:
        waiting, self._reloads = self._reloads, []
        await self._reload_each()
        for each in waiting:
            each.callback(None)

    async def _reload_each(self) -> None:
        for each in list(self._begun):
            try:
                await self._await(each.reload)
            except CancelledError:  # by a stop
                return
            except (_UnfinishedError, SettingError) as error:
                self._log.error("not reloaded: {reason}", reason=error)
            except (Exception, SystemExit):
                self._log.failure("the service could not reload")
            else:
                self._log.info("reloaded: {what}", what="the service")

    def end(self) -> Deferred[None]:
        """End the objects that were started, the last one first, after the factory has stopped."""
        return self._turn.run(self._end)

    async def _end(self) -> None:
        if self._is_held:
            self._is_held = False
            try:
                self._factory.doStop()
            except Exception:
                self._log.failure("the factory could not stop")
        await self._end_each(0)

    async def _end_each(self, kept: int) -> None:
        """End all but the first of what was started."""
        self._is_ending = True
        for each in reversed(self._begun[kept:]):
            try:
                await self._await(each.end)
            except CancelledError:  # by a second signal
                self._log.warn("the service did not end")
            except _UnfinishedError as error:
                self._log.warn("the service did not end: {reason}", reason=error)
            except (Exception, SystemExit):
                self._log.failure("the service could not end")
        del self._begun[kept:]
        self._is_ending = False

    @property
    def is_wanted(self) -> bool:
        """Whether something was started that provides ``ILifespan``."""
        return bool(self._begun)

    @property
    def most_to_end(self) -> float:
        """How many seconds the ends of what has been started, and not ended yet, may take."""
        return len(self._begun) * self._timeout()

    def interrupt(self) -> None:
        """Cancel the start or the reload that is running."""
        if not self._is_ending:
            self._interrupt()

    def hurry(self) -> None:
        """Do not wait for ends, until the next ``begin``; they run as far as they do at once."""
        self._is_hurried = True
        self._interrupt()

    def _interrupt(self) -> None:
        if self._running is not None:
            self._is_interrupted = True
            self._running.cancel()

    def _await(self, do: Callable[[], Any]) -> Deferred[Any]:
        """Call a method, and wait for its result within the time limit.

        The result is there in time even if what the method returned cannot be cancelled.
        """
        self._is_interrupted = False
        doing = maybeDeferred(do).addErrback(self._cancelled_itself)
        done: Deferred[Any] = Deferred(lambda _done: doing.cancel())
        doing.addBoth(lambda result: None if done.called else done.callback(result))
        self._running = done
        late = _UnfinishedError(f"it took longer than {self._timeout():g} s (--lifespan-timeout)")
        done.addTimeout(self._timeout(), self._reactor, lambda _result, _seconds: Failure(late))
        if self._is_hurried:
            self._interrupt()
        return done.addBoth(self._no_longer_running)

    def _cancelled_itself(self, failure: Failure) -> Failure:
        error: Any = failure.value
        if self._is_interrupted or not isinstance(error, CancelledError):
            return failure
        return Failure(_UnfinishedError(described(error)))

    def _no_longer_running(self, result: Any) -> Any:
        self._running = None
        return result
