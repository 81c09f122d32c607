"""What is in the log: its fields, and observers to be named on ``twistd``'s command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel, textFileLogObserver


def to_stderr() -> ILogObserver:
    """Make a log observer that writes text to standard error.

    For ``twistd -n --logger=sockservices.to_stderr``, which leaves standard output to what a
    service prints. (``--logfile /dev/stderr`` does not: twistd rotates a log file by renaming.)
    """
    return textFileLogObserver(sys.stderr)


_SILENCE = 60.0  # seconds


class RareLog:
    """Logs what may happen often: of each event one in a minute, and the others are only counted.

    Parameters:
        to: where it is logged.
        clock: the time in seconds; only its differences matter.
    """

    def __init__(self, to: Logger, clock: Callable[[], float] = monotonic) -> None:
        self._to = to
        self._clock = clock
        self._silent_until: dict[str, float] = {}

    def info(self, text: str, **fields: object) -> None:
        """Log for operators who look for it."""
        self._emit(LogLevel.info, text, fields)

    def warn(self, text: str, **fields: object) -> None:
        """Log what an operator should look at."""
        self._emit(LogLevel.warn, text, fields)

    def _emit(self, level: Any, text: str, fields: dict[str, object]) -> None:
        now = self._clock()
        if now >= self._silent_until.get(text, now):
            self._silent_until[text] = now + _SILENCE
            self._to.emit(level, f"{text} (others in the next minute are only counted)", **fields)


FIELDS = {
    "addresses": "where the service listens: endpoint descriptions, with a space between",
    "count": "datagrams that were handed over together",
    "counts": "how many were refused, by reason",
    "cut": "connections that were cut at the stop",
    "dropped": "datagrams of the service that could not be sent",
    "finished": "connections that ended by themselves within the time of the stop",
    "folders": "the folders that --reload watches",
    "id": "the number of a connection in the ledger",
    "limit": "bytes that a datagram may have",
    "live": "live connections",
    "message": "what ended the process, in one line",
    "name": "the name of a service",
    "package": "an installed package",
    "path": "a file, escaped",
    "peer": "who is at the other end, escaped",
    "protocol": "the class of a protocol",
    "reason": "why, in words",
    "remaining": "connections that have not ended yet",
    "seconds": "seconds that are left to finish",
    "service": "the service's name",
    "size": "bytes of a datagram",
    "value": "an entry point: module:object",
    "what": "the thing that it is about",
}
"""The fields of the events that this package logs: one name, one meaning."""
