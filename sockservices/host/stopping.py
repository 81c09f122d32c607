"""Graceful shutdown: connections finish and written data is delivered, within time limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from sockservices.connections.activity import is_idle
from sockservices.connections.ending import end_in_order
from sockservices.connections.ledger import Connection, Event, Ledger, Opened
from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.converters import seconds, some_seconds
from sockservices.host.draining import drain, drain_foreign
from sockservices.printable import Count
from sockservices.settings import setting
from sockservices.timer import cancel

_COUNT_DOWN = 1.0  # seconds between two log lines
_LOOK = 0.5  # seconds between two looks at connections that are to finish
_PARTS = 10  # looks per --drain-idle
_LAST = 1.0  # seconds that a connection has to close after it was reset


@attrs.frozen
class Stopping(Part):
    """The time limits of a graceful shutdown."""

    heading = "Stopping"

    graceful_timeout: float = setting(
        default=0.0,
        converter=seconds,
        unit="seconds",
        help="Wait this long for connections to finish their work. 0 does not wait.",
        kind="stream",
    )
    drain_idle: float | None = setting(
        default=None,
        converter=some_seconds,
        unit="seconds",
        needs="graceful_timeout",
        help="Do not wait for a connection that has neither sent nor taken anything for this long.",
    )
    flush: float = setting(
        default=2.0,
        converter=seconds,
        unit="seconds",
        help="Wait this long for data that the service has written to be delivered.",
    )

    def begin(self, context: Context) -> RunningPart[Stopping]:
        """See ``Part.begin``; the host reads the settings when it stops."""
        return RunningPart(self, context)


class Stop:
    """One graceful shutdown, of live connections and of those yet to be accepted.

    Parameters:
        ledger: reports the beginning and the end of each connection.
        reactor: an ``IReactorTime``.
        log: receives how many connections remain, and at the end how many finished and were reset.
        settings: how long connections may finish their work, and how long after that written data
            is delivered.
        connections: the connections to end.
    """

    def __init__(
        self,
        ledger: Ledger,
        reactor: Any,
        log: Logger,
        settings: Stopping,
        connections: Iterable[Connection],
    ) -> None:
        self.remaining = dict.fromkeys(connections)
        self._reactor = reactor
        self._log = log
        self._graceful_timeout = settings.graceful_timeout
        self._flush = settings.flush
        self._drain_idle = settings.drain_idle
        self._closing: set[Connection] = set()
        self._number = len(self.remaining)
        self._cut = 0
        self._is_hurried = False
        self._is_done = False
        self._timers: list[Any] = []
        self._waiting: list[Deferred[None]] = []
        self._ledger = ledger
        self._forget = [ledger.watch(self._changed), ledger.subscribe(self._heard)]
        self._asks_to_finish = False
        self._is_delivering = False
        self._is_accepting = False
        self._joined: set[Connection] = set()  # connections that were accepted since it began

    def begin(self, is_accepting: bool) -> None:
        """Begin after the reactor has read once from every connection, including new ones.

        Parameters:
            is_accepting: whether more connections will come, until ``accept_no_more`` is called.
        """
        self._is_accepting = is_accepting
        # Counted from now, although the first turns may be long if many peers are sending.
        self._work_ends = self._reactor.seconds() + self._graceful_timeout
        if not self._finish_if_done():
            # Whatever part of its turn the reactor is in now, the next turn is a complete one.
            self._later(0, lambda: self._later(0, self._begin))

    def _begin(self) -> None:
        if self._graceful_timeout > 0:
            self._wait_for_work()
        else:
            self._deliver()

    def when_done(self) -> Deferred[None]:
        """Return a ``Deferred`` that fires when no connection is left."""
        if self._is_done:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def hurry(self) -> None:
        """Reset the remaining connections at once."""
        if not (self._is_hurried or self._is_done):
            self._is_hurried = True
            self._cut_all()

    def _wait_for_work(self) -> None:
        self._asks_to_finish = True
        self._later(self._left(), self._deliver)
        self._tell_how_many()
        for connection in list(self.remaining):
            self._each(connection, drain)
        self._look()

    def _look(self) -> None:
        """Close idle connections, and ask the others again to finish."""
        idle = self._drain_idle
        now = monotonic()
        for connection in list(self.remaining):
            if connection.protocol is None or connection.cut is not None:
                continue
            if idle is not None and is_idle(connection, now, idle):
                self._end_in_order(connection)
            else:
                self._each(connection, drain_foreign)
        self._later(_LOOK if idle is None else min(_LOOK, idle / _PARTS), self._look)

    def _tell_how_many(self) -> None:
        self._log.info(
            "stopping: {remaining}, {seconds:.0f} s left",
            remaining=Count(len(self.remaining), "connection remains", "connections remain"),
            seconds=self._left(),
        )
        self._later(_COUNT_DOWN, self._tell_how_many)

    def _left(self) -> float:
        return float(max(0.0, self._work_ends - self._reactor.seconds()))

    def _deliver(self) -> None:
        self._asks_to_finish = False
        self._is_delivering = True
        self._cancel_timers()
        ends = self._work_ends + self._flush
        self._later(max(0.0, ends - self._reactor.seconds()), self._cut_all)
        for connection in list(self.remaining):
            if connection in self._joined:
                self._end_when_read(connection)
            else:
                self._end_in_order(connection)

    def _end_when_read(self, connection: Connection) -> None:
        later = self._reactor.callLater
        later(0, later, 0, self._end_in_order, connection)  # like ``begin``

    def _end_in_order(self, connection: Connection) -> None:
        if connection in self.remaining and connection not in self._closing and not self._is_done:
            self._closing.add(connection)
            self._each(connection, partial(_end_in_order, reactor=self._reactor))

    def _cut_all(self) -> None:
        self._cancel_timers()
        self._later(_LAST, self._finish)  # a foreign transport may never close
        for connection in list(self.remaining):
            self._each(connection, _abort)

    def _each(self, connection: Connection, do: Callable[[Connection], object]) -> None:
        try:
            do(connection)
        except Exception:  # raised by a service; still end the other connections
            self._log.failure("connection {id} could not be closed", id=connection.id)

    def _changed(self, connection: Connection) -> None:
        if connection in self.remaining:  # then it has ended
            del self.remaining[connection]
            self._joined.discard(connection)
            self._cut += connection.cut is not None
            self._finish_if_done()
        elif self._is_accepting and connection.transport in self._ledger:
            self.remaining[connection] = None
            self._joined.add(connection)
            self._number += 1
            if self._is_delivering:
                self._end_when_read(connection)

    def accept_no_more(self) -> None:
        """Stop expecting new connections."""
        self._is_accepting = False
        self._finish_if_done()

    def _finish_if_done(self) -> bool:
        if not (self.remaining or self._is_accepting or self._is_done):
            self._finish()
        return self._is_done

    def _heard(self, event: Event) -> None:
        """Drain also connections that were accepted before but reach the service only now."""
        if self._asks_to_finish and isinstance(event, Opened):
            connection = event.connection
            if connection in self.remaining:
                # After it is connected.
                self._later(0, lambda: self._each(connection, drain))

    def _finish(self) -> None:
        self._is_done = True
        self._cancel_timers()
        for forget in self._forget:
            forget()
        cut = self._cut + len(self.remaining)  # nothing more will be heard of these
        self._log.info(
            "stopped: {finished}, {cut}",
            finished=Count(self._number - cut, "connection finished", "connections finished"),
            cut=Count(cut, "was reset", "were reset"),
        )
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(self._reactor.callLater(seconds, call))

    def _cancel_timers(self) -> None:
        timers, self._timers = self._timers, []
        for timer in timers:
            cancel(timer)


def _abort(connection: Connection) -> None:
    connection.end("stop")


def _end_in_order(connection: Connection, reactor: Any) -> None:
    if connection.protocol is None:  # it has not reached the service yet
        connection.end("stop")
    elif connection.cut is None:  # otherwise it ends already
        end_in_order(connection, reactor)
