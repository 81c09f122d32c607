"""Reading the files of a running host again, while the event loop turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sockservices.connections.parts import Steps
from sockservices.errors import DescriptionError, SettingError
from sockservices.settings import spelled_as_option

_AT_ONCE = 0.005  # seconds


class Rereading:
    """Reads files again in short steps; requests that come meanwhile are answered together.

    Parameters:
        reactor: an ``IReactorTime``.
        log: receives what was read again, and what could not be.
        readings: returns what to read again, each as a word and the steps that do it.
    """

    def __init__(
        self, reactor: Any, log: Logger, readings: Callable[[], Iterable[tuple[str, Steps[None]]]]
    ) -> None:
        self._reactor = reactor
        self._log = log
        self._readings = readings
        self._waiting: list[Deferred[None]] = []
        self._steps: Steps[None] | None = None

    def request(self) -> Deferred[None]:
        """Read all files again, from their beginning.

        Returns a ``Deferred`` that fires when that is done, which may be at once.
        """
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if self._steps is None:
            self._steps = self._read()
            self._go_on()
        return done

    def _go_on(self) -> None:
        assert self._steps is not None
        ends = monotonic() + _AT_ONCE
        for _ in self._steps:
            if monotonic() >= ends:
                self._reactor.callLater(0, self._go_on)
                return
        self._steps = None

    def _read(self) -> Steps[None]:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for what, steps in self._readings():
                try:
                    yield from steps
                except SettingError as error:
                    reason = error.spelled(spelled_as_option)
                    self._log.error("not reloaded: {reason}", reason=reason)
                except DescriptionError as error:
                    self._log.error("not reloaded: {reason}", reason=error)
                except Exception:
                    self._log.failure("not reloaded: {what}", what=what)
                else:
                    self._log.info("reloaded: {what}", what=what)
            for each in waiting:
                each.callback(None)
