"""Logging: the fields of events, and log observers for ``twistd``'s command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel, textFileLogObserver


def to_stderr() -> ILogObserver:
    """Return a log observer that writes text to standard error.

    Use it as ``twistd -n --logger=sockservices.to_stderr``, to keep standard output for what the
    service prints. (``--logfile /dev/stderr`` fails: twistd rotates a log file by renaming it.)
    """
    return textFileLogObserver(sys.stderr)


_SILENCE = 60.0  # seconds


class RareLog:
    """A log for frequent events: it logs each kind once a minute, and leaves the rest to counters.

    Parameters:
        to: the logger to write to.
        clock: returns a time in seconds; only differences matter.
    """

    def __init__(self, to: Logger, clock: Callable[[], float] = monotonic) -> None:
        self._to = to
        self._clock = clock
        self._silent_until: dict[str, float] = {}

    def info(self, text: str, **fields: object) -> None:
        """Log an event that operators may look for."""
        self._emit(LogLevel.info, text, fields)

    def warn(self, text: str, **fields: object) -> None:
        """Log an event that needs an operator's attention."""
        self._emit(LogLevel.warn, text, fields)

    def _emit(self, level: Any, text: str, fields: dict[str, object]) -> None:
        now = self._clock()
        if now >= self._silent_until.get(text, now):
            self._silent_until[text] = now + _SILENCE
            self._to.emit(level, f"{text} (others in the next minute are only counted)", **fields)


FIELDS = {
    "addresses": "endpoint descriptions of the listeners, separated by spaces",
    "count": "datagrams delivered in one batch",
    "counts": "refused connections or datagrams, by reason",
    "cut": "connections closed by the shutdown before they finished",
    "dropped": "datagrams of the service that could not be sent",
    "finished": "connections that finished by themselves during the shutdown",
    "folders": "directories that --reload watches",
    "granted": "bytes that a receive buffer has",
    "id": "number of a connection in the ledger",
    "limit": "most bytes that a datagram may have",
    "listener": "endpoint description of a listener",
    "live": "live connections",
    "lost": "datagrams that the kernel dropped",
    "message": "error that stopped the process, in one line",
    "mode": "mode of a file",
    "name": "name of a service",
    "package": "name of an installed package",
    "path": "path of a file, escaped",
    "peer": "address of the peer, escaped",
    "protocol": "class of a protocol",
    "reason": "reason, in words",
    "remaining": "connections that have not finished yet",
    "seconds": "seconds left to finish",
    "service": "name of the service",
    "size": "bytes in a datagram",
    "socket_name": "name of an inherited socket",
    "value": "entry point, as module:object",
    "wanted": "bytes that a receive buffer was to have",
    "wanted_mode": "mode that a file was to have",
    "what": "object that the event is about",
}
"""The fields of this package's log events; each name has one meaning."""
