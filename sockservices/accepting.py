"""Whether the listeners of a service accept: they do unless there is a reason not to."""

from __future__ import annotations

from typing import Any


class Gate:
    """Keeps ports from accepting as long as there is a reason; what wants in waits meanwhile.

    Each reason is a word, and goes by itself: a service that is suspended while it is full accepts
    again when it is neither.
    """

    def __init__(self) -> None:
        self._ports: list[Any] = []
        self._reasons: set[str] = set()

    def add(self, port: Any) -> None:
        """Look after a port that has begun to listen."""
        # One of a foreign kind may not know how; what it lets in at a limit is refused.
        if hasattr(port, "stopReading") and hasattr(port, "startReading"):
            self._ports.append(port)
            if self._reasons:
                port.stopReading()

    def discard(self, port: Any) -> None:
        """Look after a port no longer."""
        if port in self._ports:
            self._ports.remove(port)

    def is_closed_for(self, reason: str) -> bool:
        """Whether this is one of the reasons."""
        return reason in self._reasons

    def close(self, reason: str) -> None:
        """Accept no more; connections that come wait in the backlog."""
        was_open = not self._reasons
        self._reasons.add(reason)
        if was_open:
            for port in self._ports:
                port.stopReading()

    def open(self, reason: str) -> None:
        """Drop a reason; accept again if it was the last."""
        if reason in self._reasons:
            self._reasons.remove(reason)
            if not self._reasons:
                for port in self._ports:
                    port.startReading()
