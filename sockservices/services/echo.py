"""Echo (RFC 862): sends back what arrives, on streams and on datagrams."""

from __future__ import annotations

import contextlib
from typing import Any

import attrs
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from zope.interface import implementer

from sockservices.answering import AnsweringProtocol
from sockservices.output import Output, Source
from sockservices.printable import DatagramPeer, peer_of_datagram, peer_of_stream
from sockservices.service import IDatagramFactory, ITruncationReceiver
from sockservices.settings import setting

_log = Logger(namespace="sock-echo")


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """One connection that is echoed."""

    transport: Any

    def __init__(self, options: EchoFactory) -> None:
        self._options = options

    def connectionMade(self) -> None:
        """Let a full write buffer pause the reading: an echo never holds more than it must."""
        self.transport.registerProducer(self.transport, True)
        if ITCPTransport.providedBy(self.transport):
            # The end of an answer is not to wait for the next. (On Unix sockets older releases
            # of Twisted try it, in vain.)
            with contextlib.suppress(OSError):
                self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        """Close when what was sent before the peer's end of file is on its way back."""
        self._finish()

    def writeConnectionLost(self) -> None:
        """See ``IHalfCloseableProtocol``; an echo never closes only its writing side."""

    def _finish(self) -> None:
        # A transport waits for its producer before it closes.
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class NotedEcho(Echo):
    """One that is reported, or ends with its first read."""

    def dataReceived(self, data: bytes) -> None:
        """Send it back, and see to the options."""
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
    max_datagram_size = 1 << 18  # more than Linux lets a Unix peer send unless it is told to

    def __init__(self, options: EchoFactory) -> None:
        self._options = options

    def datagramReceived(self, datagram: bytes, addr: DatagramPeer) -> None:
        """Send it back, if its sender can be told, and will not echo it in turn."""
        self.answer(datagram, addr)
        if self._options.report:
            self._options.print_report(len(datagram), peer_of_datagram(addr), self.transport)

    def datagram_truncated(self, data: bytes, size: int, peer: DatagramPeer) -> None:
        """Send nothing back: a part would pass for the whole."""
        _log.warn(
            "no echo for a datagram of {size} bytes from {peer}: the limit is {limit}",
            size=size,
            peer=peer_of_datagram(peer),
            limit=self.max_datagram_size,
        )


@implementer(IDatagramFactory)
@attrs.define(eq=False, slots=False)
class EchoFactory(ServerFactory):
    """Echoes connections, and datagrams by ``build_datagram_protocol``."""

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

    def print_report(self, size: int, peer: str, source: Source) -> None:
        """Print the line that ``report`` asks for."""
        self._output.write(f"Received {size} bytes from {peer}\n".encode(), source)
