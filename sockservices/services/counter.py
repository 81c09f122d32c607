"""Connection counter: sends each connection its number, then closes it."""

from __future__ import annotations

import attrs
from twisted.internet.protocol import Protocol, ServerFactory

from sockservices.converters import text_with_escapes
from sockservices.settings import setting


class Counted(Protocol):
    """One connection, which is sent its number."""

    def __init__(self, greeting: bytes) -> None:
        self._greeting = greeting

    def connectionMade(self) -> None:
        """Greet the peer, and close the connection."""
        assert self.transport is not None
        self.transport.write(self._greeting)
        self.transport.loseConnection()


@attrs.define(eq=False, slots=False)
class CounterFactory(ServerFactory):
    """A factory that counts the connections of all its listeners together, from 1."""

    greeting: str = setting(
        default="Connection {}!\n",
        converter=text_with_escapes,
        help="Send this text; {} stands for the number, \\n for a newline.",
    )
    count: int = attrs.field(init=False, default=0)
    noisy = False

    def buildProtocol(self, addr: object) -> Counted:
        """Count the connection. See ``IProtocolFactory.buildProtocol``."""
        self.count += 1
        greeting = self.greeting.replace("{}", str(self.count))
        return Counted(greeting.encode("utf-8", "surrogateescape"))
