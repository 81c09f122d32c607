"""The log observer that ``twistd`` uses for a service, in place of its own.

Twisted's own waits for whoever reads the log, and the event loop with it. It does not open a log
file for appending, nor again after a log rotation, and moves a file of 1 MB away by itself.
"""

from __future__ import annotations

import os
import sys

from twisted.logger import ILogObserver

from sockservices.logs import to_sink
from sockservices.sink import Sink, standard

_path: str | None = None  # twistd takes a dotted name, and calls what it names without arguments


def observer_for(path: str | None) -> str:
    """Return the dotted name of a function that returns an observer, for ``twistd --logger``.

    Parameters:
        path: the log file; ``None`` for standard output.
    """
    global _path
    _path = path
    return f"{__name__}.{_observer.__name__}"


def _observer() -> ILogObserver:
    if _path is None and sys.__stdout__ is None:  # it was closed
        return to_sink(Sink(os.devnull))
    return to_sink(Sink(_path) if _path is not None else standard(1))
