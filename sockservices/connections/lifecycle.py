"""The life of a connection, in order: from what accept(2) gave to its end in the ledger.

1. *Asked*: the parts say whether they let it in, by its socket and its peer.
2. Behind a proxy: its *header* is read, and they are asked again about the peer behind the proxy.
3. *Built*: the service's factory builds its protocol, in a layer of TLS where that is asked for.
4. It is given its *transport*, and is *entered* in the ledger.
5. *Opened*: the ledger has the protocol, and the protocol is connected.
6. *Ended*: the transport tells it once, whatever the reason, and the ledger is told.

All of it is done while a connection is made and when it ends; nothing here is called for what it
sends. A protocol that fails while its connection is made costs that connection, and nobody else's:
Twisted only logs an exception in ``connectionMade``, and leaves the connection open.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet.interfaces import ILoggingContext, INegotiated, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.connections.ledger import Connection, Ledger, Reason
from sockservices.connections.parts import RunningPart
from sockservices.printable import peer_of_stream
from sockservices.timer import cancel
from sockservices.transports import AcceptingPort, Acceptor, deliver_at_the_end, log_prefix

_log = Logger(namespace="sockservices")


class Hooks:
    """The hooks of all running parts: those that there are, in the order of the parts."""

    def __init__(self) -> None:
        self.refresh(())

    def refresh(self, parts: Iterable[RunningPart[Any]]) -> None:
        """Look which hooks there are: settings have changed."""
        parts = list(parts)
        self.ask_socket = _hooks(parts, "ask_socket")
        self.ask_peer = _hooks(parts, "ask_peer")
        self.ask_datagram = _hooks(parts, "ask_datagram")
        self.layers = _hooks(parts, "layer")
        self.headers = _hooks(parts, "header")
        self.entered = _hooks(parts, "entered")
        self.waiting = _hooks(parts, "waiting")
        self.opened = _hooks(parts, "opened")
        self.closed = _hooks(parts, "closed")


def _hooks(parts: Iterable[RunningPart[Any]], name: str) -> list[Any]:
    return [hook for part in parts if (hook := getattr(part, name)) is not None]


@implementer(IProtocolFactory, ILoggingContext)
class ConnectionAcceptor(Acceptor):
    """Takes the connections of one listener.

    Parameters:
        listener: the listener's endpoint description.
        factory: the service's.
        ledger: is told of each connection.
        hooks: of the parts.
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
        """Build in the layers of now: settings have changed."""
        if self._layers == self.hooks.layers:
            return
        self._layers = self.hooks.layers
        self.layered = self.factory
        for layer in self.hooks.layers:
            self.layered = layer(self.layered)
        self.build_with(self.layered)

    def build_with(self, factory: Any) -> None:
        """Have this factory build the protocols, in its layers around the service's."""
        deliver_at_the_end(factory)
        self._outermost = factory

    # 1. Asked

    def accept(self, port: AcceptingPort, accepted: socket.socket, peer: Any) -> None:
        """See ``Acceptor``: begin a connection's life."""
        address = port.address_of(peer)
        hooks = self.hooks
        for ask in hooks.ask_socket:
            if (reason := ask(address, accepted)) is not None:
                self._refuse(accepted, address, reason)
                return
        if hooks.headers:
            self._read_header(port, accepted, peer)
            return
        for ask in hooks.ask_peer:
            if (reason := ask(address)) is not None:
                self._refuse(accepted, address, reason)
                return
        protocol, served = self.build(address)
        if served is None:
            self._refuse(accepted, address, "service")
            return
        transport = port.transport_for(accepted, protocol, peer)
        self.enter(transport)
        self.open(transport, address, protocol, served, protocol.makeConnection)

    def _refuse(self, accepted: socket.socket, peer: Any, reason: Reason) -> None:
        accepted.close()
        self.ledger.refuse(self.listener, peer, reason)

    def why_not(self, peer: Any) -> Reason | None:
        """Return why a connection is not let in whose peer is known now."""
        for ask in self.hooks.ask_peer:
            reason: Reason | None = ask(peer)
            if reason is not None:
                return reason
        return None

    # 2. Behind a proxy: its header

    def _read_header(self, port: AcceptingPort, accepted: socket.socket, peer: Any) -> None:
        reader = self.header_reader(self._has_header)
        transport = port.transport_for(accepted, reader, peer, proxied=True)
        self.wait(self.enter(transport), lambda: False)
        reader.makeConnection(transport)

    def header_reader(self, found: Callable[..., None]) -> Any:
        """Return the protocol that reads the header, and tells the function what it has found."""
        [header] = self.hooks.headers
        return header(found, self.reset)

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

    def admit(self, transport: Any, peer: Any) -> tuple[Any, Any] | None:
        """Build the protocol of a connection that is entered; reset it if it is refused."""
        reason = self.why_not(peer)
        protocol, served = self.build(peer) if reason is None else (None, None)
        if served is None:
            self.reset(transport, reason or "service")
            return None
        return protocol, served

    def reset(self, transport: Any, reason: Reason) -> None:
        """End a connection that is entered."""
        self.ledger.of(transport).end(reason)

    # 3. Built

    def build(self, peer: Any) -> tuple[Any, Any]:
        """Return the protocol for a connection, and the service's, which may be in layers of it.

        Both are ``None`` if the service does not take it, or fails.
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
        """Enter a connection in the ledger, and have its end told."""
        transport.on_end = self.on_end
        connection = self.ledger.enter(self.listener, transport)
        for entered in self.hooks.entered:
            entered(connection)
        return connection

    def wait(self, connection: Connection, is_done: Callable[[], bool]) -> None:
        """Have a connection ended if what it waits for takes too long."""
        for waiting in self.hooks.waiting:
            waiting(connection, is_done)

    def done_waiting(self, transport: Any) -> None:
        """Let it take its time from now on."""
        connection = self.ledger.of(transport)
        deadline, connection.deadline = connection.deadline, None
        cancel(deadline)

    # 5. Opened

    def open(
        self,
        transport: Any,
        peer: Any,
        protocol: Any,
        served: Any,
        connect: Callable[[Any], object],
    ) -> None:
        """Tell the ledger that the service has a connection, and connect it.

        Parameters:
            transport: the connection's.
            peer: the peer's ``IAddress``.
            protocol: its protocol.
            served: the service's protocol.
            connect: connects the protocol, given the transport.
        """
        connection = self.ledger.open(transport, served)
        for opened in self.hooks.opened:
            opened(connection, peer)
        if protocol is not served and INegotiated.providedBy(protocol):
            # It ends with the peer's last word: RFC 8446, section 2.
            tls: Any = protocol
            self.wait(connection, lambda: tls.getHandle().get_peer_finished() is not None)
        try:
            connect(transport)
        except BaseException:
            failed(protocol, peer)
            transport.abortConnection()

    # 6. Ended

    def ended(self, transport: Any, why: Failure) -> None:
        """Tell the ledger of the end of a connection."""
        connection = self.ledger.close(transport, why)
        cancel(connection.deadline)
        for closed in self.hooks.closed:
            closed(connection)

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

    def buildProtocol(self, addr: Any) -> Any:
        """See ``IProtocolFactory``; what accepts here hands over sockets and builds nothing."""
        raise NotImplementedError


def failed(what: Any, peer: Any) -> None:
    """Log what a service has raised while a connection was made."""
    _log.failure(
        "{what} failed on a new connection from {peer}",
        what=type(what).__name__,
        peer=peer_of_stream(peer),
    )
