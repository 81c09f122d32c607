"""Times that a connection may take: without a byte from its peer, and altogether."""

from __future__ import annotations

from time import monotonic
from typing import Any

import attrs
from twisted.logger import Logger

from sockservices.calls import cancel
from sockservices.converters import some_seconds
from sockservices.ledger import Ledger
from sockservices.parts import Part
from sockservices.settings import setting

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


class RunningTimeouts:
    """Cuts connections that take too long.

    One look at all of them now and then: nothing is done for what they send.

    Parameters:
        ledger: knows the connections.
        reactor: an ``IReactorTime``.
        settings: how long.
    """

    def __init__(self, settings: Timeouts, ledger: Ledger, reactor: Any) -> None:
        self._ledger = ledger
        self._reactor = reactor
        self._idle = idle = settings.idle_timeout
        self._most = most = settings.max_time
        self._call: Any = None
        times = [each for each in (idle, most) if each is not None]
        self._interval = max(_LEAST, min(_MOST, min(times) / _PARTS)) if times else None

    def start(self) -> None:
        """Begin to look."""
        if self._interval is not None and self._call is None:
            self._call = self._reactor.callLater(self._interval, self._look)

    def stop(self) -> None:
        """Look no more."""
        call, self._call = self._call, None
        cancel(call)

    def _look(self) -> None:
        self._call = None
        now = monotonic()
        for connection in self._ledger:
            try:
                if self._idle is not None and now - connection.last_heard >= self._idle:
                    connection.end("idle-timeout")
                elif self._most is not None and now - connection.opened >= self._most:
                    connection.end("max-time")
            except Exception:  # of a foreign transport: the others have their times all the same
                _log.failure("connection {id} could not be cut", id=connection.id)
        self.start()
