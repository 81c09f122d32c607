"""Times that a connection may take: without a byte from its peer, and altogether."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import attrs
from twisted.logger import Logger

from sockservices.connections.ledger import Connection
from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.converters import some_seconds
from sockservices.settings import setting
from sockservices.timer import cancel

_log = Logger(namespace="sockservices")
_MOST = 1.0  # seconds between two looks
_LEAST = 0.01
_PARTS = 10  # of the shortest time: a connection is cut so much late at the most


@attrs.frozen
class Timeouts(Part):
    """How long a connection may take."""

    heading = "Timeouts"

    idle_timeout: float | None = setting(
        default=None,
        converter=some_seconds,
        unit="seconds",
        listener="stream",
        help="Close a connection whose peer has sent nothing for so long.",
    )
    max_time: float | None = setting(
        default=None,
        converter=some_seconds,
        unit="seconds",
        listener="stream",
        help="Close a connection that has lasted so long.",
    )
    handshake_timeout: float = setting(
        default=5.0,
        converter=some_seconds,
        unit="seconds",
        help="Close a connection whose TLS handshake, or PROXY header, takes longer.",
    )

    def begin(self, context: Context) -> RunningTimeouts:
        """See ``Part.begin``."""
        return RunningTimeouts(self, context)


class RunningTimeouts(RunningPart[Timeouts]):
    """Ends connections that take too long.

    One look at all of them now and then: nothing is done for what they send.
    """

    def __init__(self, settings: Timeouts, context: Context) -> None:
        self._call: Any = None
        self._is_running = False
        super().__init__(settings, context)

    def apply(self, settings: Timeouts, prepared: object) -> None:
        """See ``RunningPart.apply``."""
        self.settings = settings
        self.waiting = self._wait
        times = [each for each in (settings.idle_timeout, settings.max_time) if each is not None]
        self._interval = max(_LEAST, min(_MOST, min(times) / _PARTS)) if times else None
        self._look_later()

    def start(self) -> None:
        """Begin to look."""
        self._is_running = True
        self._look_later()

    def stop(self) -> None:
        """Look no more."""
        self._is_running = False
        self._look_later()

    def _look_later(self) -> None:
        call, self._call = self._call, None
        cancel(call)
        if self._is_running and self._interval is not None:
            self._call = self.context.reactor.callLater(self._interval, self._look)

    def _look(self) -> None:
        now, settings = monotonic(), self.settings
        idle, most = settings.idle_timeout, settings.max_time
        for connection in self.context.ledger:
            try:
                if idle is not None and now - connection.last_heard >= idle:
                    connection.end("idle-timeout")
                elif most is not None and now - connection.opened >= most:
                    connection.end("max-time")
            except Exception:  # of a foreign transport: the others have their times all the same
                _log.failure("connection {id} could not be cut", id=connection.id)
        self._look_later()

    def _wait(self, connection: Connection, is_done: Callable[[], bool]) -> None:
        def judge() -> None:
            if not is_done():
                connection.end("handshake-timeout")

        seconds = self.settings.handshake_timeout
        connection.deadline = self.context.reactor.callLater(seconds, judge)
