"""A protocol that does what a script says and records what it is told."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IPullProducer,
    IPushProducer,
)
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer

from tests.transports.scripts import Operation, Operations, Script

# What is written is cut from this, so that a byte that is lost, doubled or moved shows.
_STREAM = random.Random(1).randbytes(1 << 23)

BULK = 30 * 1024
"""Less than Twisted sends in one turn, and so little unread that a kernel calls a socket writable.

Linux does not call a Unix socket writable with a quarter of its buffer in use, but takes more.
"""


class ScriptedError(Exception):
    """Raised where the script says so."""


class Record:
    """What became of a connection."""

    def __init__(self) -> None:
        # In order: (kind, details); what was received is one entry until another kind comes.
        self.events: list[tuple[Any, ...]] = []
        # Calls of producers: (number, "pause" | "resume").
        self.producers: list[tuple[int, str]] = []
        # The most that a push producer could write before it was told to pause, less its last.
        self.unpaused = 0
        # How many events there were when more was first written than the peer had read by BULK.
        self.bulk: int | None = None
        # Whether the connection was ended while something was still to be sent.
        self.cut = False
        # Errors and messages: (what, the prefix).
        self.logs: list[tuple[str, str]] = []
        # Whether anything was written when the peer had closed.
        self.into_nothing = False
        self.changes = 0

    def add(self, *event: Any) -> None:
        self.changes += 1
        if event[0] == "data" and self.events and self.events[-1][0] == "data":
            event = ("data", self.events.pop()[1] + event[1])
        self.events.append(event)

    def produce(self, number: int, call: str) -> None:
        self.changes += 1
        self.producers.append((number, call))


class ScriptedProtocol(Protocol):
    def __init__(self, script: Script, record: Record, reactor: Any) -> None:
        self.script = script
        self.record = record
        self.reactor = reactor
        # How many bytes the peer has read.
        self.peer_got: Callable[[], int] = lambda: 0
        self.taken = 0
        self.received = 0
        # Written since the peer and we were last at rest.
        self.written = 0
        # (how much is received by then, what to do then)
        self.due: list[tuple[int, Operations]] = []
        self.lost = False
        self.peer_closed = False
        self.read_lost = False
        self.producers = 0
        self.is_made = False
        if script.half_closeable:
            directlyProvides(self, IHalfCloseableProtocol)

    def connectionMade(self) -> None:
        self.is_made = True
        self.record.add("made")
        self.do(self.script.made)

    def dataReceived(self, data: bytes) -> None:
        self.record.add("data", data)
        self.received += len(data)
        while self.due and self.due[0][0] <= self.received:
            self.do(self.due.pop(0)[1])

    def readConnectionLost(self) -> None:
        self.read_lost = True
        self.record.add("read lost")
        self.do(self.script.read_lost)

    def writeConnectionLost(self) -> None:
        self.record.add("write lost")
        self.do(self.script.write_lost)

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        self.lost = True
        self.record.add("lost", type(reason.value).__name__)
        self.do(self.script.lost)

    def do(self, operations: Operations) -> None:
        for operation in operations:
            self.do_one(operation)

    def do_one(self, operation: Operation) -> None:
        name, *arguments = operation
        if name in ("raise", "abort"):
            self.note_cut()
        if name == "raise":
            # Twisted's own is an exception like any other when a protocol raises it.
            raise {"ConnectionDone": ConnectionDone}.get(arguments[0], ScriptedError)
        try:
            getattr(self, f"op_{name}")(*arguments)
        except (ScriptedError, ConnectionDone):
            raise
        except Exception as error:
            self.record.add("refused", name, type(error).__name__)

    def note_cut(self) -> None:
        """Note that the connection is being ended, with what is written and not yet sent."""
        if not self.lost and (self.written or self.transport in self.reactor.getWriters()):
            self.record.cut = True

    def take(self, size: int) -> bytes:
        begin, self.taken = self.taken, self.taken + size
        self.written += size
        if size and self.peer_closed and not self.lost:
            self.record.into_nothing = True
        if self.taken - self.peer_got() > BULK and self.record.bulk is None:
            self.record.bulk = len(self.record.events)
        return _STREAM[begin : self.taken]

    def op_write(self, size: int) -> None:
        self.wire.write(self.take(size))

    def op_sequence(self, sizes: tuple[int, ...]) -> None:
        self.wire.writeSequence([self.take(size) for size in sizes])

    def op_pause(self) -> None:
        self.wire.pauseProducing()

    def op_resume(self) -> None:
        # With nothing left to read, Twisted would tell of the end again in every turn.
        if not self.read_lost:
            self.wire.resumeProducing()

    def op_lose(self) -> None:
        self.wire.loseConnection()

    def op_lose_write(self) -> None:
        self.wire.loseWriteConnection()

    def op_abort(self) -> None:
        self.wire.abortConnection()

    def op_unregister(self) -> None:
        self.wire.unregisterProducer()

    def op_log(self) -> None:
        log.msg("scripted")

    def op_later(self, operations: Operations) -> None:
        def run() -> None:
            self.record.add("later", operations)
            self.do(operations)

        self.reactor.callLater(0, run)

    def op_push(self, chunk: int, times: int, unregister: bool, fails: bool) -> None:
        self.producers += 1
        producer = PushProducer(self, self.producers, chunk, times, unregister, fails)
        self.wire.registerProducer(producer, True)
        producer.produce()

    def op_pull(self, chunk: int, times: int, unregister: bool, fails: bool) -> None:
        self.producers += 1
        producer = PullProducer(self, self.producers, chunk, times, unregister, fails)
        self.wire.registerProducer(producer, False)

    @property
    def wire(self) -> Any:
        return self.transport


class Producer:
    def __init__(
        self,
        protocol: ScriptedProtocol,
        number: int,
        chunk: int,
        times: int,
        unregister: bool,
        fails: bool,
    ) -> None:
        self.protocol = protocol
        self.number = number
        self.chunk = chunk
        self.times = times
        self.unregister = unregister
        self.fails = fails

    def piece(self) -> None:
        self.times -= 1
        self.protocol.op_write(self.chunk)

    def end(self) -> None:
        if self.fails:
            self.fails = False
            self.protocol.note_cut()
            raise ScriptedError
        if self.unregister and self.protocol.wire.producer is self:
            self.protocol.wire.unregisterProducer()

    def stopProducing(self) -> None:
        self.times = 0
        self.fails = False
        self.protocol.record.add("stop", self.number)


@implementer(IPullProducer)
class PullProducer(Producer):
    def resumeProducing(self) -> None:
        self.protocol.record.produce(self.number, "resume")
        if self.times:
            self.piece()
        else:
            self.end()


@implementer(IPushProducer)
class PushProducer(Producer):
    paused = False

    def produce(self) -> None:
        written = 0
        while self.times and not self.paused:
            # That it has written so much was no reason to pause it.
            self.protocol.record.unpaused = max(self.protocol.record.unpaused, written)
            self.piece()
            written += self.chunk
        if not self.times:
            self.end()

    def pauseProducing(self) -> None:
        self.protocol.record.produce(self.number, "pause")
        self.paused = True

    def resumeProducing(self) -> None:
        self.protocol.record.produce(self.number, "resume")
        self.paused = False
        self.produce()


class ScriptedFactory(ClientFactory):
    """Builds the one protocol that it is given."""

    noisy = False

    def __init__(self, build: Callable[[], ScriptedProtocol]) -> None:
        self.build = build

    def buildProtocol(self, addr: Any) -> ScriptedProtocol:
        return self.build()
