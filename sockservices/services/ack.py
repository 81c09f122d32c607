"""Acknowledge: prints the first message of each connection, answers it, and closes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.protocol import Protocol, ServerFactory
from zope.interface import implementer

from sockservices.converters import text_with_escapes
from sockservices.output import Output
from sockservices.printable import escaped
from sockservices.service import IPausesListeners
from sockservices.settings import setting


class Acknowledge(Protocol):
    """One connection: one message in, one answer out."""

    transport: Any
    _answered = False

    def __init__(self, reply: bytes, output: Output) -> None:
        self._reply = reply
        self._output = output

    def connectionMade(self) -> None:
        """Be paused with the others when the output is full."""
        self._output.add_source(self.transport)

    def connectionLost(self, reason: object = None) -> None:
        """See ``IProtocol.connectionLost``."""
        self._output.remove_source(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Print and acknowledge the first read; ignore the rest."""
        if self._answered:
            return
        self._answered = True
        message = data.removesuffix(b"\n").removesuffix(b"\r")
        line = f"Here is the message: {escaped(message)}\n".encode()
        # Acknowledge only what has been printed, even if the reader of the output is slow.
        self._output.write(line, self.transport, written=self._acknowledge)

    def _acknowledge(self) -> None:
        self.transport.write(self._reply)
        self.transport.loseConnection()


@implementer(IPausesListeners)
@attrs.define(eq=False, slots=False)
class AckFactory(ServerFactory):
    """A factory for protocols that print the first read of a connection, and acknowledge it.

    The read is printed as one line, without its own line end.
    """

    reply: str = setting(
        default="I got your message",
        converter=text_with_escapes,
        help="Answer with this text; \\n stands for a newline.",
    )
    _output: Output = attrs.field(init=False, factory=Output)
    noisy = False

    def buildProtocol(self, addr: object) -> Acknowledge:
        """See ``IProtocolFactory.buildProtocol``."""
        return Acknowledge(self.reply.encode("utf-8", "surrogateescape"), self._output)

    def add_listeners(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """See ``IPausesListeners``."""
        self._output.add_listeners(pause, resume)
