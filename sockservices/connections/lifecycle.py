"""The life of a connection, from accept(2) to its end in the ledger.

1. *Asked*: the parts decide whether to admit it, by its socket and its peer.
2. *Header*: behind a proxy, its header is read, and they decide again by the peer in the header.
3. *Built*: the service's factory builds its protocol, in a layer of TLS if that is enabled.
4. *Entered*: it gets its transport, and the ledger records it.
5. *Opened*: the ledger records the protocol, and the protocol is connected.
6. *Ended*: the transport reports its end once, whatever the reason, and the ledger records it.

This code runs only when a connection is made and when it ends, and never for the data that it
sends. If a protocol fails while its connection is made, only that connection is reset. (Twisted
only logs an exception in ``connectionMade``, and leaves the connection open.)
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IAddress, ILoggingContext, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.connections.handshakes import why_it_failed
from sockservices.connections.ledger import Connection, Ledger, Reason
from sockservices.connections.parts import RunningPart
from sockservices.printable import peer_of_stream
from sockservices.timer import cancel
from sockservices.transports import AcceptingPort, Acceptor, deliver_at_the_end, log_prefix
from sockservices.transports.layers import layers_of

_log = Logger(namespace="sockservices")


class Hooks:
    """The hooks of all running parts, in the order of the parts; ``None`` if no part has one."""

    def __init__(self) -> None:
        self.refresh(())

    def refresh(self, parts: Iterable[RunningPart[Any]]) -> None:
        """Collect the hooks again after settings have changed."""
        parts = list(parts)
        self.ask_socket = _first_reason(_hooks(parts, "ask_socket"))
        self.ask_place = _first_reason(_hooks(parts, "ask_place"))
        self.ask_peer = _first_reason(_hooks(parts, "ask_peer"))
        self.ask_datagram = _first_reason(_hooks(parts, "ask_datagram"))
        self.layers = _hooks(parts, "layer")
        self.header = next(iter(_hooks(parts, "header")), None)
        self.entered = _each(_hooks(parts, "entered"))
        self.waiting = _each(_hooks(parts, "waiting"))
        self.opened = _each(_hooks(parts, "opened"))
        self.closed = _each(_hooks(parts, "closed"))


def _hooks(parts: Iterable[RunningPart[Any]], name: str) -> list[Any]:
    return [hook for part in parts if (hook := getattr(part, name)) is not None]


def _first_reason(hooks: list[Any]) -> Any:
    """Return a function that asks all hooks; return a single hook itself, which is faster."""

    def ask(*about: Any) -> Reason | None:
        for each in hooks:
            reason: Reason | None = each(*about)
            if reason is not None:
                return reason
        return None

    return ask if len(hooks) > 1 else next(iter(hooks), None)


def _each(hooks: list[Any]) -> Any:
    """Return a function that calls all hooks, or a single hook itself."""

    def call(*about: Any) -> None:
        for each in hooks:
            each(*about)

    return call if len(hooks) > 1 else next(iter(hooks), None)


@implementer(IProtocolFactory, ILoggingContext)
class ConnectionAcceptor(Acceptor):
    """The receiver of the connections of one listener.

    Parameters:
        listener: the listener's endpoint description.
        factory: the service's factory.
        ledger: records each connection.
        hooks: the hooks of the parts.
    """

    def __init__(self, listener: str, factory: Any, ledger: Ledger, hooks: Hooks) -> None:
        self.listener = listener
        self.factory = factory
        self.ledger = ledger
        self.hooks = hooks
        self.on_end = self.ended  # one for all connections
        self._layers: list[Any] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Use the current layers after settings have changed."""
        if self._layers == self.hooks.layers:
            return
        self._layers = self.hooks.layers
        self.layered = self.factory
        for layer in self.hooks.layers:
            self.layered = layer(self.layered)
        self.build_with(self.layered)

    def build_with(self, factory: Any) -> None:
        """Build protocols with this factory, which has the layers around the service's."""
        deliver_at_the_end(factory)
        self._outermost = factory

    # 1. Asked

    def accept(self, port: AcceptingPort, accepted: socket.socket, peer: Any) -> None:
        """Start the life of a connection; see ``Acceptor``."""
        address = port.address_of(peer)
        hooks = self.hooks
        try:
            ask = hooks.ask_socket
            reason = ask(address, accepted) if ask is not None else None
            if reason is None and hooks.header is not None:
                ask = hooks.ask_place
                reason = ask() if ask is not None else None
                if reason is None:
                    self._read_header(port, accepted, peer)
                    return
            if reason is None:
                ask = hooks.ask_peer
                reason = ask(address, False) if ask is not None else None
        except BaseException:
            failed(self, address)
            reason = "service"
        if reason is None:
            protocol, served = self.build(address)
            if served is not None:
                transport = port.transport_for(accepted, protocol, peer)
                self.enter(transport)
                self.open(transport, address, protocol, served, protocol.makeConnection)
                return
        self._refuse(accepted, address, reason or "service")

    def _refuse(self, accepted: socket.socket, peer: IAddress, reason: Reason) -> None:
        accepted.close()
        self.ledger.refuse(self.listener, peer, reason)

    # 2. Behind a proxy: its header

    def _read_header(self, port: AcceptingPort, accepted: socket.socket, peer: Any) -> None:
        reader = self.header_reader(self._has_header)
        transport = port.transport_for(accepted, reader, peer, proxied=True)
        reader.makeConnection(transport)
        connection = self.enter(transport)
        try:
            if self.hooks.entered is not None:
                self.hooks.entered(connection)
            self.wait(connection, lambda: False)
        except BaseException:
            failed(self, transport.getPeer())
            connection.end("service")

    def header_reader(self, found: Callable[..., None]) -> Any:
        """Return the protocol that reads the header and passes it to the function."""
        assert self.hooks.header is not None
        return self.hooks.header(found, self.reset)

    def _has_header(self, transport: Any, header: Any, rest: bytes) -> None:
        self.done_waiting(transport)
        if header.source is not None:
            transport.show(header.source, header.destination)
        peer = transport.getPeer()
        built = self.admit(transport, peer)
        if built is not None:
            protocol, served = built
            connect = partial(transport.hand_over, protocol, rest)
            self.open(transport, peer, protocol, served, lambda _transport: connect())

    def admit(self, transport: Any, peer: IAddress) -> tuple[Any, Any] | None:
        """Build the protocol of an entered connection, or reset the connection if it is refused."""
        ask = self.hooks.ask_peer
        try:
            reason = ask(peer, True) if ask is not None else None
        except BaseException:
            failed(self, peer)
            reason = "service"
        protocol, served = self.build(peer) if reason is None else (None, None)
        if served is None:
            self.reset(transport, reason or "service")
            return None
        return protocol, served

    def reset(self, transport: Any, reason: Reason, detail: str | None = None) -> None:
        """Reset an entered connection; see ``Connection.detail``."""
        connection = self.ledger.of(transport)
        connection.detail = detail
        connection.end(reason)

    # 3. Built

    def build(self, peer: IAddress) -> tuple[Any, Any]:
        """Return the protocol for a connection, and the service's own, which it may wrap.

        Both are ``None`` if the service refuses the connection or fails.
        """
        factory = self._outermost
        try:
            protocol = factory.buildProtocol(peer)
        except BaseException:
            failed(factory, peer)
            return None, None
        served = protocol
        if factory is not self.factory:
            for _ in self.hooks.layers:
                served = getattr(served, "wrappedProtocol", None)
        return protocol, served

    # 4. Entered

    def enter(self, transport: Any) -> Connection:
        """Enter a connection in the ledger, and have its end reported."""
        transport.on_end = self.on_end
        return self.ledger.enter(self.listener, transport)

    def wait(self, connection: Connection, is_done: Callable[[], bool]) -> None:
        """Start the timeout of a connection that waits for its header or handshake."""
        if self.hooks.waiting is not None:
            self.hooks.waiting(connection, is_done)

    def done_waiting(self, transport: Any) -> None:
        """Cancel the timeout that ``wait`` started."""
        connection = self.ledger.of(transport)
        deadline, connection.deadline = connection.deadline, None
        cancel(deadline)

    # 5. Opened

    def open(
        self,
        transport: Any,
        peer: IAddress,
        protocol: Any,
        served: Any,
        connect: Callable[[Any], object],
    ) -> None:
        """Record a connection as open, and connect its protocol.

        Parameters:
            transport: the transport of the connection.
            peer: the peer's ``IAddress``.
            protocol: the protocol of the connection.
            served: the service's protocol, which is the same or inside it.
            connect: connects the protocol, given the transport.
        """
        connection = self.ledger.open(transport, served)
        try:
            if protocol is not served and (layers := layers_of(protocol, served)) is not None:
                connection.layers = layers
                self.wait(connection, layers.are_ready)
            if self.hooks.opened is not None:
                self.hooks.opened(connection, peer)
            connect(transport)
        except BaseException:
            failed(protocol, peer)
            transport.abortConnection()

    # 6. Ended

    def ended(self, transport: Any, why: Failure) -> None:
        """Record the end of a connection."""
        connection = self.ledger.of(transport)
        failed = why_it_failed(connection, why) if connection.layers is not None else None
        self.ledger.close(transport, why, failed)
        cancel(connection.deadline)
        if self.hooks.closed is not None:
            self.hooks.closed(connection)

    # As the factory of a port

    def doStart(self) -> None:
        """See ``IProtocolFactory.doStart``."""
        self._outermost.doStart()

    def doStop(self) -> None:
        """See ``IProtocolFactory.doStop``."""
        self._outermost.doStop()

    def logPrefix(self) -> str:
        """See ``ILoggingContext.logPrefix``."""
        return log_prefix(self.factory)

    def buildProtocol(self, addr: IAddress) -> Any:
        """See ``IProtocolFactory``; not called, because our ports pass sockets to ``accept``."""
        raise NotImplementedError


def failed(what: Any, peer: IAddress) -> None:
    """Log the exception that a service raised while a connection was made."""
    _log.failure(
        "{what} failed on a new connection from {peer}",
        what=type(what).__name__,
        peer=peer_of_stream(peer),
    )
