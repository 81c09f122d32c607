"""A clock for a reactor's timers that nobody sets.

Twisted's reactors time by ``time.time`` (twisted#2424): when that is set back by an hour, nothing
that was to be done later is done for an hour.
"""

from __future__ import annotations

from time import monotonic, time
from typing import Any

from twisted.internet.base import ReactorBase


def keep_steady(reactor: Any) -> None:
    """Have a reactor time what it does later by ``time.monotonic``.

    ``reactor.seconds()`` goes on from where it was: what is to be done later already stays where it
    is, and whoever shows it as a date (as ``twisted.web`` does in its log) is right until the
    system's clock is set. A call that was made before is delayed or reset by the old clock. A
    reactor that has a clock of its own keeps it.

    Parameters:
        reactor: any reactor.
    """
    if isinstance(reactor, ReactorBase) and reactor.seconds is ReactorBase.seconds:
        ahead = time() - monotonic()
        vars(reactor)["seconds"] = lambda: monotonic() + ahead
