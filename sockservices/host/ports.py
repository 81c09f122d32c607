"""The ports of all listeners, which listen, pause and close together."""

from __future__ import annotations

import socket
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
from sockservices.log_limit import LogLimit
from sockservices.printable import system_reason
from sockservices.timer import Timer
from sockservices.transports.address_in_use import reason_in_use
from sockservices.transports.hosted_port import ForeignPort, HostedPort

_RETRY = 0.5  # seconds; file descriptors are freed by others than our connections, too


class Ports:
    """The ports of all listeners.

    Parameters:
        listeners: the listeners.
        log: receives a warning for a port that does not close cleanly.
        closed: called with each port that has closed.
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
        self.lost: Callable[[int, str], object] = lambda _number, _reason: None
        """Called with the index of a listener whose port nobody has closed, and the reason."""
        self._open: dict[int, HostedPort] = {}
        self._serve: Callable[[int], Any] = lambda _number: None
        self._listens: Callable[[int, Any], None] = lambda _number, _port: None
        self.finishing: list[HostedPort] = []
        """The ports that no longer listen, but still serve what the kernel has queued for them."""
        self._reasons: set[str] = set()
        self._stream_reasons: set[str] = set()
        # Identifies the current start; late ports of an earlier start are closed again.
        self._start: object | None = None
        self._closed: Deferred[None] = succeed(None)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the ports that are listening or finishing."""
        return iter([*self.open, *self.finishing])

    @property
    def open(self) -> list[HostedPort]:
        """The ports that are listening, in the order of the listeners."""
        return [self._open[number] for number in sorted(self._open)]

    @property
    def addresses(self) -> list[IAddress]:
        """The addresses that they listen on."""
        return [port.getHost() for port in self.open]

    @property
    def descriptions(self) -> list[str]:
        """The endpoint descriptions that they listen on."""
        return [port.description for port in self.open]

    # Listening

    def listen(
        self, serve: Callable[[int], Any], listens: Callable[[int, Any], None]
    ) -> Deferred[None]:
        """Start listening on all listeners.

        Parameters:
            serve: returns the factory or datagram protocol of a listener, given its index.
            listens: called with the index and the port of each listener that is listening.

        Returns a ``Deferred`` that fires when all of them are listening. It fails with
        ``ListenError`` as soon as one cannot listen, and with ``CancelledError`` if they are
        closed first.
        """
        start = self._start = object()
        self._serve, self._listens = serve, listens
        # Ports of an earlier start may still hold the addresses, except Unix datagram ports.
        before = [port for port in self.finishing if port.keeps_address]
        closed = DeferredList([maybeDeferred(port.stopListening) for port in before])
        # Closing does not cancel these attempts: a foreign endpoint may listen all the same, and
        # then its port must arrive here to be closed.

        def listen_everywhere(_results: object) -> Deferred[Any]:
            attempts = [self._listen(number, start) for number in range(len(self._listeners))]
            return gatherResults(attempts, consumeErrors=True)

        return closed.addCallback(listen_everywhere).addCallbacks(
            partial(self._all_listen, start), partial(self._not_all_listen, start)
        )

    def listen_again(self, number: int) -> Deferred[Any]:
        """Listen on a listener that was lost; fails as ``listen`` does."""
        return self._listen(number, self._start)

    def _listen(self, number: int, start: object) -> Deferred[Any]:
        listener = self._listeners[number]

        def failed(failure: Failure) -> NoReturn:
            kind = socket.SOCK_STREAM if listener.kind == "stream" else socket.SOCK_DGRAM
            why_in_use = partial(reason_in_use, kind)
            raise why_not_listening(listener.description, failure.value, why_in_use)

        def has_begun(found: Any) -> None:
            is_ours = isinstance(found, HostedPort)
            port: HostedPort = found if is_ours else ForeignPort(found, listener.kind)
            port.on_closed = partial(self._has_closed_by_itself, number, port)
            if start is self._start:
                self._open[number] = port
            if self._reasons_of(port):
                port.stopReading()
            self._listens(number, port)
            if start is not self._start:
                self._close([port], self._stop_listening)

        return maybeDeferred(lambda: listener.endpoint.listen(self._serve(number))).addCallbacks(
            has_begun, failed
        )

    def _has_closed_by_itself(self, number: int, port: HostedPort, why: str | None) -> None:
        if self._open.get(number) is not port:  # this object has closed it
            return
        del self._open[number]
        self._tell_closed(port)
        if why is not None:  # otherwise its service has closed it
            self.lost(number, why)

    def _all_listen(self, start: object, _results: object) -> None:
        if start is not self._start:
            raise CancelledError

    def _not_all_listen(self, start: object, failure: Failure) -> NoReturn:
        if start is not self._start:
            raise CancelledError
        self._start = None
        self._close(self.open, self._stop_listening)
        error: Any = failure.value
        while isinstance(error, FirstError):
            error = error.subFailure.value
        raise error

    # Pausing: while there is a reason to pause, new connections wait in the kernel

    def pause(self, reason: str, *, streams_alone: bool = False) -> None:
        """Stop accepting for a reason; several reasons can hold at the same time.

        Parameters:
            reason: a word for ``resume``.
            streams_alone: keep receiving datagrams.
        """
        if self.is_paused_for(reason):
            return
        before = [port for port in self if self._reasons_of(port)]
        (self._stream_reasons if streams_alone else self._reasons).add(reason)
        for port in self:
            if port not in before and self._reasons_of(port):
                port.stopReading()

    def resume(self, reason: str) -> None:
        """Remove a reason; ports without another reason accept again."""
        if not self.is_paused_for(reason):
            return
        before = [port for port in self if self._reasons_of(port)]
        self._reasons.discard(reason)
        self._stream_reasons.discard(reason)
        for port in before:
            if not self._reasons_of(port):
                port.startReading()

    def is_paused_for(self, reason: str) -> bool:
        """Return whether this is one of the current reasons."""
        return reason in self._reasons or reason in self._stream_reasons

    def _reasons_of(self, port: Any) -> set[str]:
        return self._reasons if port.kind == "datagram" else self._reasons | self._stream_reasons

    # Closing

    def finish(self, accept_for: float, send_for: float) -> Deferred[None]:
        """Stop listening, and serve what the kernel has already queued, for a limited time.

        Parameters:
            accept_for: how long to accept connections from the backlogs, in seconds.
            send_for: how long to read and send datagrams, in seconds.

        Returns a ``Deferred`` that fires when all ports are closed.
        """
        self._start = None

        def finish(port: Any) -> Any:
            self.finishing.append(port)
            return port.finish(accept_for if port.kind == "stream" else send_for)

        return self._close(self.open, finish)

    def close(self) -> Deferred[None]:
        """Stop listening, without serving what waits in the kernel."""
        self._start = None
        return self._close(self.open, self._stop_listening)

    def hurry(self) -> None:
        """Close the finishing ports at once."""
        for port in list(self.finishing):
            port.stopListening()

    @property
    def are_wanted(self) -> bool:
        """Whether they are listening, or about to."""
        return self._start is not None

    @property
    def is_accepting(self) -> bool:
        """Whether connections still wait in a backlog although the ports no longer listen."""
        return any(each.kind == "stream" and each.is_finishing for each in self.finishing)

    def _stop_listening(self, port: Any) -> Any:
        return port.stopListening()

    def _close(self, closing: list[Any], close: Callable[[Any], Any]) -> Deferred[None]:
        """Close these ports; the ``Deferred`` also waits for ports that were closing before."""
        self._open = {number: port for number, port in self._open.items() if port not in closing}

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


class Exhaustion:
    """A guard that pauses the ports while the process is out of file descriptors.

    Parameters:
        ports: the ports to pause.
        ledger: reports when a connection has ended, and so freed its file descriptor.
        reactor: an ``IReactorTime``.
        log: receives a warning when they pause.
        log_limit: decides whether it is logged.
    """

    _REASON = "descriptors"

    def __init__(
        self, ports: Ports, ledger: Ledger, reactor: Any, log: Logger, log_limit: LogLimit
    ) -> None:
        self._ports = ports
        self._ledger = ledger
        self._log = log
        self._log_limit = log_limit
        self._retry = Timer(reactor, self._try_again)
        self._forget: Callable[[], None] = lambda: None

    def watch(self, port: Any) -> None:
        """Watch a port; this has no effect on a foreign one."""
        port.on_exhausted = self._exhausted

    def _exhausted(self, error: OSError) -> None:
        if self._log_limit.allows("new connections wait"):
            self._log.warn(
                "new connections wait: {reason}, with {live} live connections",
                reason=system_reason(error),
                live=self._ledger.live,
            )
        self._ports.pause(self._REASON, streams_alone=True)
        self._retry.start(_RETRY)
        self._forget()
        self._forget = self._ledger.watch(self._changed)

    def _changed(self, _connection: Connection) -> None:
        self._try_again()

    def _try_again(self) -> None:
        self.stop()
        self._ports.resume(self._REASON)

    def stop(self) -> None:
        """Stop retrying."""
        self._retry.cancel()
        self._forget()
