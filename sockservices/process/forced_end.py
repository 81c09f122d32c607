"""Ending a process that has been asked to stop, but does not end.

Twisted waits for the threads of its pools, and Python for all others that are not daemons; a thread
that does not return keeps the process forever. So does service code that does not return to the
event loop.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import sleep
from types import FrameType

from sockservices.exit import exit_at_once, exit_by_force

_SLACK = 5.0  # seconds for what follows a stop: threads that end, removing files, closing the log
_HURRY = 2.0  # seconds, after a second signal
_TICK = 0.1  # seconds
_LAST_WORDS = 1.0  # seconds


class ForcedEnd:
    """Ends this process some time after it was asked to stop, if it is still running then.

    Its methods may be called in signal handlers.

    Parameters:
        at_most: returns how long the stop may take, in seconds.
        pid_file: the PID file of this process, or an empty string.
    """

    def __init__(self, at_most: Callable[[], float], pid_file: str) -> None:
        self._at_most = at_most
        self._pid_file = pid_file
        self._has_begun = False
        self._is_over = threading.Event()
        self._left_to_hurry = _HURRY
        self._orders: SimpleQueue[float] = SimpleQueue()  # reentrant, unlike the other queues

    def begin(self) -> None:
        """Allow the time for a stop, and five seconds more, from the first call on."""
        if not self._has_begun:
            self._has_begun = True
            time = self._at_most() + _SLACK
            # Both now, because CPython 3.12 starts no threads while it waits for those that run.
            threading.Thread(target=self._wait, args=(time,), daemon=True).start()
            threading.Thread(target=self._insist, daemon=True).start()

    def hurry(self) -> None:
        """Allow two seconds from now, and nothing when called again."""
        self._orders.put(self._left_to_hurry)
        self._left_to_hurry = 0.0

    def _wait(self, left: float) -> None:
        # Counted in ticks, so that the time for which the whole process was paused is left out.
        while left > 0:
            try:
                left = min(left, self._orders.get(timeout=_TICK))
            except Empty:
                left -= _TICK
        self._is_over.set()
        exit_by_force(_what_runs(), self._pid_file)

    def _insist(self) -> None:
        self._is_over.wait()
        sleep(_LAST_WORDS)
        exit_at_once()


def _what_runs() -> str:
    main = threading.main_thread()
    kept = [each for each in threading.enumerate() if not (each.daemon or each is main)]
    # CPython's; without it, the threads are named without their places.
    frames: dict[int, FrameType] = getattr(sys, "_current_frames", dict)()
    places = []
    for each in kept or [main]:
        frame = frames.get(each.ident or 0)
        place = f" ({frame.f_code.co_filename}:{frame.f_lineno})" if frame is not None else ""
        places.append(f"{each.name}{place}")
    return f"still running: {', '.join(places)}"
