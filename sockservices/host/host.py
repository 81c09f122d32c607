"""The host that runs one service on its listeners, a Twisted ``IService``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.connections.foreign_endpoints import ForeignAcceptor
from sockservices.connections.ledger import Ledger
from sockservices.connections.lifecycle import ConnectionAcceptor, Hooks
from sockservices.connections.limits import Limits
from sockservices.connections.parts import Context, Part, Steps
from sockservices.connections.proxy_protocol import ProxyProtocol
from sockservices.connections.reports import Reports
from sockservices.connections.timeouts import Timeouts
from sockservices.connections.tls import TLS
from sockservices.errors import DescriptionError, ListenError
from sockservices.exit import fail_process
from sockservices.host.checks import by_kind, check_kinds
from sockservices.host.datagram_admission import DatagramAdmission
from sockservices.host.lifespan import Life, Lifespan
from sockservices.host.ports import Exhaustion, Ports
from sockservices.host.recovery import Recovery
from sockservices.host.rereading import Rereading
from sockservices.host.running_parts import RunningParts
from sockservices.host.stopping import Stop, Stopping
from sockservices.listening import Listener, Listening, listener
from sockservices.log_limit import LogLimit
from sockservices.printable import spaced, system_reason
from sockservices.service import IPausesListeners, Kind, datagram_builder, name_of
from sockservices.settings import Settings
from sockservices.transports import keep_steady
from sockservices.transports.accelerator import language
from sockservices.transports.closing import Undelivered

PARTS: tuple[type[Part], ...] = (Limits, Timeouts, TLS, ProxyProtocol, Stopping, Lifespan)
"""The parts of every host, in the order in which they are asked; others come after them."""


class SocketService(Service):
    """A Twisted ``Service`` that runs a socket service on its listeners.

    It listens in ``privilegedStartService``, so that ``twistd --uid`` binds low ports first, or in
    ``startService`` if that was not called. It can be stopped and started again.

    Parameters:
        service: an ``IProtocolFactory`` for streams, an ``IDatagramFactory`` or a
            ``DatagramProtocol`` for datagrams, or one object that is a factory for both. A
            ``DatagramProtocol`` object can serve only one listener.
        listen: endpoint descriptions, such as ``tcp:7``, ``unix:/run/x``, ``udp:7`` and
            ``unixgram:/run/x``; or ``Listening``, which has more options. The constructor looks
            host names up, and waits for the answers.
        parts: further settings, at most one object of each type: ``Limits``, ``Timeouts``, ``TLS``,
            ``ProxyProtocol``, ``Stopping``, ``Lifespan``.
        datagram: serves datagrams if ``service`` does not: an ``IDatagramFactory``, a
            ``DatagramProtocol``, or a callable that returns a new one for each listener.
        name: the name of the service in the log and in errors.
        reactor: the reactor; ``None`` means the installed one. If it is one of Twisted's, its
            timers use ``time.monotonic`` from now on.
        on_failure: called with one line if it cannot listen, or later if nothing is left to listen
            on. The default ends the process with that line on standard error and status 1.

    Raises ``DescriptionError`` for a description that is not valid or is of a kind that this
    service does not serve, and ``SettingError`` for a setting that has no effect here or a file
    that cannot be used.
    """

    def __init__(
        self,
        service: Any,
        listen: Iterable[str] | Listening,
        *parts: Part,
        datagram: Any = None,
        name: str | None = None,
        reactor: Any = None,
        on_failure: Callable[[str], None] = fail_process,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._reactor: Any = reactor
        keep_steady(reactor)
        self._factory = service if IProtocolFactory.providedBy(service) else None
        self._build_datagram_protocol = datagram_builder(service, datagram)
        self._served = (service, datagram)
        self._datagram_protocols: dict[int, Any] = {}
        self.name: str = name or name_of(service if service is not None else datagram)
        """The name of the service."""
        if self._factory is None and self._build_datagram_protocol is None:
            raise TypeError(f"{self.name} is neither a protocol factory nor a datagram protocol")
        self._on_failure = on_failure
        self._log = Logger(namespace=self.name)
        self._log_limit = LogLimit(self._log, reactor)
        self.ledger = Ledger(self.name)
        """Its live connections, and the totals."""
        self._reports = Reports(self._log, self.ledger, reactor)
        if not isinstance(listen, Listening):
            listen = Listening(listen=[listen] if isinstance(listen, str) else list(listen))
        self._listening = listen
        self._hooks = Hooks()
        kind: Kind = "stream" if self._factory is not None else "datagram"
        self._acceptors: list[ConnectionAcceptor] = []
        self._listeners = [self._listener(each) for each in self._listening.descriptions(kind)]
        if not self._listeners:
            raise DescriptionError(f"{self.name} has nothing to listen on: listen is empty")
        self._ports = Ports(self._listeners, self._log, self._has_closed)
        self._recovery = Recovery(
            self._ports,
            [each.description for each in self._listeners],
            reactor,
            self._log,
            self._tell_readiness,
            lambda line: on_failure(f"{self.name}: {line}"),
        )
        check_kinds(
            self.name,
            self._listeners,
            self._factory,
            self._build_datagram_protocol,
            datagram if datagram is not None else service,
        )
        context = Context(
            self.name,
            self.ledger,
            reactor,
            self._log,
            partial(self._ports.pause, streams_alone=True),
            self._ports.resume,
        )
        given = {kind: kind() for kind in PARTS} | by_kind(parts)
        what_listens = (self._listening, self._listeners)
        self._parts = RunningParts(given.values(), *what_listens, context, self._refresh)
        for each in (service,) if datagram is service else (service, datagram):
            if IPausesListeners.providedBy(each):
                pause, resume = self._ports.pause, self._ports.resume
                each.add_listeners(partial(pause, _OVERLOADED), partial(resume, _OVERLOADED))
        self._rereading = Rereading(reactor, self._log, self._readings)
        self._exhaustion = Exhaustion(self._ports, self.ledger, reactor, self._log, self._log_limit)
        self._undelivered = Undelivered()
        self._datagrams = DatagramAdmission(self.ledger, self._hooks, self._log, self._log_limit)
        self._refresh()
        self._stops: list[Stop] = []
        self._life = Life(
            self._factory,
            reactor,
            self._log,
            lambda: self._parts.current(Lifespan).lifespan_timeout,
        )
        self._start: object | None = None  # identifies the current start
        self._is_hurried = False
        self._started_privileged = False
        self._listens = False
        self._failure: ListenError | None = None
        self._waiting: list[Deferred[list[Any]]] = []
        self._watchers: list[Callable[[], object]] = []

    def _listener(self, description: str) -> Listener:
        """Return the listener of a description, and add the acceptor of its connections."""
        life = (description, self._factory, self.ledger, self._hooks)
        foreign = ForeignAcceptor(*life)
        found = listener(self._reactor, description, self._listening, foreign.around)
        self._acceptors.append(foreign if found.is_foreign else ConnectionAcceptor(*life))
        return found

    # Settings

    @property
    def settings(self) -> dict[type[Any], Part]:
        """The current settings by type."""
        return self._parts.settings

    def change(self, *parts: Settings) -> None:
        """Change the settings while it runs, also for live connections.

        If one of them is not valid, none is changed.

        Parameters:
            parts: as for the constructor; each replaces the previous one of its type, and its
                files are read again.

        Raises ``SettingError`` for a setting that cannot change while the service runs or has no
        effect here, and for a file that cannot be used.
        """
        self._parts.change(*parts)

    def reload(self) -> Deferred[None]:
        """Read the files again: the certificate, the lists of networks, and the service's own.

        If a file cannot be used, that is logged and the previous settings stay in effect. Large
        files are read in the course of several turns of the reactor.

        Returns a ``Deferred`` that fires when they are read, and when the service has reloaded, if
        it provides ``ILifespan``.
        """
        return self._rereading.request().addCallback(lambda _read: self._life.reload())

    def _readings(self) -> list[tuple[str, Steps[None]]]:
        readings = self._parts.readings()
        for each, acceptor in zip(self._listeners, self._acceptors, strict=True):
            if each.look_again is not None and isinstance(acceptor, ForeignAcceptor):
                readings.append(("certificate", _renew(each.look_again, acceptor)))
        if not (readings or self._life.is_wanted):
            readings.append(("nothing, because no files are used", _nothing()))
        return readings

    def _refresh(self) -> None:
        """Apply the current settings to new connections and datagrams."""
        self._hooks.refresh(self._parts)
        for acceptor in self._acceptors:
            acceptor.refresh()
        for stream_port in self._ports:
            self._instruct(stream_port)
        self._datagrams.refresh()

    # Listening

    @property
    def addresses(self) -> list[Any]:
        """The addresses (``IAddress``) that it listens on, in the order of the listeners."""
        return self._ports.addresses

    @property
    def descriptions(self) -> list[str]:
        """The endpoint descriptions that it listens on, in the order of the listeners."""
        return self._ports.descriptions

    def when_listening(self) -> Deferred[list[Any]]:
        """Return a ``Deferred`` that fires with ``addresses`` when all listeners are listening.

        It fails with ``ListenError`` if one cannot listen, even if that happened earlier, and with
        ``CancelledError`` if the service is stopped first.
        """
        if self._listens:
            return succeed(self.addresses)
        if self._failure is not None:
            return fail(self._failure)
        result: Deferred[list[Any]] = Deferred()
        self._waiting.append(result)
        return result

    def privilegedStartService(self) -> None:
        """Start listening."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._started_privileged = True
        self._listen()

    def startService(self) -> None:
        """Start listening, unless ``privilegedStartService`` already did."""
        super().startService()  # type: ignore[no-untyped-call]
        if not self._started_privileged:
            self._listen()
        self._started_privileged = False

    def _listen(self) -> None:
        if self._start is not None:
            return
        start = self._start = object()
        self._is_hurried = False
        self._failure = None
        # Without an ILifespan that waits for something, all of this happens at once.
        self._life.begin(partial(self._build, start)).addCallback(
            self._has_started, start
        ).addCallbacks(self._all_listen, self._not_all_listen)

    def _build(self, start: object) -> list[Any]:
        """Build the datagram protocols; return all objects that serve."""
        if start is not self._start:  # it had to wait for an earlier end, and was stopped
            raise CancelledError
        build = self._build_datagram_protocol
        self._datagram_protocols = {
            number: build()
            for number, each in enumerate(self._listeners)
            if each.kind == "datagram" and build is not None
        }
        return [*self._served, *self._datagram_protocols.values()]

    def _has_started(self, _result: None, start: object) -> Deferred[None]:
        if start is not self._start:
            raise CancelledError
        self._parts.start()
        return self._ports.listen(self._what_serves, self._has_begun)

    def _what_serves(self, number: int) -> Any:
        if self._listeners[number].kind == "datagram":
            return self._datagram_protocols[number]
        acceptor = self._acceptors[number]
        return acceptor.inner if isinstance(acceptor, ForeignAcceptor) else acceptor

    def _has_begun(self, number: int, port: Any) -> None:
        each = self._listeners[number]
        port.on_error = partial(self._survived, each.description)
        if each.kind == "stream":
            self._life.hold()
            self._exhaustion.watch(port)
            port.undelivered = self._undelivered
            self._instruct(port)
        else:
            self._datagrams.add(port, each.description)

    def _survived(self, listener: str, error: OSError) -> None:
        self.ledger.survive()
        reason = system_reason(error)
        if self._log_limit.allows(f"{listener} continues after an error: {reason}"):
            self._log.warn(
                "{listener} continues after an error: {reason}", listener=listener, reason=reason
            )

    def _instruct(self, port: Any) -> None:
        if port.kind == "stream":
            for part in self._parts:
                part.listens(port)

    def _all_listen(self, _result: None) -> None:
        self._listens = True
        # A reader of this line may send a signal at once. Before the reactor runs, that would end
        # the process without closing anything.
        self._reactor.callWhenRunning(self._announce)
        self._tell_waiting(lambda waiting: waiting.callback(self.addresses))

    def _announce(self) -> None:
        if self._listens:
            if not self._listening.stock_transports:
                self._log.info("transports run in {language}", language=language)
            self._log.info(
                "{service} listening on {addresses}",
                service=self.name,
                addresses=spaced(self.descriptions),
            )

    def _not_all_listen(self, failure: Failure) -> None:
        if failure.check(CancelledError):  # the service was stopped meanwhile
            return
        self._start = None
        self._recovery.stop()
        self._parts.stop()
        if not self.ledger.live:  # otherwise a stop waits for the connections
            self._life.end()
        error: Any = failure.value
        self._failure = error
        self._tell_waiting(lambda waiting: waiting.errback(error))
        self._on_failure(f"{self.name}: {error}")

    def _tell_waiting(self, tell: Callable[[Deferred[list[Any]]], None]) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            tell(each)

    def log_totals(self) -> None:
        """Log how many connections and datagrams there were since the start, by reason."""
        self._reports.tell_totals()

    # Readiness

    @property
    def is_ready(self) -> bool:
        """Whether it accepts on all its listeners, because none is lost and it is not suspended."""
        return self._listens and not self.lost and not self.is_suspended

    @property
    def lost(self) -> list[str]:
        """The endpoint descriptions of listeners that have failed; it tries to listen again."""
        return self._recovery.lost

    def watch_readiness(self, watcher: Callable[[], object]) -> None:
        """Call a function when it is suspended or resumed, and when ``lost`` has changed."""
        self._watchers.append(watcher)

    def _tell_readiness(self) -> None:
        for watcher in self._watchers:
            watcher()

    # Suspending

    def suspend(self) -> None:
        """Stop accepting until ``resume``; new connections and datagrams wait in the kernel."""
        if not self.is_suspended:
            self._ports.pause(_SUSPENDED)
            self._log.info("suspended: {live} live connections", live=self.ledger.live)
            self._tell_readiness()

    def resume(self) -> None:
        """Start accepting again."""
        if self.is_suspended:
            self._ports.resume(_SUSPENDED)
            self._log.info("resumed")
            self._tell_readiness()

    @property
    def is_suspended(self) -> bool:
        """Whether ``suspend`` was called."""
        return self._ports.is_paused_for(_SUSPENDED)

    # Stopping

    @property
    def stop_limit(self) -> float:
        """How many seconds a stop may take, with the service's own end."""
        return self._most_to_finish + self._life.most_to_end

    @property
    def _most_to_finish(self) -> float:
        stopping = self._parts.current(Stopping)
        return stopping.graceful_timeout + stopping.flush

    def stopService(self) -> Deferred[None]:
        """Stop listening, and end all connections, including those in the backlog.

        Returns a ``Deferred`` that fires when all listeners and connections are closed, after
        ``graceful_timeout`` plus ``flush`` at the latest, and the service has ended, if it provides
        ``ILifespan``.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._started_privileged = self._listens = False
        self._start = self._failure = None
        self._recovery.stop()
        self._life.interrupt()
        self._tell_waiting(lambda waiting: waiting.errback(CancelledError()))
        self._ports.resume(_SUSPENDED)  # what waits in the kernel is served all the same
        stopping = self._parts.current(Stopping)
        at_most = self._most_to_finish
        closed = (
            self._ports.close() if self._is_hurried else self._ports.finish(at_most, stopping.flush)
        )
        # Foreign listeners may never report that they are closed.
        closed.addTimeout(at_most + 1, self._reactor)
        for earlier in self._stops:
            earlier.accept_no_more()
        taken = {each for earlier in self._stops for each in earlier.remaining}
        remaining = [each for each in self.ledger if each not in taken]
        stop = Stop(self.ledger, self._reactor, self._log, stopping, remaining)
        self._stops.append(stop)
        stop.begin(self._ports.is_accepting)
        if self._is_hurried:
            stop.hurry()
        done = DeferredList(
            [closed, *(each.when_done() for each in self._stops)], consumeErrors=True
        )
        ends = self._reactor.seconds() + at_most
        return done.addCallback(self._deliver_until, ends).addCallback(self._stopped)

    def _deliver_until(self, _results: object, ends: float) -> Deferred[None]:
        if self._is_hurried:
            self._undelivered.deliver_no_more()
        delivered = self._undelivered.when_delivered()
        delivered.addTimeout(max(0.0, ends - self._reactor.seconds()), self._reactor)
        return delivered.addErrback(lambda _timeout: self._undelivered.deliver_no_more())

    def _has_closed(self, port: Any) -> None:
        self._datagrams.discard(port)
        if not self._ports.is_accepting:
            for stop in self._stops:
                stop.accept_no_more()

    def _stopped(self, _results: object) -> Deferred[None] | None:
        self._stops = [stop for stop in self._stops if stop.remaining]
        ended = None
        if self._start is None:
            self._parts.stop()
            self._exhaustion.stop()
            self._log_limit.end_period()
            ended = self._life.end()
        self._reports.end()
        return ended

    def hurry(self) -> None:
        """Reset the connections that a stop waits for; a later stop does not wait either."""
        self._is_hurried = True
        self._ports.hurry()
        self._life.hurry()
        for stop in self._stops:
            stop.hurry()
        self._undelivered.deliver_no_more()


_SUSPENDED = "suspended"
_OVERLOADED = "overloaded"


def _renew(look_again: Callable[[Any], Any], acceptor: ForeignAcceptor) -> Steps[None]:
    acceptor.renew(look_again(acceptor.inner))
    yield


def _nothing() -> Steps[None]:
    yield
