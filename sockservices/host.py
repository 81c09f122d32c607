"""One running service: its factory on its listeners, as a Twisted ``IService``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    FirstError,
    fail,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.accepting import Gate
from sockservices.admission import Door
from sockservices.descriptors import Exhaustion
from sockservices.eager import AcceptingPort, keep_steady
from sockservices.ending import fail_process
from sockservices.errors import ArgumentName, SettingError
from sockservices.guards import NO_LIMITS, Guards, Limits
from sockservices.ledger import Connection, Ledger
from sockservices.listening import (
    DatagramListener,
    DatagramPort,
    DescriptionError,
    ListenError,
    Listening,
    StreamListener,
    UnixDatagramPort,
    listener,
    why_not_listening,
)
from sockservices.parts import Part
from sockservices.printable import listening_at
from sockservices.proxy_protocol import ProxyProtocol
from sockservices.service import IDatagramFactory
from sockservices.settings import settings_of
from sockservices.stopping import Stop, Stopping
from sockservices.timeouts import RunningTimeouts, Timeouts
from sockservices.tls import TLS, RunningTLS

_PARTS: tuple[type[Part], ...] = (Limits, Timeouts, TLS, ProxyProtocol, Stopping)


class SocketService(Service):
    """Runs a service on its listeners.

    It listens in ``privilegedStartService`` (so that ``twistd --uid`` binds low ports first), or
    in ``startService`` where nobody calls that; it can be stopped and started again.

    Parameters:
        service: an ``IProtocolFactory`` for streams, an ``IDatagramFactory`` or a
            ``DatagramProtocol`` for datagrams, or one object that is a factory for both. A
            ``DatagramProtocol`` object can have one listener.
        listen: endpoint descriptions, such as ``tcp:7``, ``unix:/run/x``, ``udp:7`` and
            ``unixgram:/run/x``; or ``Listening``, which has more to say.
        parts: further settings, at most one object of a kind: ``Limits``, ``Timeouts``, ``TLS``,
            ``ProxyProtocol``, ``Stopping``.
        datagram: what serves datagrams where ``service`` does not: an ``IDatagramFactory``, a
            ``DatagramProtocol``, or a callable that returns a new one for each listener.
        name: what the service is called in the log and in errors.
        reactor: the reactor; ``None`` is the installed one. From now on its timers go by
            ``time.monotonic`` if it is one of Twisted's.
        on_failure: called with one line when a listener cannot be had. The default ends the
            process with that line on standard error and status 1.

    Raises ``DescriptionError`` for a description that is wrong or of a kind that this service
    does not serve, and ``SettingError`` for a setting that would do nothing here, and for a file
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
        self._build_datagram_protocol = _datagram_builder(service, datagram)
        named = name or _name(service if service is not None else datagram)
        if self._factory is None and self._build_datagram_protocol is None:
            raise TypeError(f"{named} is neither a protocol factory nor a datagram protocol")
        self._named = named
        self.ledger = Ledger(named)
        """Its connections, live and ended."""
        listening = listen if isinstance(listen, Listening) else Listening(listen=tuple(listen))
        settings = _in_order(parts)
        limits, timeouts, tls, proxy, stopping = (settings[kind] for kind in _PARTS)
        self._guards = Guards(limits, self.ledger) if limits != NO_LIMITS else None
        self._timeouts = RunningTimeouts(timeouts, self.ledger, reactor)
        self._gate = Gate()
        self._datagram_gate = Gate()
        self._tls = RunningTLS(tls) if tls.tls_cert is not None else None
        if self._guards is not None and self._guards.lets_wait:
            self.ledger.watch(self._wait_while_full)
        self._doors = [
            Door(
                description,
                self.ledger,
                self._guards,
                limits.max_write_buffer,
                proxy if proxy.proxy_protocol != "off" else None,
                reactor,
                timeouts.handshake_timeout,
            )
            for description in listening.descriptions(
                "stream" if self._factory is not None else "datagram"
            )
        ]
        self._listeners = [
            listener(reactor, door.listener, listening, door.admitting_around)
            for door in self._doors
        ]
        if not self._listeners:
            raise DescriptionError(f"{named} has nothing to listen on: listen is empty")
        self._check_kinds(datagram if datagram is not None else service)
        for part in settings.values():
            self._check_objections(part)
        for part in settings.values():
            self._check_use(part)
        self._on_failure = on_failure
        self._log = Logger(namespace=named)
        self._exhaustion = Exhaustion(self._gate, self.ledger, reactor, self._log)
        self._new_stop = partial(Stop, self.ledger, reactor, self._log, stopping)
        self._stops: list[Stop] = []
        self._graceful_timeout, self._flush = stopping.graceful_timeout, stopping.flush
        self._ending: list[Any] = []  # ports that serve what the kernel had taken for them
        self._is_hurried = False
        # For listeners of a foreign kind, which may never say that they are closed.
        self._stop_at_most = stopping.graceful_timeout + stopping.flush + 1
        self._ports: list[IListeningPort] = []
        # Which start the ports are of: what arrives late, of an earlier one, is closed again.
        self._start: object | None = None
        self._started_privileged = False
        self._listens = False
        self._failure: ListenError | None = None
        self._closing: Deferred[None] = succeed(None)
        self._waiting: list[Deferred[list[Any]]] = []

    def _check_use(self, part: Any) -> None:
        """Refuse what would do nothing: whoever gives it relies on it."""
        for setting in settings_of(type(part)):
            kind = setting.listener
            is_given = setting.is_given(getattr(part, setting.argument))
            if kind and is_given and not any(each.is_a(kind) for each in self._listeners):
                name = ArgumentName(setting.argument)
                raise SettingError(
                    name, f" goes with a {kind} listener, and {self._named} has none"
                )

    def _check_objections(self, part: Any) -> None:
        for each in self._listeners:
            objection = part.objection(each)
            if objection is not None:
                raise DescriptionError(f"{each.description!r} {objection}")

    def _check_kinds(self, datagram: Any) -> None:
        datagrams = 0
        for each in self._listeners:
            if isinstance(each, DatagramListener):
                datagrams += 1
                if self._build_datagram_protocol is None:
                    raise DescriptionError(
                        f"{self._named} serves streams only; {each.description!r} is for datagrams"
                    )
            elif self._factory is None:
                raise DescriptionError(
                    f"{self._named} serves datagrams only; {each.description!r} is for streams"
                )
        if datagrams > 1 and isinstance(datagram, AbstractDatagramProtocol):
            raise DescriptionError(
                f"one {type(datagram).__name__} object can have one listener, not {datagrams}: "
                "pass its class"
            )

    @property
    def addresses(self) -> list[Any]:
        """The addresses (``IAddress``) where it listens now, in the order of the listeners."""
        return [port.getHost() for port in self._ports]

    @property
    def where(self) -> str:
        """Where it listens now, as endpoint descriptions with a space between."""
        return " ".join(map(_where, self._ports))

    def when_listening(self) -> Deferred[list[Any]]:
        """Return a ``Deferred`` of ``addresses`` that fires when every listener listens.

        It fails with ``ListenError`` if one cannot, also if that is known already, and with
        ``CancelledError`` if the service is stopped before.
        """
        if self._listens:
            return succeed(self.addresses)
        if self._failure is not None:
            return fail(self._failure)
        result: Deferred[list[Any]] = Deferred()
        self._waiting.append(result)
        return result

    def privilegedStartService(self) -> None:
        """Listen."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._started_privileged = True
        self._listen()

    def startService(self) -> None:
        """Listen, if ``privilegedStartService`` was not called before."""
        super().startService()  # type: ignore[no-untyped-call]
        if not self._started_privileged:
            self._listen()
        self._started_privileged = False

    def stopService(self) -> Deferred[None]:
        """Stop listening, and end the connections, with those that wait in the backlog.

        Returns a ``Deferred`` that fires when every listener is closed and no connection is left:
        after ``graceful_timeout`` and ``flush`` at the latest.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._start = None
        self._started_privileged = self._listens = False
        self._failure = None
        self._tell_waiting(lambda waiting: waiting.errback(CancelledError()))
        for gate in (self._gate, self._datagram_gate):
            gate.open("suspended")  # who waits is served all the same
        closed = self._close(self._ports, self._accept_waiting)
        closed.addTimeout(self._stop_at_most, self._reactor)
        taken = {each for stop in self._stops for each in stop.remaining}
        stop = self._new_stop(each for each in self.ledger if each not in taken)
        self._stops.append(stop)
        stop.begin(self._accepts_waiting)
        if self._is_hurried:
            stop.hurry()
        done = [closed, *(each.when_done() for each in self._stops)]
        return DeferredList(done, consumeErrors=True).addCallback(self._stopped)

    @property
    def _accepts_waiting(self) -> bool:
        """Whether some wait yet, although the service has been stopped."""
        return any(isinstance(port, AcceptingPort) and port.is_finishing for port in self._ending)

    def _stopped(self, _results: object) -> None:
        self._stops = [stop for stop in self._stops if stop.remaining]
        if self._start is None:
            self._timeouts.stop()
            self._exhaustion.stop()
        refused = self.ledger.totals.refused
        if refused:
            counts = ", ".join(f"{reason} {count}" for reason, count in sorted(refused.items()))
            self._log.info("refused since the start: {counts}", counts=counts)

    def suspend(self) -> None:
        """Accept no more until ``resume``: what lives goes on, what comes waits in the kernel."""
        if not self._gate.is_closed_for("suspended"):
            for gate in (self._gate, self._datagram_gate):
                gate.close("suspended")
            self._log.info("suspended: {live} connections live", live=self.ledger.live)

    def resume(self) -> None:
        """Accept again."""
        if self._gate.is_closed_for("suspended"):
            for gate in (self._gate, self._datagram_gate):
                gate.open("suspended")
            self._log.info("resumed")

    @property
    def is_suspended(self) -> bool:
        """Whether it was told to ``suspend``."""
        return self._gate.is_closed_for("suspended")

    def reload(self) -> None:
        """Read the certificate and the files of networks again; cut who is not admitted any more.

        A file that cannot be used is logged, and what was before stays in force. Connections that
        live keep the certificate that they were shown.
        """
        if self._tls is not None:
            self._reload("certificate", self._tls.reload)
        if self._guards is not None:
            self._reload("guards", self._guards.reload)
        for stream, door in zip(self._listeners, self._doors, strict=True):
            if isinstance(stream, StreamListener) and stream.look_again is not None:
                self._reload("certificate", partial(self._renew, stream.look_again, door))
        for connection in self.ledger:
            is_known = connection.protocol is not None  # and not only the proxy it comes from
            if is_known and self._guards and not self._guards.is_allowed(connection.peer):
                connection.end("denied")

    def _reload(self, what: str, reload: Callable[[], object]) -> None:
        try:
            reload()
        except ValueError as error:
            self._log.error("not reloaded: {reason}", reason=error)
        else:
            self._log.info("reloaded: {what}", what=what)

    def _renew(self, look_again: Callable[[Any], Any], door: Door) -> None:
        door.renew_layer(look_again(door.admitting(self._factory)))

    def _wait_while_full(self, _connection: Connection) -> None:
        assert self._guards is not None
        if self._guards.is_full:
            self._gate.close("full")
        else:
            self._gate.open("full")

    def hurry(self) -> None:
        """End the connections at once that a stop has left to finish, or the next one would."""
        self._is_hurried = True
        for port in list(self._ending):
            port.stopListening()
        for stop in self._stops:
            stop.hurry()

    def _listen(self) -> None:
        if self._start is not None:
            return
        start = self._start = object()
        self._is_hurried = False
        self._timeouts.start()
        self._failure = None
        # Those of an earlier start may have the addresses yet; Unix datagram ports have not.
        before = [each for each in self._ending if not isinstance(each, UnixDatagramPort)]
        closed = DeferredList([maybeDeferred(port.stopListening) for port in before])
        closed.addCallback(lambda _results: self._listen_everywhere(start))

    def _listen_everywhere(self, start: object) -> None:
        # Nothing is cancelled at a stop: a foreign endpoint may listen all the same, and then
        # its port must come to be known here, to be closed.
        attempts = [
            self._listen_at(each, door, start)
            for each, door in zip(self._listeners, self._doors, strict=True)
        ]
        gatherResults(attempts, consumeErrors=True).addCallbacks(
            self._all_listen, self._not_all_listen, callbackArgs=(start,), errbackArgs=(start,)
        )

    def _listen_at(
        self, each: StreamListener | DatagramListener, door: Door, start: object
    ) -> Deferred[IListeningPort]:
        def listen() -> Any:
            if isinstance(each, StreamListener):
                return each.endpoint.listen(self._factory_behind(door))
            assert self._build_datagram_protocol is not None
            return each.endpoint.listen(self._build_datagram_protocol())

        def failed(failure: Failure) -> NoReturn:
            raise why_not_listening(each.description, failure.value)

        def listens(port: IListeningPort) -> IListeningPort:
            self._ports.append(port)
            if isinstance(each, StreamListener):
                self._gate.add(port)
                self._exhaustion.watch(port)
            elif isinstance(port, DatagramPort):
                self._datagram_gate.add(port)
                door.take_datagrams(port)
            elif door.asks_about_datagrams:
                raise ListenError(
                    f"cannot listen on {each.description}: the datagrams of such a listener "
                    "cannot be limited"
                )
            if start is not self._start:
                self._close([port], self._stop_listening)
            return port

        return maybeDeferred(listen).addCallbacks(listens, failed)

    def _factory_behind(self, door: Door) -> Any:
        inner = door.admitting(self._factory)
        if self._tls is None:
            return inner
        from twisted.protocols.tls import TLSMemoryBIOFactory  # needs an extra

        return door.admitting(TLSMemoryBIOFactory(self._tls, False, inner, self._reactor))

    def _all_listen(self, ports: list[IListeningPort], start: object) -> None:
        if start is not self._start:
            return
        self._ports = ports  # in the order of the listeners
        self._listens = True
        # Before the reactor runs, a signal would end the process without closing anything: who
        # waits for this line may send one.
        self._reactor.callWhenRunning(self._announce, start)
        self._tell_waiting(lambda waiting: waiting.callback(self.addresses))

    def _announce(self, start: object) -> None:
        if start is self._start:
            self._log.info(
                "{service} listening on {addresses}",
                service=self._named,
                addresses=self.where,
            )

    def _not_all_listen(self, failure: Failure, start: object) -> None:
        if start is not self._start:
            return
        error: Any = failure.value
        while isinstance(error, FirstError):
            error = error.subFailure.value
        self._start = None
        self._timeouts.stop()
        self._failure = error
        self._close(self._ports, self._stop_listening)
        self._tell_waiting(lambda waiting: waiting.errback(error))
        self._on_failure(f"{self._named}: {error}")

    def _tell_waiting(self, tell: Callable[[Deferred[list[Any]]], None]) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            tell(each)

    def _close(self, closing: list[IListeningPort], close: Callable[[Any], Any]) -> Deferred[None]:
        """Close these ports; the ``Deferred`` waits for those of before as well."""
        self._ports = [port for port in self._ports if port not in closing]
        done = DeferredList(
            [maybeDeferred(close, port).addBoth(self._has_closed, port) for port in closing],
            consumeErrors=True,
        )
        before, self._closing = self._closing, done.addCallback(self._closed)
        self._closing.addCallback(lambda _none: before)
        result: Deferred[None] = Deferred()
        self._closing.chainDeferred(result)
        return result

    def _accept_waiting(self, port: Any) -> Any:
        """Close a port in the order of a stop: it serves first what the kernel took for it."""
        if isinstance(port, AcceptingPort) and not self._is_hurried:
            self._ending.append(port)
            return port.finish(self._graceful_timeout + self._flush)
        return self._stop_listening(port)

    def _stop_listening(self, port: Any) -> Any:
        self._gate.discard(port)
        self._datagram_gate.discard(port)
        if isinstance(port, DatagramPort) and not self._is_hurried:
            self._ending.append(port)
            return port.finish(self._flush)
        return port.stopListening()

    def _has_closed(self, result: Any, port: Any) -> Any:
        self._gate.discard(port)
        if port in self._ending:
            self._ending.remove(port)
            if not self._accepts_waiting:
                for stop in self._stops:
                    stop.accept_no_more()
        self.ledger.remove_port(port)
        return result

    def _closed(self, results: list[tuple[bool, Any]]) -> None:
        for success, failure in results:
            if not success:
                self._log.warn(
                    "a listener did not close cleanly: {reason}", reason=failure.getErrorMessage()
                )


def _in_order(parts: Iterable[Part]) -> dict[type[Part], Any]:
    """Return the parts by their kind, with the defaults of those that are not given."""
    found: dict[type[Part], Part] = {}
    for each in parts:
        if type(each) not in _PARTS:
            kinds = ", ".join(kind.__name__ for kind in _PARTS)
            raise TypeError(f"{each!r} is no part of a host: there are {kinds}")
        if type(each) in found:
            raise TypeError(f"{type(each).__name__} is given twice")
        found[type(each)] = each
    return {kind: found.get(kind) or kind() for kind in _PARTS}


def _where(port: IListeningPort) -> str:
    shown = listening_at(port.getHost())
    is_unix_datagram = isinstance(port, UnixDatagramPort)
    return f"unixgram{shown.removeprefix('unix')}" if is_unix_datagram else shown


def _datagram_builder(service: Any, datagram: Any) -> Callable[[], Any] | None:
    """Return what makes the protocol of each datagram listener."""
    if datagram is None and _serves_datagrams(service):
        datagram = service
    if IDatagramFactory.providedBy(datagram):
        datagram = datagram.build_datagram_protocol
    if isinstance(datagram, AbstractDatagramProtocol):
        return lambda: datagram
    builder: Callable[[], Any] | None = datagram
    return builder


def _name(service: Any) -> str:
    return str(getattr(service, "__name__", type(service).__name__))


def _serves_datagrams(service: Any) -> bool:
    if isinstance(service, type):
        return issubclass(service, AbstractDatagramProtocol)
    return isinstance(service, AbstractDatagramProtocol) or IDatagramFactory.providedBy(service)
