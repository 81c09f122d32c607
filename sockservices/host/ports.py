"""The ports of all listeners, as one: they listen together, wait together and close together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    FirstError,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.connections.ledger import Connection, Ledger
from sockservices.errors import why_not_listening
from sockservices.listening import Listener
from sockservices.logs import RareLog
from sockservices.printable import listening_at, system_reason
from sockservices.timer import cancel
from sockservices.transports import AcceptingPort
from sockservices.transports.datagram_port import DatagramPort
from sockservices.transports.unix_datagrams import UnixDatagramPort

_RETRY = 0.5  # seconds: others than our connections have file descriptors, too


class Ports:
    """The ports of all listeners.

    Parameters:
        listeners: where to listen.
        log: is told of a port that does not close cleanly.
        closed: is told of each port that has closed.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        log: Logger,
        closed: Callable[[Any], None] = lambda _port: None,
    ) -> None:
        self._listeners = listeners
        self._log = log
        self._tell_closed = closed
        self.open: list[Any] = []
        """Those that listen, in the order of the listeners as soon as all do."""
        self.finishing: list[Any] = []
        """Those that listen no more, and serve what the kernel had taken for them."""
        self._reasons: set[str] = set()
        self._stream_reasons: set[str] = set()
        # Which start the ports are of: what arrives late, of an earlier one, is closed again.
        self._start: object | None = None
        self._closed: Deferred[None] = succeed(None)

    def __iter__(self) -> Iterator[Any]:
        """Go through those that listen, and those that finish."""
        return iter([*self.open, *self.finishing])

    @property
    def addresses(self) -> list[IAddress]:
        """Where they listen now."""
        return [port.getHost() for port in self.open]

    @property
    def descriptions(self) -> list[str]:
        """Where they listen now, as endpoint descriptions."""
        return [_description(port) for port in self.open]

    # Listening

    def listen(
        self, serve: Callable[[int], Any], listens: Callable[[int, Any], None]
    ) -> Deferred[None]:
        """Listen everywhere.

        Parameters:
            serve: returns what a listener is to serve with, given its number: the factory or the
                datagram protocol.
            listens: is told the number of each listener that listens, and its port.

        Returns a ``Deferred`` that fires when all of them listen. It fails with ``ListenError``
        as soon as one cannot, and with ``CancelledError`` if they are closed before.
        """
        start = self._start = object()
        # Those of an earlier start may have the addresses yet; Unix datagram ports have not.
        before = [port for port in self.finishing if not isinstance(port, UnixDatagramPort)]
        closed = DeferredList([maybeDeferred(port.stopListening) for port in before])
        # Nothing is cancelled when they are closed: a foreign endpoint may listen all the same,
        # and then its port must come to be known here, to be closed.

        def listen_everywhere(_results: object) -> Deferred[Any]:
            attempts = [
                self._listen(number, each, serve, listens, start)
                for number, each in enumerate(self._listeners)
            ]
            return gatherResults(attempts, consumeErrors=True)

        return closed.addCallback(listen_everywhere).addCallbacks(
            partial(self._all_listen, start), partial(self._not_all_listen, start)
        )

    def _listen(
        self,
        number: int,
        listener: Listener,
        serve: Callable[[int], Any],
        listens: Callable[[int, Any], None],
        start: object,
    ) -> Deferred[Any]:
        def failed(failure: Failure) -> NoReturn:
            raise why_not_listening(listener.description, failure.value)

        def has_begun(port: Any) -> Any:
            self.open.append(port)
            if self._reasons_of(port):
                port.stopReading()
            listens(number, port)
            if start is not self._start:
                self._close([port], self._stop_listening)
            return port

        return maybeDeferred(lambda: listener.endpoint.listen(serve(number))).addCallbacks(
            has_begun, failed
        )

    def _all_listen(self, start: object, ports: list[Any]) -> None:
        if start is not self._start:
            raise CancelledError
        self.open = ports  # in the order of the listeners

    def _not_all_listen(self, start: object, failure: Failure) -> NoReturn:
        if start is not self._start:
            raise CancelledError
        self._start = None
        self._close(list(self.open), self._stop_listening)
        error: Any = failure.value
        while isinstance(error, FirstError):
            error = error.subFailure.value
        raise error

    # Waiting: what comes waits in the kernel, as long as there is a reason

    def pause(self, reason: str, *, streams_alone: bool = False) -> None:
        """Accept no more; each reason goes by itself.

        Parameters:
            reason: a word.
            streams_alone: let datagrams come all the same.
        """
        if self.is_paused_for(reason):
            return
        before = [port for port in self if self._reasons_of(port)]
        (self._stream_reasons if streams_alone else self._reasons).add(reason)
        for port in self:
            if port not in before and self._reasons_of(port):
                port.stopReading()

    def resume(self, reason: str) -> None:
        """Drop a reason; those accept again that have no other."""
        if not self.is_paused_for(reason):
            return
        before = [port for port in self if self._reasons_of(port)]
        self._reasons.discard(reason)
        self._stream_reasons.discard(reason)
        for port in before:
            if not self._reasons_of(port):
                port.startReading()

    def is_paused_for(self, reason: str) -> bool:
        """Whether this is one of the reasons."""
        return reason in self._reasons or reason in self._stream_reasons

    def _reasons_of(self, port: Any) -> set[str]:
        # One of a foreign kind may not know how; what it lets in at a limit is refused.
        if not (hasattr(port, "stopReading") and hasattr(port, "startReading")):
            return set()
        if isinstance(port, DatagramPort):
            return self._reasons
        return self._reasons | self._stream_reasons

    # Closing

    def finish(self, accept_for: float, send_for: float) -> Deferred[None]:
        """Listen no more, and serve what the kernel has taken for us already, within bounds.

        Parameters:
            accept_for: seconds in which those who wait in the backlogs are accepted.
            send_for: seconds in which datagrams are read and sent.

        Returns a ``Deferred`` that fires when all of them are closed.
        """
        self._start = None

        def finish(port: Any) -> Any:
            if not isinstance(port, AcceptingPort | DatagramPort):
                return port.stopListening()
            self.finishing.append(port)
            return port.finish(accept_for if isinstance(port, AcceptingPort) else send_for)

        return self._close(list(self.open), finish)

    def close(self) -> Deferred[None]:
        """Listen no more, and serve nobody who waits."""
        self._start = None
        return self._close(list(self.open), self._stop_listening)

    def hurry(self) -> None:
        """Close those that finish at once."""
        for port in list(self.finishing):
            port.stopListening()

    @property
    def are_wanted(self) -> bool:
        """Whether they listen, or are about to."""
        return self._start is not None

    @property
    def is_accepting(self) -> bool:
        """Whether some wait in a backlog yet, although we listen no more."""
        return any(isinstance(each, AcceptingPort) and each.is_finishing for each in self.finishing)

    def _stop_listening(self, port: Any) -> Any:
        return port.stopListening()

    def _close(self, closing: list[Any], close: Callable[[Any], Any]) -> Deferred[None]:
        """Close these ports; the ``Deferred`` waits for those of before as well."""
        self.open = [port for port in self.open if port not in closing]

        def has_closed(result: Any, port: Any) -> Any:
            if port in self.finishing:
                self.finishing.remove(port)
            self._tell_closed(port)
            return result

        done = DeferredList(
            [maybeDeferred(close, port).addBoth(has_closed, port) for port in closing],
            consumeErrors=True,
        )
        before, self._closed = self._closed, done.addCallback(self._tell_failures)
        self._closed.addCallback(lambda _none: before)
        result: Deferred[None] = Deferred()
        self._closed.chainDeferred(result)
        return result

    def _tell_failures(self, results: list[tuple[bool, Any]]) -> None:
        for success, failure in results:
            if not success:
                self._log.warn(
                    "a listener did not close cleanly: {reason}", reason=failure.getErrorMessage()
                )


def _description(port: Any) -> str:
    shown = listening_at(port.getHost())
    is_unix_datagram = isinstance(port, UnixDatagramPort)
    return f"unixgram{shown.removeprefix('unix')}" if is_unix_datagram else shown


class Exhaustion:
    """Lets new connections wait while there is no file descriptor for them.

    Parameters:
        ports: have them wait.
        ledger: tells when a connection has ended, and so left its file descriptor.
        reactor: an ``IReactorTime``.
        log: is told once a minute at the most.
    """

    _REASON = "descriptors"

    def __init__(self, ports: Ports, ledger: Ledger, reactor: Any, log: Logger) -> None:
        self._ports = ports
        self._ledger = ledger
        self._reactor = reactor
        self._rare_log = RareLog(log, lambda: reactor.seconds())
        self._retry: Any = None
        self._forget: Callable[[], None] = lambda: None

    def watch(self, port: Any) -> None:
        """Look after a port; one of a foreign kind does what it does."""
        if isinstance(port, AcceptingPort):
            port.on_exhausted = self._exhausted

    def _exhausted(self, error: OSError) -> None:
        self._rare_log.warn(
            "new connections wait: {reason}, with {live} connections live",
            reason=system_reason(error),
            live=self._ledger.live,
        )
        self._ports.pause(self._REASON, streams_alone=True)
        self.stop()
        self._retry = self._reactor.callLater(_RETRY, self._try_again)
        self._forget = self._ledger.watch(self._changed)

    def _changed(self, _connection: Connection) -> None:
        self._try_again()

    def _try_again(self) -> None:
        self.stop()
        self._ports.resume(self._REASON)

    def stop(self) -> None:
        """Try no more."""
        retry, self._retry = self._retry, None
        cancel(retry)
        self._forget()
