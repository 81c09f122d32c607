"""Small real things for the tests: a reactor turned by hand, a source, a log, a pipe."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet import reactor as _reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher

from sockservices import sink as sink_room
from sockservices.connections.ledger import Connection, Ledger
from sockservices.connections.parts import Context
from sockservices.host.host import SocketService
from sockservices.output import Output

reactor: Any = _reactor
P = ParamSpec("P")
T = TypeVar("T")


class ManualReactor(Clock):
    """Delayed calls on a clock; remembers who wants to read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()

    def addReader(self, reader: Any) -> None:  # noqa: N802 - as IReactorFDSet calls it
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:  # noqa: N802 - as IReactorFDSet calls it
        self.readers.discard(reader)

    def addWriter(self, writer: Any) -> None:  # noqa: N802 - as IReactorFDSet calls it
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:  # noqa: N802 - as IReactorFDSet calls it
        self.writers.discard(writer)


class SlowPeer(FileDescriptor):
    """Twisted's own write buffer, in front of a peer that reads as much as a test lets it."""

    def __init__(self, reactor: ManualReactor) -> None:
        super().__init__(reactor)  # type: ignore[arg-type]
        self.manual = reactor
        self.connected = 1
        self.has_read = b""
        self.reads = 0
        self.startReading()  # type: ignore[no-untyped-call]

    @property
    def is_read(self) -> bool:
        """Whether what the peer sends is read."""
        return self in self.manual.readers

    def read_by_peer(self, size: int) -> object:
        """Let the peer read; returns what the reactor would be told."""
        self.reads = size
        return cast(object, self.doWrite())  # type: ignore[no-untyped-call]

    def writeSomeData(self, data: bytes) -> int:  # noqa: N802 - as FileDescriptor calls it
        part = bytes(data[: self.reads])
        self.has_read += part
        self.reads -= len(part)
        return len(part)

    def getPeer(self) -> IPv4Address:  # noqa: N802 - as ITransport calls it
        return IPv4Address("TCP", "127.0.0.1", 40000)


class Heard(Protocol):
    """A client: what it has heard, and all of it when its peer closes."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.whole: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        self.whole.callback(self.data)


class Source:
    """What a record comes from; remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")


@contextmanager
def logged() -> Iterator[list[LogEvent]]:
    """Collect the events that are logged meanwhile."""
    events: list[LogEvent] = []
    observer = cast(ILogObserver, events.append)
    globalLogPublisher.addObserver(observer)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(observer)


@contextmanager
def output_to(path: Path, on_failure: Callable[[str], None] = pytest.fail) -> Iterator[Output]:
    """Open an output, and close it at the end."""
    output = Output(str(path), on_failure)
    try:
        yield output
    finally:
        close_output(output)


def close_output(output: Output) -> None:
    """Give the descriptors of an output back: in a process it is open to the end."""
    sink = output._get_sink()
    if sink in sink_room._stalled:  # at the end of the process it would be written
        sink_room._stalled.remove(sink)
        sink._queue.clear()
        output._records = 0
        reactor.removeWriter(sink)
    sink_room._opened.discard(sink)
    sink._close()


@contextmanager
def pipe_at(path: Path) -> Iterator[int]:
    """Make a pipe with a name; yields the descriptor of its reading end, which never blocks."""
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield reading
    finally:
        os.close(reading)


def read_pipe(fd: int) -> bytes:
    """Read what a pipe holds now."""
    read = b""
    while True:
        try:
            part = os.read(fd, 1 << 16)
        except BlockingIOError:
            return read
        if not part:
            return read
        read += part


def factory_of(service: SocketService) -> Any:
    """Return the stream factory that a service was given."""
    return service._factory


def connected(protocol: T, transport: object) -> T:
    """Connect a protocol to a transport, and return it."""
    cast(Any, protocol).makeConnection(transport)
    return protocol


def result_of(deferred: Deferred[T]) -> list[T]:
    """Return what a Deferred has fired with, or nothing; what it failed with is raised."""
    results: list[T] = []
    deferred.addCallback(results.append)
    failures: list[Any] = []
    deferred.addErrback(failures.append)
    if failures:
        failures[0].raiseException()
    return results


def with_reactor(test: Callable[P, Any]) -> Callable[P, None]:
    """Run a test that is a coroutine under the reactor."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> Any:
        return pytest_twisted.ensureDeferred(test)(*args, **kwargs)

    return run


async def until(condition: Callable[[], object]) -> None:
    """Let the reactor run until this holds."""
    for _ in range(30_000):
        if condition():
            return
        await deferLater(reactor, 0.001)
    raise AssertionError("it does not come to hold")


def context(ledger: Ledger, reactor: Any = None) -> Context:
    """Return where a part runs that is tested alone."""

    def nothing(_reason: str) -> None: ...

    return Context("test", ledger, reactor or Clock(), Logger("test"), nothing, nothing)


def opened(ledger: Ledger, transport: Any, protocol: Any) -> Connection:
    """Enter a connection that a service has got."""
    connection = ledger.enter("tcp:7", transport)
    ledger.open(transport, protocol)
    return connection
