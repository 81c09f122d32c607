"""Letting a connection in: the guards are asked, the ledger is told, a failure is contained.

All of it is done while a connection is made; nothing here is called for what it sends.

A protocol that fails while its connection is made costs that connection, and nobody else's.
Twisted sees to it for ``dataReceived``; an exception in ``connectionMade`` it only logs, without
the peer, and leaves the connection open.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import (
    ILoggingContext,
    INegotiated,
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from sockservices.calls import cancel
from sockservices.credentials import credentials_of
from sockservices.eager import Counted, deliver_at_the_end
from sockservices.guards import Guards
from sockservices.ledger import Ledger
from sockservices.listening import DatagramPort
from sockservices.networks import Networks, address
from sockservices.newcomers import Newcomer, log_prefix
from sockservices.printable import DatagramPeer, address_of_datagram, peer_of_stream
from sockservices.proxy_protocol import ProxyProtocol
from sockservices.reasons import Reason

_log = Logger(namespace="sockservices")


_NOT_ASKED = object()
_SILENCE = 60.0  # seconds between two lines in the log that say the same


class Door:
    """Where the connections of one listener come in.

    Parameters:
        listener: its endpoint description.
        ledger: is told of each connection.
        guards: are asked first, if there are any.
        max_write_buffer: bytes that may wait to be sent on a connection; with more it is cut.
        proxy: what its connections must begin with, where they come from proxies.
        reactor: an ``IReactorTime``.
        handshake_timeout: seconds for a proxy's header, and for a TLS handshake.
    """

    def __init__(
        self,
        listener: str,
        ledger: Ledger,
        guards: Guards | None = None,
        max_write_buffer: int | None = None,
        proxy: ProxyProtocol | None = None,
        reactor: Any = None,
        handshake_timeout: float = 0.0,
    ) -> None:
        self.listener = listener
        self.ledger = ledger
        self.on_end = ledger.close  # one for all connections
        self._guards = guards
        self._max_write_buffer = max_write_buffer
        self.proxy = proxy
        self._proxies = Networks(proxy.proxy_allow_from if proxy is not None else ())
        self.reactor = reactor
        self.handshake_timeout = handshake_timeout
        # While a connection is let in: what the service has built for it.
        self.is_admitting = False
        self.built: Any = None
        self._around: AdmittingFactory | None = None
        self._renewed: Any = None
        self._silent_until = 0.0

    def refuses(self, peer: Any) -> bool:
        """Ask the guards about a newcomer; one that they refuse is entered in the ledger."""
        return self._enter_refusal(peer, self._guards.refusal(peer) if self._guards else None)

    def refuses_unknown(self, peer: Any) -> bool:
        """Do the same with one of which more is to be known."""
        reason: Reason | None = None
        if self.proxy is not None and not self._is_proxy(peer):
            reason = "proxy-allow-from"
        elif self._guards is not None and self._guards.is_full:
            reason = "max-connections"
        return self._enter_refusal(peer, reason)

    def _enter_refusal(self, peer: Any, reason: Reason | None) -> bool:
        if reason is not None:
            self.ledger.refuse(self.listener, peer, reason)
        return reason is not None

    def _is_proxy(self, peer: Any) -> bool:
        host = address(getattr(peer, "host", ""))
        return host is None or self._proxies.specificity(host) >= 0

    def asks_more_than(self, peer: Any) -> bool:
        """Whether it takes more than a peer's address to say if it is let in."""
        return self.proxy is not None or self._asks_for_user(peer)

    def _asks_for_user(self, peer: Any) -> bool:
        guards = self._guards
        return guards is not None and guards.asks_for_users and isinstance(peer, UNIXAddress)

    def why_not_user(self, transport: Any) -> Reason | None:
        """Return why the process at the other end of a connection is not let in."""
        if self._guards is None or not self._asks_for_user(transport.getPeer()):
            return None
        try:
            is_allowed = self._guards.is_user_allowed(credentials_of(transport.getHandle()))
        except (AttributeError, OSError):  # a foreign transport, or one that is closed
            is_allowed = False
        return None if is_allowed else "user"

    def why_not(self, peer: Any) -> Reason | None:
        """Return why one is not let in that is connected, now that its peer is known."""
        return self._guards.refusal(peer, is_live=True) if self._guards is not None else None

    def enter(self, transport: Any, protocol: Any) -> None:
        """Enter a connection in the ledger, and have its end entered."""
        if isinstance(transport, Counted):
            transport.on_end = self.on_end
            if self._max_write_buffer is not None:
                transport.max_unsent = self._max_write_buffer
                transport.on_overflow = self._overflown
        else:
            _watch_end(protocol, transport, self.ledger)
        self.ledger.enter(self.listener, transport)

    def open(self, transport: Any, protocol: Any) -> None:
        """Enter in the ledger that the service has a connection."""
        if transport not in self.ledger:
            self.enter(transport, protocol)
        self.ledger.open(transport, protocol)

    def time_handshake(self, tls: Any, transport: Any) -> None:
        """Cut a connection whose TLS is not there in time."""
        check = self.reactor.callLater(self.handshake_timeout, self._check_handshake, tls)
        if isinstance(transport, Counted):

            def end(transport: Any, reason: Failure) -> None:
                cancel(check)
                self.ledger.close(transport, reason)

            transport.on_end = end

    def _check_handshake(self, tls: Any) -> None:
        # It ends with the peer's last word: RFC 8446, section 2.
        if tls.transport in self.ledger and tls.getHandle().get_peer_finished() is None:
            self.cut(tls.transport, "handshake-timeout")

    def _overflown(self, transport: Any) -> None:
        self.cut(transport, "max-write-buffer")

    def cut(self, transport: Any, reason: Reason) -> None:
        """End a connection that has come in here."""
        self.ledger.of(transport).end(reason)

    @property
    def asks_about_datagrams(self) -> bool:
        """Whether the guards have anything to say of datagrams."""
        return self._guards is not None and self._guards.asks_about_datagrams

    def take_datagrams(self, port: DatagramPort) -> None:
        """Let the guards have a listener for datagrams, and the ledger its figures."""
        self.ledger.add_port(port)
        if self.asks_about_datagrams:
            port.refuses = self._refuses_datagram

    def _refuses_datagram(self, peer: DatagramPeer) -> bool:
        assert self._guards is not None
        known = address_of_datagram(peer)
        return self._enter_refusal(known, self._guards.datagram_refusal(known))

    def log_rarely(self, text: str, **named: object) -> None:
        """Log what may happen often, once a minute at the most."""
        now = self.reactor.seconds()
        if now >= self._silent_until:
            self._silent_until = now + _SILENCE
            _log.info(text + " (further ones are only counted, for a minute)", **named)

    def admitting(self, factory: Any) -> AdmittingFactory:
        """Return a factory that lets in by this door what another one builds."""
        if isinstance(factory, AdmittingFactory):
            return factory
        return AdmittingFactory(factory, self)

    def admitting_around(self, factory: Any) -> AdmittingFactory:
        """Do the same for a layer that an endpoint has put around the service."""
        # The endpoint has what it was described by; at another start that may be old.
        self._around = self.admitting(self._renewed or factory)
        return self._around

    def renew_layer(self, factory: Any) -> None:
        """Have another factory build that layer, for connections from now on."""
        self._renewed = factory
        if self._around is not None:  # it listens
            self._around.stand_for(factory)


@implementer(IProtocolFactory, ILoggingContext)
class AdmittingFactory:
    """A service's factory, as a listener sees it.

    An endpoint may put another around it, for TLS perhaps, and the door one like this around that:
    then the outer one asks and tells, and the inner one only says what the service has built.
    """

    def __init__(self, factory: Any, door: Door) -> None:
        self.stand_for(factory)
        self._door = door
        if IProtocolNegotiationFactory.providedBy(factory):  # TLS asks for it
            alsoProvides(self, IProtocolNegotiationFactory)

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 - Twisted's name
        """See ``IProtocolNegotiationFactory``, where the service's factory provides it."""
        acceptable: list[bytes] = self._factory.acceptableProtocols()
        return acceptable

    def stand_for(self, factory: Any) -> None:
        """Build with this factory from now on."""
        if "twisted.protocols.tls" in sys.modules:  # else it is no factory of TLS
            deliver_at_the_end(factory)
        self._factory = factory

    def doStart(self) -> None:
        """See ``IProtocolFactory.doStart``."""
        self._factory.doStart()

    def doStop(self) -> None:
        """See ``IProtocolFactory.doStop``."""
        self._factory.doStop()

    def logPrefix(self) -> str:
        """See ``ILoggingContext.logPrefix``."""
        return log_prefix(self._factory)

    def buildProtocol(self, addr: Any) -> Any:
        """Build the protocol; refuse the connection if that fails."""
        door = self._door
        if door.is_admitting:
            door.built = self._build(addr)
            return door.built
        if door.asks_more_than(addr):
            return None if door.refuses_unknown(addr) else Newcomer(door, addr, self._admit)
        if door.refuses(addr):
            return None
        protocol = self._admitted(addr)
        if protocol is None:
            door.ledger.refuse(door.listener, addr, "service")
        return protocol

    def _admit(self, transport: Any, peer: Any) -> Any | None:
        """Build the protocol of a connection whose peer is known now; cut it if it is refused."""
        door = self._door
        reason = door.why_not(peer)
        protocol = self._admitted(peer) if reason is None else None
        if protocol is None:
            door.cut(transport, reason or "service")
        return protocol

    def _admitted(self, addr: Any) -> Any | None:
        door = self._door
        door.is_admitting, door.built = True, _NOT_ASKED
        try:
            protocol = self._build(addr)
        finally:
            door.is_admitting = False
        built, door.built = door.built, None
        if built is _NOT_ASKED:
            built = protocol
        if protocol is None or built is None:
            return None
        connect = partial(self._connect, protocol, protocol.makeConnection, built, addr)
        try:
            protocol.makeConnection = connect
        except AttributeError:  # one with __slots__
            return _Starter(connect)
        return protocol

    def _build(self, addr: Any) -> Any:
        try:
            return self._factory.buildProtocol(addr)
        except BaseException:
            _failed(self._factory, addr)
            return None

    def _connect(
        self,
        protocol: Any,
        make_connection: Callable[[Any], None],
        built: Any,
        addr: Any,
        transport: Any,
    ) -> None:
        try:
            del protocol.makeConnection
        except AttributeError:  # one with __slots__
            transport.protocol = protocol
        self._door.open(transport, built)
        if protocol is not built and INegotiated.providedBy(protocol):
            self._door.time_handshake(protocol, transport)
        try:
            make_connection(transport)
        except BaseException:
            _failed(protocol, addr)
            transport.abortConnection()


class _Starter:
    """Stands for a protocol on which nothing can be set, until it is connected."""

    def __init__(self, connect: Callable[[Any], None]) -> None:
        self.makeConnection = connect


def _watch_end(protocol: Any, transport: Any, ledger: Ledger) -> None:
    """Have the ledger told of the end by the protocol, where the transport does not do it."""
    lost = protocol.connectionLost

    def connection_lost(reason: Failure) -> None:
        try:
            lost(reason)
        finally:
            ledger.close(transport, reason)

    with contextlib.suppress(AttributeError):
        protocol.connectionLost = connection_lost


def _failed(what: Any, addr: Any) -> None:
    _log.failure(
        "{what} failed on a new connection from {peer}",
        what=type(what).__name__,
        peer=peer_of_stream(addr),
    )
