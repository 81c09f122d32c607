"""@@title: answers each line with the line in capitals."""

from __future__ import annotations

from typing import Any

import attrs
from sockservices import setting
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver


class @@{title}Protocol(LineOnlyReceiver):
    """One connection."""

    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = 65536  # bytes in a line; a longer line closes the connection

    def __init__(self, suffix: bytes) -> None:
        self._suffix = suffix

    def connectionMade(self) -> None:
        # Stop reading from a peer that does not read its answers.
        self.transport.registerProducer(self.transport, True)

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line.upper() + self._suffix)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection()


@attrs.define(eq=False, slots=False)
class @@{title}Factory(Factory):
    """The factory, which builds a protocol for each connection. Its fields are command options."""

    suffix: str = setting(default="", help="Append this to each line.")
    noisy = False

    def buildProtocol(self, addr: object) -> @@{title}Protocol:
        return @@{title}Protocol(self.suffix.encode())
