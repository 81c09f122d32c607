"""A limit on how often the log repeats itself: the first events of a kind, then a number."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from sockservices.timer import Timer


class LogLimit:
    """Decides which of many similar events are logged, and logs how many were not.

    Anybody can cause these events, so that logging each of them would fill a disk. An event that is
    not logged costs only an addition to a count.

    Parameters:
        log: receives the number of events that were not logged.
        reactor: an ``IReactorTime``.
        most: how many events of a kind are logged in a period.
        seconds: how long a period is. It begins with an event.
    """

    def __init__(self, log: Logger, reactor: Any, most: int = 1, seconds: float = 60.0) -> None:
        self._log = log
        self._most = most
        self._seconds = seconds
        self._timer = Timer(reactor, self.end_period)
        self._logged: dict[str, int] = {}
        self._left_out: dict[str, int] = {}  # of the kinds that have reached the limit

    def allows(self, kind: str) -> bool:
        """Return whether to log an event of this kind; if not, it is counted.

        Parameters:
            kind: a few words that begin the line with the number of the others.
        """
        left_out = self._left_out
        if kind in left_out:
            left_out[kind] += 1
            return False
        logged = self._logged[kind] = self._logged.get(kind, 0) + 1
        if logged >= self._most:
            left_out[kind] = 0
        if not self._timer.is_running:
            self._timer.start(self._seconds)
        return True

    def end_period(self) -> None:
        """Log how many events were left out, and begin again."""
        self._timer.cancel()
        left_out, self._left_out = self._left_out, {}
        self._logged.clear()
        for kind, more in left_out.items():
            if more:
                self._log.info(
                    "{kind}: {more} more in {period:g} s",
                    kind=kind,
                    more=more,
                    period=self._seconds,
                )
