"""A stop that loses nothing: what runs may finish, what is written is delivered, within bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from sockservices.interfaces import IDrainable
from sockservices.ledger import Closed, Connection, Event, Ledger

_COUNT_DOWN = 1.0  # seconds between two lines in the log
_LAST = 1.0  # seconds that a connection has to end after it was cut
CUT = "stop"


class Stop:
    """Ends the connections of a service whose listeners are closed already.

    Parameters:
        ledger: knows the connections.
        reactor: an ``IReactorTime``.
        log: is told how many remain, and at the end how many finished and were cut.
        graceful_timeout: seconds in which connections may finish their work.
        flush: seconds in which what a service has written is delivered after that.
    """

    def __init__(
        self, ledger: Ledger, reactor: Any, log: Logger, graceful_timeout: float, flush: float
    ) -> None:
        self._ledger = ledger
        self._reactor = reactor
        self._log = log
        self._graceful_timeout = graceful_timeout
        self._flush = flush
        self._live = ledger.live
        self._cut = 0
        self._timers: list[Any] = []
        self._done: Deferred[None] = Deferred()
        self._unsubscribe = ledger.subscribe(self._heard)

    def begin(self) -> Deferred[None]:
        """Return a ``Deferred`` that fires when no connection is left."""
        if not self._live:
            self._finish()
        elif self._graceful_timeout > 0:
            self._wait_for_work()
        else:
            self._deliver()
        return self._done

    def hurry(self) -> None:
        """End all that is left at once."""
        if not self._done.called:
            self._cut_all()

    def _wait_for_work(self) -> None:
        self._ends = self._reactor.seconds() + self._graceful_timeout
        self._later(self._graceful_timeout, self._deliver)
        self._tell_how_many()
        for connection in self._ledger:
            self._each(connection, _drain)

    def _tell_how_many(self) -> None:
        left = max(0.0, self._ends - self._reactor.seconds())
        self._log.info(
            "stopping: {remaining} connections remain, {seconds:.0f} s left",
            remaining=self._ledger.live,
            seconds=left,
        )
        self._later(_COUNT_DOWN, self._tell_how_many)

    def _deliver(self) -> None:
        self._cancel_timers()
        self._later(self._flush, self._cut_all)
        for connection in self._ledger:
            self._each(connection, _end_in_order)

    def _cut_all(self) -> None:
        self._cancel_timers()
        self._later(_LAST, self._finish)  # a foreign transport may not be able to
        for connection in self._ledger:
            connection.cut = CUT
            self._cut += 1
            self._each(connection, _abort)

    def _each(self, connection: Connection, do: Callable[[Connection], object]) -> None:
        try:
            do(connection)
        except Exception:  # of a service: the others are to be ended all the same
            self._log.failure("connection {id} could not be ended", id=connection.id)

    def _heard(self, event: Event) -> None:
        if isinstance(event, Closed) and not self._ledger.live:
            self._finish()

    def _finish(self) -> None:
        self._cancel_timers()
        self._unsubscribe()
        self._log.info(
            "stopped: {finished} connections finished, {cut} were cut",
            finished=self._live - self._cut,
            cut=self._cut,
        )
        self._done.callback(None)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(self._reactor.callLater(seconds, call))

    def _cancel_timers(self) -> None:
        timers, self._timers = self._timers, []
        for timer in timers:
            if timer.active():
                timer.cancel()


def _drain(connection: Connection) -> None:
    drainable = IDrainable(connection.protocol, None)
    if drainable is not None:
        drainable.drain()


def _abort(connection: Connection) -> None:
    connection.transport.abortConnection()


def _end_in_order(connection: Connection) -> None:
    # Its own transport: TLS has something to say before the end.
    transport = getattr(connection.protocol, "transport", None) or connection.transport
    producer = getattr(transport, "producer", None)
    if producer is not None:
        # A transport waits for its producer before it closes. What that has written is
        # delivered; what it has not written yet is not asked for any more.
        transport.unregisterProducer()
        if producer is not transport:
            producer.stopProducing()
    transport.loseConnection()
