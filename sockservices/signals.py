"""Signals: the first one stops in order, the second one at once; the exit status is 0 after both.

Twisted's own handlers end ``twistd`` by the signal, as if it had been killed, and complain of a
second one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from sockservices.ending import stop_process

_ENDING = (signal.SIGTERM, signal.SIGINT)


def stop_in_order(reactor: Any, hurry: Callable[[], None]) -> None:
    """Handle SIGTERM and SIGINT, as soon as the reactor runs.

    Parameters:
        reactor: an ``IReactorThreads`` and ``IReactorCore``.
        hurry: ends at once what a first signal has left to finish.
    """
    reactor.callWhenRunning(_install, reactor, hurry)


def _install(reactor: Any, hurry: Callable[[], None]) -> None:
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        reactor.callFromThread(stop_process if len(received) == 1 else hurry)

    for number in _ENDING:
        if signal.getsignal(number) not in (signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(number, handle)
