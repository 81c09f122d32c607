"""A chat with rooms: an example of shared state, and of peers that do not keep up.

Whoever joins a room receives what the others there say. The chat does not wait for a peer that does
not read: it counts the lines that the peer misses, and tells it when it reads again.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from sockservices import IDrainable, setting, whole_number

HELP = "/join ROOM, /who, /quit; anything else is said in your room"


@implementer(IPushProducer, IDrainable)
class Chatter(LineOnlyReceiver):
    """One connection, which is named by a number and is in one room at a time."""

    delimiter = b"\n"
    MAX_LENGTH = 4096  # bytes in a line; a longer line closes the connection

    transport: Any

    def __init__(self, factory: ChatFactory, number: int) -> None:
        self._factory = factory
        self.name = f"guest-{number}"
        self.room = ""
        self._reads = True
        self._missed = 0

    def connectionMade(self) -> None:
        """Register as a producer, to notice a peer that does not keep up, and greet the peer."""
        self.transport.registerProducer(self, True)
        self.tell(f"welcome, {self.name}: {HELP}")
        self._join("lobby")

    def lineReceived(self, line: bytes) -> None:
        """Run a command, or say the line in the room."""
        text = "".join(each for each in line.decode("utf-8", "replace") if each.isprintable())
        command, _space, rest = text.partition(" ")
        if command == "/join" and rest.strip():
            self._join(rest.strip()[: self._factory.longest_room])
        elif command == "/who":
            self.tell(", ".join(sorted(each.name for each in self._factory.rooms[self.room])))
        elif command == "/quit":
            self._leave("left")
            self._close()
        elif command.startswith("/"):
            self.tell(HELP)
        elif text:
            self._factory.say(self.room, f"{self.name}: {text}", but=self)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Close the connection."""
        self._close()

    def tell(self, text: str) -> None:
        """Send a line, or count it as missed if the peer does not keep up."""
        if self._reads:
            self.sendLine(text.encode())
        else:
            self._missed += 1

    def _join(self, room: str) -> None:
        if self.room:
            self._leave("left")
        self.room = room
        self._factory.rooms.setdefault(room, set()).add(self)
        self._factory.say(room, f"{self.name} joined {room}")

    def _leave(self, how: str) -> None:
        room, self.room = self.room, ""
        if not room:
            return
        there = self._factory.rooms[room]
        there.discard(self)
        if not there:
            del self._factory.rooms[room]
        self._factory.say(room, f"{self.name} {how}")

    def _close(self) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def connectionLost(self, reason: object = None) -> None:
        """Leave the room."""
        self._leave("left")

    def drain(self) -> None:
        """Say good-bye at shutdown. See ``IDrainable``."""
        self.tell("the chat closes: good-bye")
        self._close()

    # IPushProducer: the transport calls these as its peer stops and resumes reading.

    def pauseProducing(self) -> None:
        """Stop reading from a peer that does not keep up, and count the lines that it misses."""
        self._reads = False
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Tell the peer how many lines it missed, and read from it again."""
        self._reads = True
        missed, self._missed = self._missed, 0
        if missed:
            self.tell(f"you missed {missed} lines")
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Do nothing: ``connectionLost`` follows."""


@attrs.define(eq=False, slots=False)
class ChatFactory(Factory):
    """The factory, with the rooms that all connections share."""

    longest_room: int = setting(
        default=32,
        converter=whole_number(1, 1000),
        help="Truncate room names to this many characters.",
    )
    rooms: dict[str, set[Chatter]] = attrs.field(init=False, factory=dict)
    _count: int = attrs.field(init=False, default=0)
    noisy = False

    def buildProtocol(self, addr: object) -> Chatter:
        """See ``IProtocolFactory``."""
        self._count += 1
        return Chatter(self, self._count)

    def say(self, room: str, text: str, but: Chatter | None = None) -> None:
        """Send a line to everybody in a room."""
        for each in self.rooms.get(room, ()):
            if each is not but:
                each.tell(text)
