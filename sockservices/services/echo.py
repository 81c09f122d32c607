"""Echo (RFC 862): sends back what it receives, on streams and datagrams."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from zope.interface import implementer

from sockservices.answering import AnsweringProtocol
from sockservices.output import Output, Source
from sockservices.printable import DatagramPeer, peer_of_datagram, peer_of_stream
from sockservices.service import IDatagramFactory, IPausesListeners, ITruncationReceiver
from sockservices.settings import setting

_log = Logger(namespace="sock-echo")


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """One connection, which is echoed."""

    transport: Any

    def __init__(self, options: EchoFactory) -> None:
        self._options = options

    def connectionMade(self) -> None:
        """Let a full write buffer pause reading, so that memory stays bounded."""
        self.transport.registerProducer(self.transport, True)
        if ITCPTransport.providedBy(self.transport):
            # The end of an answer must not wait for the next answer. (Older releases of Twisted
            # try this on Unix sockets too, in vain.)
            with contextlib.suppress(OSError):
                self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Send the data back."""
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        """Close once everything that came before the peer's end of input is sent back."""
        self._finish()

    def writeConnectionLost(self) -> None:
        """See ``IHalfCloseableProtocol``; an echo never half-closes."""

    def _finish(self) -> None:
        # A transport waits for its producer before it closes.
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class NotedEcho(Echo):
    """One connection that is reported, or closed after its first read."""

    def dataReceived(self, data: bytes) -> None:
        """Send the data back, then do what the options ask for."""
        super().dataReceived(data)
        if self._options.report:
            self._options.print_report(
                len(data), peer_of_stream(self.transport.getPeer()), self.transport
            )
        if self._options.once:
            self._finish()


@implementer(ITruncationReceiver)
class DatagramEcho(AnsweringProtocol):
    """One listener whose datagrams are echoed."""

    noisy = False
    max_datagram_size = 1 << 18  # more than Linux lets a Unix peer send by default

    def __init__(self, options: EchoFactory) -> None:
        self._options = options

    def datagramReceived(self, datagram: bytes, addr: DatagramPeer) -> None:
        """Send the datagram back, if its sender is known and will not echo it in turn."""
        self.answer(datagram, addr)
        if self._options.report:
            self._options.print_report(len(datagram), peer_of_datagram(addr), self.transport)

    def datagram_truncated(self, data: bytes, size: int, peer: DatagramPeer) -> None:
        """Send nothing back, because the peer would take a part for the whole."""
        _log.warn(
            "no echo for a datagram of {size} bytes from {peer}: the limit is {limit}",
            size=size,
            peer=peer_of_datagram(peer),
            limit=self.max_datagram_size,
        )


@implementer(IDatagramFactory, IPausesListeners)
@attrs.define(eq=False, slots=False)
class EchoFactory(ServerFactory):
    """A factory for echo protocols; ``build_datagram_protocol`` builds those for datagrams."""

    once: bool = setting(default=False, help="Answer the first read of a connection, then close.")
    report: bool = setting(
        default=False, help="Print 'Received N bytes from ADDR, port P' for each read."
    )
    _output: Output = attrs.field(init=False, factory=Output)
    noisy = False

    def buildProtocol(self, addr: object) -> Echo:
        """See ``IProtocolFactory.buildProtocol``."""
        return NotedEcho(self) if self.report or self.once else Echo(self)

    def build_datagram_protocol(self) -> DatagramEcho:
        """See ``IDatagramFactory``."""
        return DatagramEcho(self)

    def add_listeners(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """See ``IPausesListeners``."""
        self._output.add_listeners(pause, resume)

    def print_report(self, size: int, peer: str, source: Source) -> None:
        """Print the line of the ``report`` option."""
        self._output.write(f"Received {size} bytes from {peer}\n".encode(), source)
