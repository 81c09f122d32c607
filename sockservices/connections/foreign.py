"""Listeners of a foreign kind: layers around the service that are not ours, and ports of others.

An endpoint of Twisted's or of another package's makes of the factory that it is given what it
wants. It may put layers around it and have a reactor listen, as ``ssl:`` and ``haproxy:`` do: then
a port of ours accepts, and the life of a connection is as ever but for the layers. Or it has a
port of its own, which builds protocols by that factory: only then are objects altered that are not
ours, and all of that is here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import (
    ILoggingContext,
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from sockservices.connections.ledger import Connection, Ledger, Reason
from sockservices.connections.lifecycle import ConnectionAcceptor, Hooks, failed
from sockservices.transports import deliver_at_the_end


class ForeignAcceptor(ConnectionAcceptor):
    """Takes the connections of a listener of a foreign kind; see ``ConnectionAcceptor``."""

    def __init__(self, listener: str, factory: Any, ledger: Ledger, hooks: Hooks) -> None:
        self._outer: Any = None
        self._renewed: Any = None
        super().__init__(listener, factory, ledger, hooks)
        self.inner = ServiceFactory(self)
        """What the endpoint gets in the place of the service's factory."""

    def around(self, layers: Any) -> ConnectionAcceptor:
        """Return what a port of ours hands its connections to, given the endpoint's layers."""
        # The endpoint has what it was described by; at another start that may be old.
        self._outer = self._renewed or layers
        deliver_at_the_end(self._outer)
        return self

    def renew(self, layers: Any) -> None:
        """Build in other layers around ``inner``, for connections from now on."""
        self._renewed = layers
        if self._outer is not None:  # it listens
            self.around(layers)

    @property
    def is_listening(self) -> bool:
        """Whether a port of ours hands its connections over."""
        return self._outer is not None

    def build(self, peer: Any) -> tuple[Any, Any]:
        """See ``ConnectionAcceptor.build``."""
        if self._outer is None:
            return super().build(peer)
        self.inner.built = None
        try:
            protocol = self._outer.buildProtocol(peer)
        except BaseException:
            failed(self._outer, peer)
            return None, None
        return protocol, self.inner.built if protocol is not None else None

    def build_inside(self, peer: Any) -> tuple[Any, Any]:
        """Build what the layers are around."""
        return super().build(peer)

    def doStart(self) -> None:
        """See ``IProtocolFactory.doStart``."""
        self._outer.doStart()

    def doStop(self) -> None:
        """See ``IProtocolFactory.doStop``."""
        self._outer.doStop()

    def enter_foreign(self, transport: Any) -> Connection:
        """Enter a connection that cannot tell its end by itself."""
        connection = self.ledger.enter(self.listener, transport)
        for entered in self.hooks.entered:
            entered(connection)
        return connection


@implementer(IProtocolFactory, ILoggingContext)
class ServiceFactory:
    """The service's factory, as an endpoint of a foreign kind sees it."""

    def __init__(self, acceptor: ForeignAcceptor) -> None:
        self._acceptor = acceptor
        self.built: Any = None
        """The service's protocol of the connection that is being made."""
        if IProtocolNegotiationFactory.providedBy(acceptor.factory):  # TLS asks for it
            alsoProvides(self, IProtocolNegotiationFactory)

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 - Twisted's name
        """See ``IProtocolNegotiationFactory``, where the service's factory provides it."""
        acceptable: list[bytes] = self._acceptor.factory.acceptableProtocols()
        return acceptable

    def doStart(self) -> None:
        """See ``IProtocolFactory.doStart``."""
        self._acceptor.layered.doStart()

    def doStop(self) -> None:
        """See ``IProtocolFactory.doStop``."""
        self._acceptor.layered.doStop()

    def logPrefix(self) -> str:
        """See ``ILoggingContext.logPrefix``."""
        return self._acceptor.logPrefix()

    def buildProtocol(self, addr: Any) -> Any:
        """Build for the layers around; for a port that is not ours, let the connection in first."""
        acceptor = self._acceptor
        if acceptor.is_listening:
            protocol, self.built = acceptor.build_inside(addr)
            return protocol
        hooks = acceptor.hooks
        if hooks.headers or (hooks.ask_socket and isinstance(addr, UNIXAddress)):
            return _Unidentified(acceptor, addr)
        reason = _why_not(acceptor, addr, None) or acceptor.why_not(addr)
        protocol, served = acceptor.build(addr) if reason is None else (None, None)
        if served is None:
            acceptor.ledger.refuse(acceptor.listener, addr, reason or "service")
            return None
        return _entering(acceptor, addr, protocol, served)


def _why_not(acceptor: ForeignAcceptor, peer: Any, handle: Any) -> Reason | None:
    for ask in acceptor.hooks.ask_socket:
        reason: Reason | None = ask(peer, handle)
        if reason is not None:
            return reason
    return None


class _Unidentified:
    """The protocol of a connection on a port that is not ours, until its peer is known."""

    def __init__(self, acceptor: ForeignAcceptor, peer: Any) -> None:
        self._acceptor = acceptor
        self._peer = peer
        self._reader: Any = None
        self._successor: Any = None
        self._is_entered = False

    def makeConnection(self, transport: Any) -> None:
        """Ask by the connected socket what the listening one did not tell."""
        acceptor = self._acceptor
        handle = transport.getHandle() if hasattr(transport, "getHandle") else None
        reason = _why_not(acceptor, self._peer, handle)
        if reason is not None:
            acceptor.ledger.refuse(acceptor.listener, self._peer, reason)
            _abort(transport)
            return
        self._transport = transport
        self._is_entered = True
        connection = acceptor.enter_foreign(transport)
        if acceptor.hooks.headers:
            acceptor.wait(connection, lambda: False)
            self._reader = acceptor.header_reader(self._has_header)
            self._reader.makeConnection(transport)
        else:
            self._let_in(self._peer, b"")

    def _has_header(self, transport: Any, header: Any, rest: bytes) -> None:
        self._acceptor.done_waiting(transport)
        if header.source is not None:
            transport.getPeer = lambda: header.source
            transport.getHost = lambda: header.destination
        self._let_in(transport.getPeer(), rest)

    def _let_in(self, peer: Any, rest: bytes) -> None:
        transport = self._transport
        built = self._acceptor.admit(transport, peer)
        if built is not None:
            protocol, served = built
            self._successor = protocol
            self._acceptor.open(transport, peer, protocol, served, protocol.makeConnection)
            if rest:
                protocol.dataReceived(rest)

    def dataReceived(self, data: bytes) -> None:
        """See ``IProtocol``: a port that is not ours keeps to us."""
        receiver = self._successor or self._reader
        if receiver is not None:
            receiver.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:
        """See ``IProtocol``."""
        try:
            if self._successor is not None:
                self._successor.connectionLost(reason)
        finally:
            if self._is_entered:
                self._acceptor.ended(self._transport, reason)


def _abort(transport: Any) -> None:
    getattr(transport, "abortConnection", transport.loseConnection)()


def _entering(acceptor: ForeignAcceptor, peer: Any, protocol: Any, served: Any) -> Any:
    """Have a connection entered and its end told, by way of the protocol that is built for it."""
    make_connection, lost = protocol.makeConnection, protocol.connectionLost

    def connect(transport: Any) -> None:
        try:
            del protocol.makeConnection
        except AttributeError:  # one with __slots__
            transport.protocol = protocol
        acceptor.enter_foreign(transport)
        with contextlib.suppress(AttributeError):
            protocol.connectionLost = _then(lost, lambda why: acceptor.ended(transport, why))
        acceptor.open(transport, peer, protocol, served, make_connection)

    try:
        protocol.makeConnection = connect
    except AttributeError:
        return _Starter(connect)
    return protocol


def _then(lost: Callable[[Failure], None], tell: Callable[[Failure], None]) -> Any:
    def connection_lost(reason: Failure) -> None:
        try:
            lost(reason)
        finally:
            tell(reason)

    return connection_lost


class _Starter:
    """Stands for a protocol on which nothing can be set, until it is connected."""

    def __init__(self, connect: Callable[[Any], None]) -> None:
        self.makeConnection = connect
