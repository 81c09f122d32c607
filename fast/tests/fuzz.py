"""fuzz.py SECONDS [SEED]: whatever protocols do on accelerated streams, nothing breaks.

Run it on an accelerator that is built with AddressSanitizer. It ends with an error if a peer got
other bytes than were written for it, or if ended connections stay in memory.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import sockservices_fast
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogBeginner

from sockservices.transports import EagerReactor, EagerStreams
from tests.transports.reactors import started

CONNECTIONS = 8
RESET = struct.pack("ii", 1, 0)


class Unruly(Protocol):
    """Does something at random with whatever it receives."""

    transport: Any

    def __init__(self, fuzz: Fuzz) -> None:
        self._fuzz = fuzz
        self.written = bytearray()
        self.is_honest = True
        self.ends = 0

    def dataReceived(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        for _ in range(self._fuzz.random.choice((0, 1, 1, 1, 2, 4))):
            self._fuzz.act(self)

    def write(self, data: bytes) -> None:
        if self.ends == 0 and self.transport.connected:
            self.written += data
            self.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.ends += 1
        if self._fuzz.random.random() < 0.1:
            raise RuntimeError("at the end")

    # As a producer
    def pauseProducing(self) -> None:
        if self._fuzz.random.random() < 0.2:
            raise RuntimeError("paused")

    def resumeProducing(self) -> None:
        self.write(b"resumed")

    def stopProducing(self) -> None: ...


class Oddity:
    """A socket's wrapper."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


class Fuzz:
    """Connections of one reactor, and their peers."""

    def __init__(self, reactor: Any, seed: int) -> None:
        self.random = random.Random(seed)
        self.reactor = reactor
        self.streams = reactor if isinstance(reactor, EagerReactor) else EagerStreams(reactor)
        self.depth = 0
        self.done: Counter[str] = Counter()
        self.pairs: list[tuple[Unruly, socket.socket, bytearray]] = []

    def connect(self) -> None:
        protocol = Unruly(self)
        kind = self.random.choice((socket.AF_INET, socket.AF_UNIX))
        if kind == socket.AF_UNIX:
            here, peer = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                peer = socket.create_connection(listening.getsockname())
                here = listening.accept()[0]
        if self.random.random() < 0.3:
            here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        peer.setblocking(False)
        with here:
            factory = Factory.forProtocol(lambda: protocol)
            self.streams.adoptStreamConnection(here.fileno(), kind, factory)
        self.pairs.append((protocol, peer, bytearray()))

    def act(self, protocol: Unruly) -> None:
        action = self.random.choice(ACTIONS)
        self.done[action.__name__] += 1
        action(self, protocol, protocol.transport)

    def turn(self) -> None:
        self.depth += 1
        try:
            self.reactor.iterate(0)
        finally:
            self.depth -= 1

    def step(self) -> None:
        while len(self.pairs) < CONNECTIONS:
            self.connect()
        at = self.random.randrange(len(self.pairs))
        protocol, peer, _got = self.pairs[at]
        deed = self.random.random()
        with contextlib.suppress(OSError):
            if deed < 0.6:
                peer.send(os.urandom(self.random.choice((1, 10, 10, 1000, 70_000))))
            elif deed < 0.62:
                peer.shutdown(socket.SHUT_WR)
            elif deed < 0.64:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                peer.close()
            elif deed < 0.7:
                with contextlib.suppress(Exception, SystemExit, GeneratorExit):
                    self.act(protocol)
        for each, its_peer, its_got in self.pairs:
            self.read(each, its_peer, its_got)
        self.turn()
        if peer.fileno() < 0 or (protocol.ends and self.random.random() < 0.5):
            peer.close()
            if protocol.transport.connected:
                protocol.transport.abortConnection() if hasattr(
                    protocol.transport, "abortConnection"
                ) else protocol.transport.loseConnection()
            self.pairs.pop(at)

    def read(self, protocol: Unruly, peer: socket.socket, got: bytearray) -> None:
        with contextlib.suppress(OSError):
            got += peer.recv(1 << 20)
        if protocol.is_honest:
            assert protocol.written.startswith(got), "a peer got other bytes than were written"
        if len(got) > 1 << 22 and peer.fileno() >= 0:
            peer.close()

    def end(self) -> None:
        for _protocol, peer, _got in self.pairs:
            peer.close()
        self.pairs.clear()
        self.reactor.disconnectAll()
        for _ in range(5):
            self.reactor.iterate(0)


Action = Callable[[Fuzz, Unruly, Any], object]


def write(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    protocol.write(os.urandom(fuzz.random.choice((0, 1, 64, 64, 64, 1500, 70_000, 500_000))))


def write_sequence(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    if transport.connected and not protocol.ends:
        protocol.written += b"abcd"
        transport.writeSequence([b"ab", b"", b"cd"])


def write_nonsense(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    with contextlib.suppress(TypeError, AttributeError):
        transport.write(fuzz.random.choice(("text", None, 7, object())))


def fail(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    if fuzz.random.random() < 0.2:
        raise fuzz.random.choice((ValueError, SystemExit, MemoryError, GeneratorExit))


def lose(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    protocol.is_honest = False
    if fuzz.random.random() < 0.3:
        transport.loseConnection()


def abort(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    if fuzz.random.random() < 0.2 and hasattr(transport, "abortConnection"):
        transport.abortConnection()


def turn(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    if fuzz.depth < 4:
        fuzz.turn()


def collect(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    if fuzz.random.random() < 0.05:
        gc.collect()


def resize(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    transport.bufferSize = fuzz.random.choice((1, 10, 1000, 1 << 16, 1 << 16, 1 << 17))


def register(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    if transport.connected:
        with contextlib.suppress(RuntimeError):
            if transport.producer is None:
                transport.registerProducer(protocol, True)
            else:
                transport.unregisterProducer()


def pause(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    transport.pauseProducing()
    fuzz.reactor.callLater(0, lambda: transport.connected and transport.resumeProducing())


def wrap_socket(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    if fuzz.random.random() < 0.1 and hasattr(transport, "socket"):
        transport.socket = Oddity(transport.socket)


def close_socket(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    protocol.is_honest = False
    if fuzz.random.random() < 0.05 and hasattr(transport, "socket"):
        transport.socket.close()


def replace_protocol(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    if fuzz.random.random() < 0.1 and hasattr(transport, "protocol"):
        transport.protocol = protocol
        protocol.dataReceived = protocol.dataReceived  # type: ignore[method-assign]


def break_attribute(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    """What nobody should do to private attributes: an error, or nothing."""
    if fuzz.random.random() > 0.02:
        return
    protocol.is_honest = False
    name = fuzz.random.choice(("protocol", "_held", "_was_full", "_is_simple", "_broken"))
    with contextlib.suppress(AttributeError):
        if fuzz.random.random() < 0.5:
            delattr(transport, name)
        else:
            setattr(transport, name, fuzz.random.choice((None, True, False, b"", b"x", 7)))


def change_number(fuzz: Fuzz, protocol: Unruly, transport: Any) -> None:
    with contextlib.suppress(TypeError, OverflowError, SystemError):
        setattr(transport, fuzz.random.choice(("bytes_in", "bytes_out")), 1 << 62)


ACTIONS: tuple[Action, ...] = (
    *(write, write, write, write, write_sequence, write_nonsense, fail, lose, abort, turn),
    *(collect, resize, register, pause, wrap_socket, close_socket, replace_protocol),
    *(break_attribute, change_number),
)


def run(seed: int, steps: int) -> Counter[str]:
    """Run one reactor for so many steps."""
    with started(EPollReactor if seed % 2 else EagerReactor) as reactor:
        fuzz = Fuzz(reactor, seed)
        try:
            for _ in range(steps):
                fuzz.step()
        except BaseException:
            print(f"seed {seed}", file=sys.stderr)
            raise
        fuzz.end()
    return fuzz.done


def living() -> int:
    gc.collect()
    return sum(isinstance(each, sockservices_fast.Stream) for each in gc.get_objects())


def main(seconds: float, seed: int) -> None:
    """Run one seed after the other."""
    done: Counter[str] = Counter()
    # The errors are wanted.
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    end, first = time.monotonic() + seconds, seed
    while time.monotonic() < end:
        done += run(seed, 300)
        seed += 1
    # Errors that Twisted keeps have frames that know a few.
    assert (left := living()) < 50, f"{left} ended connections stay"
    print(f"{seed - first} reactors, {sum(done.values())} deeds: {dict(done)}")
    assert len(done) == len({each.__name__ for each in ACTIONS}), "not every deed was done"


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
