"""A monotonic clock for a reactor's timers.

Twisted's reactors use ``time.time`` (twisted#2424): if the system clock is set back by an hour, all
delayed calls are an hour late.
"""

from __future__ import annotations

from time import monotonic, time
from typing import Any

from twisted.internet.base import ReactorBase


def keep_steady(reactor: Any) -> None:
    """Make a reactor time its delayed calls by ``time.monotonic``.

    ``reactor.seconds()`` continues from its present value: pending calls keep their times, and code
    that shows it as a date (as ``twisted.web`` does in its log) is right until the system clock is
    set. A pending call that is delayed or reset still uses the old clock. A reactor that has a
    clock of its own keeps it.

    Parameters:
        reactor: any reactor.
    """
    if isinstance(reactor, ReactorBase) and reactor.seconds is ReactorBase.seconds:
        ahead = time() - monotonic()
        vars(reactor)["seconds"] = lambda: monotonic() + ahead
