"""Hello: greets each connection and closes it. The smallest service, to copy from."""

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
        """Greet and close."""
        assert self.transport is not None
        self.transport.write(self._message)
        self.transport.loseConnection()


@attrs.define(eq=False, slots=False)
class HelloFactory(ServerFactory):
    """Greets every connection alike."""

    message: str = setting(
        default="Hello, world!\n",
        converter=text_with_escapes,
        help="What to send; \\n stands for a new line.",
    )
    noisy = False

    def buildProtocol(self, addr: object) -> Hello:
        """See ``IProtocolFactory.buildProtocol``."""
        return Hello(self.message.encode("utf-8", "surrogateescape"))
