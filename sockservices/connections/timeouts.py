"""Close connections that are idle, last too long or are too slow to open."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import attrs
from twisted.logger import Logger

from sockservices.connections.ledger import Connection
from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.converters import some_seconds
from sockservices.settings import setting
from sockservices.timer import Timer

_log = Logger(namespace="sockservices")
_MOST = 1.0  # seconds between two checks
_LEAST = 0.01
_PARTS = 10  # checks per shortest timeout: a connection is closed at most a tenth too late


@attrs.frozen
class Timeouts(Part):
    """The time limits of connections."""

    heading = "Timeouts"

    idle_timeout: float | None = setting(
        default=None,
        converter=some_seconds,
        unit="seconds",
        listener="stream",
        help="Close a connection whose peer has sent nothing for this long.",
    )
    max_time: float | None = setting(
        default=None,
        converter=some_seconds,
        unit="seconds",
        listener="stream",
        help="Close a connection that has been open for this long.",
    )
    handshake_timeout: float = setting(
        default=5.0,
        converter=some_seconds,
        unit="seconds",
        help="Close a connection whose TLS handshake or PROXY header takes longer than this.",
    )

    def begin(self, context: Context) -> RunningTimeouts:
        """See ``Part.begin``."""
        return RunningTimeouts(self, context)


class RunningTimeouts(RunningPart[Timeouts]):
    """A timer that enforces the timeouts of a service.

    It checks all connections at intervals, so that receiving data costs nothing extra.
    """

    def __init__(self, settings: Timeouts, context: Context) -> None:
        self._timer = Timer(context.reactor, self._look)
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
        """Start checking connections."""
        self._is_running = True
        self._look_later()

    def stop(self) -> None:
        """Stop checking connections."""
        self._is_running = False
        self._look_later()

    def _look_later(self) -> None:
        if self._is_running and self._interval is not None:
            self._timer.start(self._interval)
        else:
            self._timer.cancel()

    def _look(self) -> None:
        now, settings = monotonic(), self.settings
        idle, most = settings.idle_timeout, settings.max_time
        for connection in self.context.ledger:
            try:
                if idle is not None and now - connection.last_heard >= idle:
                    connection.end("idle-timeout")
                elif most is not None and now - connection.opened >= most:
                    connection.end("max-time")
            except Exception:  # raised by a foreign transport; keep timing the others
                _log.failure("connection {id} could not be closed", id=connection.id)
        self._look_later()

    def _wait(self, connection: Connection, is_done: Callable[[], bool]) -> None:
        def judge() -> None:
            if not is_done():
                connection.end("handshake-timeout")

        seconds = self.settings.handshake_timeout
        connection.deadline = self.context.reactor.callLater(seconds, judge)
