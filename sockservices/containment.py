"""A protocol that fails while its connection is made costs that connection, and nobody else's.

Twisted sees to it for ``dataReceived``; an exception in ``connectionMade`` it only logs, without
the peer, and leaves the connection open. Nothing here is called once a connection is made.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.interfaces import ILoggingContext, IProtocolFactory
from twisted.logger import Logger
from zope.interface import implementer

from sockservices.printable import peer_of_stream

_log = Logger(namespace="sockservices")


@implementer(IProtocolFactory, ILoggingContext)
class ContainedFactory:
    """A service's factory, as the listeners see it."""

    def __init__(self, factory: Any) -> None:
        self._factory = factory

    def doStart(self) -> None:
        """See ``IProtocolFactory.doStart``."""
        self._factory.doStart()

    def doStop(self) -> None:
        """See ``IProtocolFactory.doStop``."""
        self._factory.doStop()

    def logPrefix(self) -> str:
        """See ``ILoggingContext.logPrefix``."""
        context = ILoggingContext(self._factory, None)
        return type(self._factory).__name__ if context is None else str(context.logPrefix())

    def buildProtocol(self, addr: Any) -> Any:
        """Build the protocol; refuse the connection if that fails."""
        try:
            protocol = self._factory.buildProtocol(addr)
        except BaseException:
            _failed(self._factory, addr)
            return None
        if protocol is not None:
            try:
                protocol.makeConnection = partial(_make_connection, protocol, addr)
            except AttributeError:  # one with __slots__ does without
                return protocol
        return protocol


def _make_connection(protocol: Any, addr: Any, transport: Any) -> None:
    del protocol.makeConnection  # from here on, its class's
    try:
        protocol.makeConnection(transport)
    except BaseException:
        _failed(protocol, addr)
        transport.abortConnection()


def _failed(what: Any, addr: Any) -> None:
    _log.failure(
        "{what} failed on a new connection from {peer}",
        what=type(what).__name__,
        peer=peer_of_stream(addr),
    )
