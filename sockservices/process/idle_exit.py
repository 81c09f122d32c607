"""Ending a process that has nothing to do, for service managers that start it again on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.logger import Logger

from sockservices.connections.ledger import Ledger
from sockservices.converters import some_seconds
from sockservices.errors import DescriptionError
from sockservices.exit import stop_process
from sockservices.host.host import SocketService
from sockservices.listening import INHERITING, Description
from sockservices.settings import Settings, setting
from sockservices.sink import is_anything_unread
from sockservices.timer import Timer

_PARTS = 10  # looks per timeout: the process ends at most a tenth too late

_log = Logger(namespace="sockservices")


@attrs.frozen
class IdleExit(Settings):
    """Settings for services that are started on demand."""

    heading = "Socket activation"

    exit_idle: float | None = setting(
        default=None,
        converter=some_seconds,
        unit="seconds",
        changeable=False,
        help="Exit when there has been no connection and no datagram for this long. The service "
        "manager keeps the socket, and starts the service again on demand.",
    )

    def check(self, descriptions: Iterable[str]) -> None:
        """Raise ``DescriptionError`` for a listener that would be gone after the exit."""
        for each in descriptions if self.exit_idle is not None else ():
            if Description.parse(each).prefix not in INHERITING:
                raise DescriptionError(
                    f"--exit-idle would leave nobody to listen on {each!r}: it needs a socket that "
                    "a service manager passes, such as systemd:index=0"
                )


class IdleWatch:
    """Ends a process once its service has been idle for some time.

    What comes while the process ends is not lost: it waits in the socket, which the service manager
    keeps.

    Parameters:
        reactor: an ``IReactorTime``.
        ledger: the connections and datagrams of the service.
        seconds: how long it may be idle.
        is_held: whether the process is needed although nobody comes.
        stop: ends the process gracefully.
    """

    def __init__(
        self,
        reactor: Any,
        ledger: Ledger,
        seconds: float,
        is_held: Callable[[], bool],
        stop: Callable[[], object],
    ) -> None:
        self._ledger = ledger
        self._seconds = seconds
        self._is_held = is_held
        self._stop = stop
        self._timer = Timer(reactor, self._look)
        self._now = reactor.seconds
        self._seen: object = None
        self._idle_since = 0.0

    def start(self) -> None:
        """Begin to watch, when the service listens."""
        self._idle_since = self._now()
        self._seen = self._work()
        self._timer.start(self._seconds / _PARTS)

    def end(self) -> None:
        """Watch no longer, because the service stops."""
        self._timer.cancel()

    def _work(self) -> object:
        totals = self._ledger.totals
        return totals.opened, totals.refused, totals.datagrams

    def _look(self) -> None:
        seen, self._seen = self._seen, self._work()
        if self._ledger.live or seen != self._seen or self._is_held():
            self._idle_since = self._now()
        elif self._now() - self._idle_since >= self._seconds:
            _log.info("exiting: idle for {seconds:g} s", seconds=self._seconds)
            self._stop()
            return
        self._timer.start(self._seconds / _PARTS)


def exit_when_idle(reactor: Any, host: SocketService, seconds: float) -> None:
    """End this process once a service has been idle for so many seconds.

    A suspended service is kept, and so is one whose output or log has not been read yet. Call this
    before the service starts.
    """

    def is_held() -> bool:
        return host.is_suspended or is_anything_unread()

    watch = IdleWatch(reactor, host.ledger, seconds, is_held, stop_process)
    host.when_listening().addCallbacks(lambda _addresses: watch.start(), lambda _failure: None)
    reactor.addSystemEventTrigger("before", "shutdown", watch.end)
