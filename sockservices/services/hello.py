"""Hello: greets each connection and closes it. The smallest service, for you to copy."""

from __future__ import annotations

import attrs
from twisted.internet.protocol import Protocol, ServerFactory

from sockservices.converters import text_with_escapes
from sockservices.settings import setting


class Hello(Protocol):
    """One connection, which is greeted."""

    def __init__(self, message: bytes) -> None:
        self._message = message

    def connectionMade(self) -> None:
        """Greet the peer, and close the connection."""
        assert self.transport is not None
        self.transport.write(self._message)
        self.transport.loseConnection()


@attrs.define(eq=False, slots=False)
class HelloFactory(ServerFactory):
    """A factory whose protocols all send the same greeting."""

    message: str = setting(
        default="Hello, world!\n",
        converter=text_with_escapes,
        help="Send this text; \\n stands for a newline.",
    )
    noisy = False

    def buildProtocol(self, addr: object) -> Hello:
        """See ``IProtocolFactory.buildProtocol``."""
        return Hello(self.message.encode("utf-8", "surrogateescape"))
