"""Signals that control a running service, and reports to the service manager.

SIGTERM and SIGINT stop, SIGHUP reloads and opens logs and outputs again, SIGUSR1 opens these again
and logs the totals, and SIGUSR2 suspends and resumes. The first signal to stop does so gracefully,
the second at once; the exit status is 0 either way. With Twisted's own handlers, ``twistd`` exits
as if the signal had killed it, and reports an error for a second one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from sockservices.exit import stop_process
from sockservices.host.host import SocketService
from sockservices.printable import Count, spaced
from sockservices.process.forced_end import ForcedEnd
from sockservices.process.notify import Manager
from sockservices.sink import reopen_all

_ENDING = (signal.SIGTERM, signal.SIGINT)


def control(
    reactor: Any, host: SocketService, pid_file: str = "", *, in_background: bool = False
) -> None:
    """Let signals control a service, and report its state to the service manager.

    Call this before the service starts.

    Parameters:
        reactor: an ``IReactorThreads`` and ``IReactorCore``.
        host: the service.
        pid_file: the PID file of this process, or an empty string.
        in_background: as for ``handle_signals``.
    """
    manager = Manager(reactor)
    forced_end = ForcedEnd(lambda: host.stop_limit, pid_file)
    is_ready = is_stopping = False
    reloads = 0  # that have begun

    def status() -> str:
        if host.is_suspended:
            return "suspended"
        where = f"listening on {spaced(host.descriptions) or 'nothing'}"
        return f"not ready: lost {spaced(host.lost)}, {where}" if host.lost else where

    def ready() -> None:
        nonlocal is_ready
        is_ready = True
        manager.ready(status())

    def reload() -> None:
        reopen_all()
        nonlocal reloads
        reloads += 1
        if is_ready and not is_stopping:
            manager.reloading()
        host.reload().addCallback(reloaded)

    def reopen() -> None:
        reopen_all()
        host.log_totals()

    def reloaded(_none: None) -> None:
        nonlocal reloads
        reloads -= 1
        if is_ready and not (reloads or is_stopping):
            ready()

    def suspend_or_resume() -> None:
        if is_stopping:
            return
        if host.is_suspended:
            host.resume()
        else:
            host.suspend()

    def tell_status() -> None:
        if not is_stopping:
            manager.status(status())

    def stopping() -> None:
        nonlocal is_stopping
        is_stopping = True
        forced_end.begin()
        remaining = Count(host.ledger.live, "connection remains", "connections remain")
        manager.stopping(f"stopping: {remaining}")

    host.watch_readiness(tell_status)
    handle_signals(
        reactor,
        hurry=host.hurry,
        reload=reload,
        reopen=reopen,
        suspend_or_resume=suspend_or_resume,
        forced_end=forced_end,
        in_background=in_background,
    )
    host.when_listening().addCallbacks(
        # Once signals stop the service gracefully.
        lambda _addresses: reactor.callWhenRunning(ready),
        lambda _failure: None,
    )
    reactor.addSystemEventTrigger("before", "shutdown", stopping)


def handle_signals(
    reactor: Any,
    *,
    hurry: Callable[[], None],
    reload: Callable[[], None],
    reopen: Callable[[], None],
    suspend_or_resume: Callable[[], None],
    forced_end: ForcedEnd | None = None,
    in_background: bool = False,
) -> None:
    """Handle signals from now on; they have an effect once the reactor runs.

    Parameters:
        reactor: an ``IReactorThreads`` and ``IReactorCore``.
        hurry: closes at once what is still finishing after a first SIGTERM or SIGINT.
        reload: for SIGHUP.
        reopen: for SIGUSR1.
        suspend_or_resume: for SIGUSR2.
        forced_end: ends the process if a stop takes too long.
        in_background: handle the signals of the process that this one will fork, instead.
    """
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if forced_end is not None:  # at once, because the event loop may be blocked
            forced_end.begin() if len(received) == 1 else forced_end.hurry()
        reactor.callFromThread(stop_process if len(received) == 1 else hurry)

    others = {
        signal.SIGUSR1: reopen,
        signal.SIGHUP: reload,
        signal.SIGUSR2: suspend_or_resume,
    }

    def other(number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(others[signal.Signals(number)])

    handlers: dict[int, Any] = {**dict.fromkeys(_ENDING, end), **dict.fromkeys(others, other)}
    before: dict[int, Any] = {}

    def begin() -> None:
        for number, handler in handlers.items():
            # Our parent may have set the signal to be ignored, as nohup(1) does.
            if number not in before and signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)

    def go_on() -> None:
        # A reactor that handles signals has just replaced this one, even if it was ignored.
        has_own = signal.getsignal(signal.SIGTERM) not in (end, signal.SIG_IGN)
        for number in _ENDING:
            if not has_own and number in before:
                signal.signal(number, before[number])
            elif signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, end)

    if in_background:  # twistd is about to fork; later forks have no effect
        os.register_at_fork(after_in_child=begin)
    else:
        begin()
    reactor.callWhenRunning(go_on)
