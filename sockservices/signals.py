"""Signals: SIGTERM and SIGINT stop, SIGHUP reloads, SIGUSR2 suspends and resumes.

The first to stop does it in order, the second at once; the exit status is 0 after both. Twisted's
own handlers end ``twistd`` by the signal, as if it had been killed, and complain of a
second one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from sockservices.ending import stop_process

_ENDING = (signal.SIGTERM, signal.SIGINT)


def handle_signals(
    reactor: Any,
    *,
    hurry: Callable[[], None],
    reload: Callable[[], None],
    suspend_or_resume: Callable[[], None],
) -> None:
    """Handle signals, as soon as the reactor runs.

    Parameters:
        reactor: an ``IReactorThreads`` and ``IReactorCore``.
        hurry: ends at once what a first SIGTERM or SIGINT has left to finish.
        reload: for SIGHUP.
        suspend_or_resume: for SIGUSR2.
    """
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        reactor.callFromThread(stop_process if len(received) == 1 else hurry)

    others = {signal.SIGHUP: reload, signal.SIGUSR2: suspend_or_resume}

    def other(number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(others[signal.Signals(number)])

    def install() -> None:
        for number in _ENDING:
            # Who started us may have wanted it ignored, as nohup(1) does.
            if signal.getsignal(number) not in (signal.SIG_IGN, signal.SIG_DFL):
                signal.signal(number, end)
        for number in others:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, other)

    reactor.callWhenRunning(install)
