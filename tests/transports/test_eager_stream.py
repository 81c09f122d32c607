"""Eager streams: when what is written leaves, and what else is particular to them."""

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
from twisted.internet.ssl import CertificateOptions

from sockservices.transports import EagerReactor, EagerStreams
from tests.transports.lockstep import is_readable
from tests.transports.reactors import asyncio_reactor, started, turn_until


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


class Recorded:
    """A socket that notes what is sent by it, call by call."""

    def __init__(self, transport: Any) -> None:
        self._socket = transport.socket
        self.sent: list[bytes] = []
        transport.socket = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def send(self, data: Any) -> int:
        self.sent.append(bytes(data))
        return int(self._socket.send(data))


# When what is written leaves


@pytest.mark.parametrize("how", ["write", "writeSequence"])
def test_a_write_is_there_when_it_returns(reactor: Any, how: str) -> None:
    pair = Pair(reactor)
    with pair.peer:
        getattr(pair.transport, how)(b"one" if how == "write" else [b"o", b"ne"])
        # No turn was run. With a time-out, for a transport that is not eager.
        pair.peer.settimeout(5)
        assert pair.peer.recv(3) == b"one"


def test_small_writes_after_the_first_of_a_turn_leave_together(reactor: Any) -> None:
    pair = Pair(reactor)
    recorded = Recorded(pair.transport)
    with pair.peer:
        for _ in range(3):
            for data in (b"1", b"2", b"3"):
                pair.transport.write(data)
            pair.transport.writeSequence([b"4", b"5"])
            assert recorded.sent == [b"1"]
            turn_until(reactor, lambda: len(recorded.sent) > 1)
            reactor.iterate(0)
            assert recorded.sent == [b"1", b"2345"]
            recorded.sent.clear()


def test_where_turns_are_not_known_no_write_waits() -> None:
    with asyncio_reactor() as reactor:
        pair = Pair(reactor)
        recorded = Recorded(pair.transport)
        with pair.peer:
            for data in (b"1", b"2", b"3"):
                pair.transport.write(data)
            assert recorded.sent == [b"1", b"2", b"3"]


def test_large_writes_do_not_wait_for_the_end_of_the_turn(reactor: Any) -> None:
    pair = Pair(reactor)
    recorded = Recorded(pair.transport)
    with pair.peer:
        for _ in range(3):
            pair.transport.write(bytes(2000))
        assert recorded.sent == [bytes(2000)] * 3


class Answering(Protocol):
    """Does what a test says when something arrives."""

    transport: Any
    done = 0

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def dataReceived(self, data: bytes) -> None:
        self._answer(self.transport, data)
        self.done += 1


def _answered(reactor: Any, answer: Any) -> tuple[Pair, list[bytes]]:
    """Return a connection that has answered twice, and what it has sent, call by call."""
    pair = Pair(reactor, Answering(answer))
    recorded = Recorded(pair.transport)
    for number in (1, 2):
        pair.peer.sendall(b"?")
        turn_until(reactor, lambda number=number: pair.protocol.done == number)  # type: ignore[attr-defined, misc]
    return pair, recorded.sent


def _first_of(reactor: Any, answer: Any) -> bytes:
    """Return what a peer finds when its question has been answered."""
    pair = Pair(reactor, Answering(answer))
    with pair.peer:
        pair.peer.sendall(b"?")
        turn_until(reactor, lambda: is_readable(pair.peer))
        return pair.peer.recv(10)


@pytest.mark.parametrize("pieces", [[b"1"], [b"1", b"2"], [b"1", b"", b"2", b"3"], [b"", b"1"]])
def test_an_answer_leaves_as_one(reactor: Any, pieces: list[bytes]) -> None:
    def answer(transport: Any, _data: bytes) -> None:
        for piece in pieces:
            transport.write(piece)

    pair, sent = _answered(reactor, answer)
    with pair.peer:
        assert sent == [b"".join(pieces)] * 2
        assert pair.transport not in reactor.getWriters()


def test_bytes_of_another_class_keep_their_place(reactor: Any) -> None:
    class Bytes(bytes): ...

    def answer(transport: Any, _data: bytes) -> None:
        for piece in (b"1", Bytes(b"2"), b"3", Bytes(b"4")):
            transport.write(piece)

    assert _first_of(reactor, answer) == b"1234"


def test_nothing_is_sent_for_an_answer_of_nothing(reactor: Any) -> None:
    pair, sent = _answered(reactor, lambda transport, _data: transport.write(b""))
    with pair.peer:
        assert sent == []


def test_an_answer_leaves_though_its_protocol_fails(reactor: Any) -> None:
    def answer(transport: Any, _data: bytes) -> None:
        transport.write(b"1")
        transport.write(b"2")
        raise RuntimeError("broken")

    assert _first_of(reactor, answer) == b"12"


def test_what_was_written_before_a_turn_in_the_middle_of_a_read_is_not_lost(reactor: Any) -> None:
    class Nesting(Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.write(data)
            if data == b"outer":
                pair.peer.send(b"inner")
                turn_until(reactor, lambda: is_readable(pair.transport.socket))
                reactor.iterate(0)
                self.transport.write(b"after")

    pair = Pair(reactor, Nesting())
    with pair.peer:
        pair.peer.send(b"outer")
        got = b""
        while len(got) < 15:
            turn_until(reactor, lambda: is_readable(pair.peer))
            got += pair.peer.recv(100)
        assert got == b"outerinnerafter"


def test_a_long_answer_is_not_kept_as_a_whole(reactor: Any) -> None:
    def answer(transport: Any, _data: bytes) -> None:
        for _ in range(9):
            transport.write(bytes(100))

    pair = Pair(reactor, Answering(answer))
    pair.transport.bufferSize = 250
    recorded = Recorded(pair.transport)
    with pair.peer:
        pair.peer.sendall(b"?")
        turn_until(reactor, lambda: pair.protocol.done)  # type: ignore[attr-defined]
        assert recorded.sent == [bytes(300)] * 3


def test_what_was_to_leave_at_the_end_of_the_turn_comes_before_an_answer(reactor: Any) -> None:
    pair = Pair(reactor, Answering(lambda transport, _data: transport.write(b"answer")))
    recorded = Recorded(pair.transport)
    with pair.peer:
        pair.peer.sendall(b"?")
        turn_until(reactor, lambda: is_readable(pair.transport.socket._socket))
        pair.transport.write(b"first ")
        pair.transport.write(b"second ")
        pair.transport.doRead()
        assert recorded.sent == [b"first ", b"second answer"]


def test_what_another_connection_is_told_leaves_in_that_turn(reactor: Any) -> None:
    told = Pair(reactor)
    recorded = Recorded(told.transport)

    def answer(_transport: Any, data: bytes) -> None:
        for each in data:
            told.transport.write(bytes([each]))

    telling = Pair(reactor, Answering(answer))
    with told.peer, telling.peer:
        telling.peer.sendall(b"12345")
        turn_until(reactor, lambda: len(recorded.sent) > 1)
        assert recorded.sent == [b"1", b"2345"]


@pytest.mark.parametrize("close", ["loseConnection", "loseWriteConnection"])
def test_an_answer_leaves_before_the_end_that_follows_it(reactor: Any, close: str) -> None:
    def answer(transport: Any, _data: bytes) -> None:
        transport.write(b"last")
        transport.write(b" words")
        getattr(transport, close)()

    pair = Pair(reactor, Answering(answer))
    with pair.peer:
        pair.peer.sendall(b"?")
        got = [b"?"]
        pair.peer.setblocking(False)

        def is_ended() -> bool:
            if is_readable(pair.peer):
                got.append(pair.peer.recv(100))
            return not got[-1]

        turn_until(reactor, is_ended)
        assert b"".join(got[1:]) == b"last words"


def test_an_answer_is_dropped_with_an_aborted_connection(reactor: Any) -> None:
    def answer(transport: Any, _data: bytes) -> None:
        transport.write(b"never")
        transport.abortConnection()
        transport.write(b"seen")

    with pytest.raises(ConnectionResetError):
        _first_of(reactor, answer)


def test_what_is_said_before_tls_begins_is_in_clear(reactor: Any) -> None:
    """As in SMTP and its like: the answer that it may begin, and its beginning, in one read."""

    def answer(transport: Any, _data: bytes) -> None:
        transport.write(b"220 ready")
        transport.startTLS(CertificateOptions(), normal=False)  # so that we speak first
        transport.write(b"secret")

    pair = Pair(reactor, Answering(answer))
    with pair.peer:
        pair.peer.sendall(b"?")
        turn_until(reactor, lambda: is_readable(pair.peer))
        for _ in range(10):
            reactor.iterate(0)
        said = pair.peer.recv(10_000)
        assert said.startswith(b"220 ready\x16\x03")  # and a ClientHello: RFC 8446
        assert b"secret" not in said


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


@pytest.mark.parametrize("in_an_answer", [False, True])
def test_a_pull_producer_is_never_paused(reactor: Any, in_an_answer: bool) -> None:
    class Pull:
        resumed = 0

        def resumeProducing(self) -> None:
            self.resumed += 1
            if self.resumed == 3:
                pair.transport.unregisterProducer()
            else:
                pair.transport.writeSequence([bytes(500)] * 3)

        def stopProducing(self) -> None: ...

    producer: Any = Pull()

    def register(transport: Any, _data: bytes) -> None:
        transport.write(b"first")
        transport.registerProducer(producer, False)

    pair = Pair(reactor, Answering(register))
    pair.transport.bufferSize = 1000
    with pair.peer:
        if in_an_answer:
            pair.peer.sendall(b"?")
        else:
            register(pair.transport, b"")
        got = bytearray()
        while len(got) < 3005:
            turn_until(reactor, lambda: is_readable(pair.peer))
            got += pair.peer.recv(10_000)
        assert got == b"first" + bytes(3000)
        turn_until(reactor, lambda: producer.resumed == 3)


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
        assert written == 1200  # the first has been sent at once
        turn_until(reactor, lambda: producer.resumed)
    turn_until(reactor, lambda: producer.stopped)
    assert (producer.paused, producer.resumed, producer.stopped) == (1, 1, 1)


def test_a_connection_has_no_more_attributes_than_can_share_their_names(reactor: Any) -> None:
    """With more than 30 each has a dictionary of its own in CPython, and takes twice the memory."""

    class Greeting(Answering):
        def connectionMade(self) -> None:
            self.transport.registerProducer(self.transport, True)
            self.transport.write(b"welcome")

    pair = Pair(reactor, Greeting(lambda transport, data: transport.write(data)))
    with pair.peer:
        at_first = list(vars(pair.transport))
        pair.peer.sendall(b"?")
        turn_until(reactor, lambda: pair.protocol.done)  # type: ignore[attr-defined]
        pair.transport.write(b"more")
        assert list(vars(pair.transport)) == at_first
        assert len(at_first) <= 30


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
        for _ in range(2):
            reactor.iterate(0)
        pair.peer.settimeout(5)
        assert pair.peer.recv(100) == b"ready not available"


def test_a_close_after_an_answer_to_one_who_is_gone_is_a_clean_one() -> None:
    """The answer brings a reset, which Twisted, that sends later, never sees."""
    with started(EagerReactor) as reactor:
        _answer_one_who_is_gone(reactor)


def _answer_one_who_is_gone(reactor: Any) -> None:
    reasons: list[Any] = []

    class Closing(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(b"answer")  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]

        def connectionLost(self, reason: Any = None) -> None:
            reasons.append(reason.type.__name__)

    pair = Pair(reactor, Closing())
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
