"""Eager TCP: what is particular to it."""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol

from sockservices.eager import EagerReactor, EagerStreams
from tests.eager.lockstep import is_readable
from tests.eager.reactors import started, turn_until


@pytest.fixture(params=[EPollReactor, EagerReactor])
def reactor(request: Any) -> Any:
    with started(request.param) as made:
        yield made


class Pair:
    """A protocol of an eager TCP connection, and the plain socket at the other end."""

    def __init__(self, reactor: Any, protocol: Protocol | None = None) -> None:
        self.reactor = reactor
        self.protocol = protocol or Protocol()
        factory = Factory.forProtocol(lambda: self.protocol)
        streams = reactor if isinstance(reactor, EagerReactor) else EagerStreams(reactor)
        port: Any = streams.listenTCP(0, factory, interface="127.0.0.1")
        self.peer = socket.create_connection(("127.0.0.1", port.getHost().port))
        turn_until(reactor, lambda: self.protocol.connected)
        transport: Any = self.protocol.transport
        self.transport = transport
        # Found writable, it is no longer new.
        transport.startWriting()
        for _ in range(2):
            reactor.iterate(0)
        port.stopListening()


class Counting:
    """A producer that does nothing but count."""

    resumed = paused = stopped = 0

    def resumeProducing(self) -> None:
        self.resumed += 1

    def pauseProducing(self) -> None:
        self.paused += 1

    def stopProducing(self) -> None:
        self.stopped += 1


def test_a_write_is_there_when_it_returns(reactor: Any) -> None:
    pair = Pair(reactor)
    with pair.peer:
        pair.transport.write(b"one")
        pair.transport.writeSequence([b" two", b" three"])
        # No turn was run. With a time-out, for a transport that is not eager.
        pair.peer.settimeout(5)
        assert pair.peer.recv(3) == b"one"
        assert pair.peer.recv(100) == b" two three"


@pytest.mark.parametrize("wrong", ["text", bytearray(b"x"), None])
def test_what_is_not_bytes_is_refused(reactor: Any, wrong: Any) -> None:
    pair = Pair(reactor)
    with pair.peer:
        with pytest.raises(TypeError, match="Data must"):
            pair.transport.write(wrong)
        with pytest.raises(TypeError):
            pair.transport.writeSequence([b"fine", wrong])
        pair.transport.write(b"x")
        assert pair.peer.recv(10) == b"x"


def test_order_holds_when_the_kernel_is_full(reactor: Any) -> None:
    pair = Pair(reactor)
    sent = os.urandom(1 << 23)
    with pair.peer:
        for begin in range(0, len(sent), 1 << 18):
            pair.transport.write(sent[begin : begin + (1 << 18)])
        assert pair.transport in reactor.getWriters()
        got = bytearray()
        while len(got) < len(sent):
            turn_until(reactor, lambda: is_readable(pair.peer))
            got += pair.peer.recv(1 << 20)
        turn_until(reactor, lambda: pair.transport not in reactor.getWriters())
    assert got == sent


@pytest.mark.parametrize("close", ["loseConnection", "loseWriteConnection"])
def test_a_close_that_waits_for_a_producer_comes_after_the_next_write(
    reactor: Any, close: str
) -> None:
    """Twisted resumes a producer first and looks no further; the next write makes it look again."""
    pair = Pair(reactor)
    producer = Counting()
    with pair.peer:
        pair.transport.bufferSize = 1000  # so much any kernel takes
        pair.transport.registerProducer(producer, True)
        pair.transport.write(bytes(1001))
        assert producer.paused == 1
        getattr(pair.transport, close)()
        turn_until(reactor, lambda: producer.resumed)
        pair.transport.write(b"last")
        pair.peer.setblocking(False)
        got = bytearray()

        def is_ended() -> bool:
            if is_readable(pair.peer):
                data = pair.peer.recv(1 << 20)
                got.extend(data)
                return not data
            return False

        turn_until(reactor, is_ended)
    assert got == bytes(1001) + b"last"


def test_a_producer_of_small_writes_is_paused_and_resumed(reactor: Any) -> None:
    pair = Pair(reactor)
    producer = Counting()
    with pair.peer:
        pair.transport.bufferSize = 1000  # so much any kernel takes
        pair.transport.registerProducer(producer, True)
        written = 0
        while not producer.paused and written < 1 << 20:
            pair.transport.write(bytes(100))
            written += 100
        assert written == 1100
        turn_until(reactor, lambda: producer.resumed)
    turn_until(reactor, lambda: producer.stopped)
    assert (producer.paused, producer.resumed, producer.stopped) == (1, 1, 1)


def test_a_read_is_not_changed_by_the_next(reactor: Any) -> None:
    pieces: list[bytes] = []

    class Keeping(Protocol):
        def dataReceived(self, data: bytes) -> None:
            pieces.append(data)

    pair = Pair(reactor, Keeping())
    sent = os.urandom(400_000)
    pair.transport.pauseProducing()
    with pair.peer:
        pair.peer.sendall(sent)
        pair.transport.resumeProducing()
        turn_until(reactor, lambda: sum(map(len, pieces)) == 400_000)
    assert b"".join(pieces) == sent


def test_after_a_start_of_tls_that_failed_it_goes_on_in_clear(reactor: Any) -> None:
    pair = Pair(reactor)
    with pair.peer:
        pair.transport.write(b"ready ")
        with suppress(Exception):  # what it is depends on the release
            pair.transport.startTLS(object())
        assert not pair.transport.TLS
        pair.transport.write(b"not available")
        pair.peer.settimeout(5)
        assert pair.peer.recv(100) == b"ready not available"


def test_a_close_after_an_answer_to_one_who_is_gone_is_a_clean_one() -> None:
    """The answer brings a reset, which Twisted, that sends later, never sees."""
    with started(EagerReactor) as reactor:
        _answer_one_who_is_gone(reactor)


def _answer_one_who_is_gone(reactor: Any) -> None:
    reasons: list[Any] = []

    class Answering(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(b"answer")  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]

        def connectionLost(self, reason: Any = None) -> None:
            reasons.append(reason.type.__name__)

    pair = Pair(reactor, Answering())
    pair.peer.sendall(b"question")
    pair.peer.close()
    turn_until(reactor, lambda: reasons)
    assert reasons == ["ConnectionDone"]


def test_what_a_new_owner_of_a_descriptor_writes_is_left_to_it(reactor: Any) -> None:
    """Closed while it is tried: its number may be another's, who watches it already."""
    read_end, write_end = os.pipe()
    owned: list[int] = []

    class Replacing(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(b"bye")  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]

        def connectionLost(self, reason: Any = None) -> None:
            owned.append(os.dup(write_end))
            reactor.addWriter(writer)

    class Writer(FileDescriptor):
        connected = 1

        def fileno(self) -> int:
            return owned[0]

        def doWrite(self) -> None:
            os.write(owned[0], b"precious")
            reactor.removeWriter(self)

    writer = Writer(reactor)
    streams = reactor if isinstance(reactor, EagerReactor) else EagerStreams(reactor)
    port: Any = streams.listenTCP(0, Factory.forProtocol(Replacing), interface="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port.getHost().port)):
        turn_until(reactor, lambda: select.select([read_end], [], [], 0)[0])
    assert os.read(read_end, 100) == b"precious"
    port.stopListening()
    for descriptor in (read_end, write_end, *owned):
        os.close(descriptor)
