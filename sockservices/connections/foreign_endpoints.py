"""Foreign listeners, whose endpoints bring their own layers or ports.

An endpoint of Twisted or of another package may use the factory that it is given in two ways:

- It wraps the factory in layers and has the reactor listen, as ``ssl:`` and ``haproxy:`` do. Then
  our own port accepts, and except for the layers nothing differs from other listeners.
- It has its own port, which builds protocols with the factory. This is the only case in which we
  modify objects that are not ours, and only this module does so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import (
    IAddress,
    ILoggingContext,
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from sockservices.connections.ledger import Connection, Ledger, Reason
from sockservices.connections.lifecycle import ConnectionAcceptor, Hooks, failed
from sockservices.transports import deliver_at_the_end

_NOT_ASKED = object()


class ForeignAcceptor(ConnectionAcceptor):
    """A ``ConnectionAcceptor`` for a foreign listener."""

    def __init__(self, listener: str, factory: Any, ledger: Ledger, hooks: Hooks) -> None:
        self._outer: Any = None
        self._renewed: Any = None
        super().__init__(listener, factory, ledger, hooks)
        self.inner = ServiceFactory(self)
        """The factory that the endpoint gets instead of the service's."""

    def around(self, layers: Any) -> ConnectionAcceptor:
        """Return the acceptor for our own port, which builds with the endpoint's layers."""
        # When it starts again, the endpoint still has the layers of its description, even if
        # newer ones have been set since.
        self._outer = self._renewed or layers
        deliver_at_the_end(self._outer)
        return self

    def renew(self, layers: Any) -> None:
        """Use other layers around ``inner`` for new connections."""
        self._renewed = layers
        if self._outer is not None:  # it is listening
            self.around(layers)

    @property
    def is_listening(self) -> bool:
        """Whether our own port accepts the connections."""
        return self._outer is not None

    def build(self, peer: IAddress) -> tuple[Any, Any]:
        """See ``ConnectionAcceptor.build``."""
        if self._outer is None:
            return super().build(peer)
        self.inner.built = _NOT_ASKED
        try:
            protocol = self._outer.buildProtocol(peer)
        except BaseException:
            failed(self._outer, peer)
            return None, None
        if protocol is None:
            return None, None
        # Layers may build the service's protocol only when they know more of the peer.
        built = self.inner.built
        return protocol, protocol if built is _NOT_ASKED else built

    def build_inside(self, peer: IAddress) -> tuple[Any, Any]:
        """Build the protocol inside the layers."""
        return super().build(peer)

    def doStart(self) -> None:
        """See ``IProtocolFactory.doStart``."""
        self._outer.doStart()

    def doStop(self) -> None:
        """See ``IProtocolFactory.doStop``."""
        self._outer.doStop()

    def enter_foreign(self, transport: Any) -> Connection:
        """Enter a connection whose transport cannot report its end."""
        connection = self.ledger.enter(self.listener, transport)
        if self.hooks.entered is not None:
            self.hooks.entered(connection)
        return connection


@implementer(IProtocolFactory, ILoggingContext)
class ServiceFactory:
    """The service's factory, as a foreign endpoint sees it."""

    def __init__(self, acceptor: ForeignAcceptor) -> None:
        self._acceptor = acceptor
        self.built: Any = None
        """The service's protocol for the connection that is being made."""
        if IProtocolNegotiationFactory.providedBy(acceptor.factory):  # TLS asks for it
            alsoProvides(self, IProtocolNegotiationFactory)

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 - Twisted's name
        """See ``IProtocolNegotiationFactory``; used only if the service's factory provides it."""
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

    def buildProtocol(self, addr: IAddress) -> Any:
        """Build a protocol; on a foreign port, check first whether to admit the connection."""
        acceptor = self._acceptor
        if acceptor.is_listening:
            protocol, self.built = acceptor.build_inside(addr)
            return protocol
        hooks = acceptor.hooks
        if hooks.header or (hooks.ask_socket and isinstance(addr, UNIXAddress)):
            return _Unidentified(acceptor, addr)
        reason = hooks.ask_peer(addr, False) if hooks.ask_peer is not None else None
        protocol, served = acceptor.build(addr) if reason is None else (None, None)
        if served is None:
            acceptor.ledger.refuse(acceptor.listener, addr, reason or "service")
            return None
        return _entering(acceptor, addr, protocol, served)


def _why_not(acceptor: ForeignAcceptor, peer: IAddress, handle: Any) -> Reason | None:
    hooks = acceptor.hooks
    reason: Reason | None = hooks.ask_socket(peer, handle) if hooks.ask_socket else None
    if reason is None and hooks.ask_place is not None:
        reason = hooks.ask_place()
    return reason


class _Unidentified:
    """The protocol of a connection on a foreign port until its peer is known."""

    def __init__(self, acceptor: ForeignAcceptor, peer: IAddress) -> None:
        self._acceptor = acceptor
        self._peer = peer
        self._reader: Any = None
        self._successor: Any = None
        self._is_entered = False

    def makeConnection(self, transport: Any) -> None:
        """Check the connected socket, because the foreign port did not pass it on."""
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
        if acceptor.hooks.header is not None:
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

    def _let_in(self, peer: IAddress, rest: bytes) -> None:
        transport = self._transport
        built = self._acceptor.admit(transport, peer)
        if built is not None:
            protocol, served = built
            self._successor = protocol
            self._acceptor.open(transport, peer, protocol, served, protocol.makeConnection)
            if rest:
                protocol.dataReceived(rest)

    def dataReceived(self, data: bytes) -> None:
        """Pass the data on, because a foreign port does not switch to the new protocol."""
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


def _entering(acceptor: ForeignAcceptor, peer: IAddress, protocol: Any, served: Any) -> Any:
    """Wrap a protocol's methods so that the ledger records its connection and its end."""
    make_connection, lost = protocol.makeConnection, protocol.connectionLost

    def connect(transport: Any) -> None:
        try:
            del protocol.makeConnection
        except AttributeError:  # the protocol has __slots__
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
    """A stand-in for a protocol without settable attributes, until it is connected."""

    def __init__(self, connect: Callable[[Any], None]) -> None:
        self.makeConnection = connect
