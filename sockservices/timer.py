"""A reactor's delayed calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def cancel(call: Any) -> None:
    """Cancel an ``IDelayedCall``, unless it is ``None``, was cancelled or has been called."""
    if call is not None and call.active():
        call.cancel()


class Timer:
    """A delayed call that is due once at most.

    Parameters:
        reactor: an ``IReactorTime``.
        call: what is called.
    """

    def __init__(self, reactor: Any, call: Callable[[], object]) -> None:
        self._reactor = reactor
        self._call = call
        self._due: Any = None

    @property
    def is_running(self) -> bool:
        """Whether the call is due."""
        return self._due is not None and bool(self._due.active())

    def start(self, seconds: float) -> None:
        """Call after this many seconds, and not when it was due before."""
        self.cancel()
        self._due = self._reactor.callLater(seconds, self._call)

    def cancel(self) -> None:
        """Do not call."""
        due, self._due = self._due, None
        cancel(due)
