"""Eager Unix streams: what is particular to them."""

from __future__ import annotations

import os
import socket
import weakref
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import FileDescriptorOverrun
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.python import log
from zope.interface import implementer

from sockservices.transports import EagerReactor, EagerStreams
from tests.transports.lockstep import is_readable
from tests.transports.reactors import started, turn_until


class Connected:
    """A protocol of an eager Unix connection, and the plain socket at the other end."""

    def __init__(self, reactor: Any, protocol: Protocol | None = None) -> None:
        self.reactor = reactor
        self.protocol = protocol or Protocol()
        here, self.peer = socket.socketpair(socket.AF_UNIX)
        here.setblocking(False)
        factory = Factory.forProtocol(lambda: self.protocol)
        streams = reactor if isinstance(reactor, EagerReactor) else EagerStreams(reactor)
        with here:
            streams.adoptStreamConnection(here.fileno(), socket.AF_UNIX, factory)
        self.transport: Any = self.protocol.transport

    def hand_over(self, later: Protocol) -> None:
        later.makeConnection(self.transport)
        self.transport.protocol = later

    def receive(self) -> tuple[bytes, list[int]]:
        turn_until(self.reactor, lambda: is_readable(self.peer))
        data, descriptors, _flags, _address = socket.recv_fds(self.peer, 100, 10)
        return data, descriptors


class Echo(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


@pytest.fixture(params=[EPollReactor, EagerReactor])
def reactor(request: Any) -> Any:
    with started(request.param) as made:
        yield made


@pytest.mark.parametrize("first", ["write", "descriptor"])
def test_a_descriptor_travels_with_bytes_of_the_same_turn(
    reactor: Any, first: str, tmp_path: Path
) -> None:
    connected = Connected(reactor)
    path = tmp_path / "sent"
    path.write_bytes(b"content")
    with path.open("rb") as file, connected.peer:
        if first == "write":
            connected.transport.write(b"ab")
            connected.transport.sendFileDescriptor(file.fileno())
        else:
            connected.transport.sendFileDescriptor(file.fileno())
            connected.transport.write(b"ab")
        data, descriptors = connected.receive()
        # The descriptor takes one byte along; the kernel ends a read there.
        rest = b"" if data == b"ab" else connected.receive()[0]
    assert data + rest == b"ab"
    (received,) = descriptors
    with os.fdopen(received, "rb") as file:
        assert file.read() == b"content"


def test_an_answer_is_sent_when_data_received_returns(reactor: Any) -> None:
    early: list[bool] = []

    class Answering(Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.write(data)
            self.transport.write(b" two")
            early.append(is_readable(connected.peer))

    connected = Connected(reactor, Answering())
    with connected.peer:
        connected.peer.send(b"one")
        turn_until(reactor, lambda: early)
        assert early == [False]
        assert is_readable(connected.peer)
        assert connected.transport not in reactor.getWriters()
        assert connected.receive()[0] == b"one two"


def test_at_another_time_it_is_sent_in_the_next_turn(reactor: Any) -> None:
    connected = Connected(reactor)
    with connected.peer:
        connected.transport.write(b"later")
        assert not is_readable(connected.peer)
        assert connected.receive()[0] == b"later"


@implementer(IFileDescriptorReceiver)
class Taking(Protocol):
    """Answers each read with how many file descriptors came before it."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def fileDescriptorReceived(self, descriptor: int) -> None:  # noqa: N802 - Twisted's name
        self.taken.append(descriptor)

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"%d for " % len(self.taken))
        self.transport.write(data)


def test_one_that_takes_descriptors_gets_them_before_the_data_and_answers_at_once(
    reactor: Any, tmp_path: Path
) -> None:
    protocol = Taking()
    connected = Connected(reactor, protocol)
    (tmp_path / "sent").write_bytes(b"content")
    with (tmp_path / "sent").open("rb") as file, connected.peer:
        socket.send_fds(connected.peer, [b"some"], [file.fileno()])
        turn_until(reactor, lambda: protocol.taken)
        assert is_readable(connected.peer)
        assert connected.receive() == (b"1 for some", [])
        assert connected.transport.bytes_in == 4
        connected.peer.send(b"more")
        assert connected.receive() == (b"1 for more", [])
    with os.fdopen(protocol.taken[0], "rb") as taken:
        assert taken.read() == b"content"


def test_of_one_that_takes_none_they_are_closed(reactor: Any) -> None:
    class Silent(Protocol):
        got = b""

        def dataReceived(self, data: bytes) -> None:
            self.got += data

    protocol = Silent()
    connected = Connected(reactor, protocol)
    said: list[Any] = []
    log.addObserver(said.append)
    with connected.peer:
        for count in (1, 2):
            read_end, write_end = os.pipe()
            socket.send_fds(connected.peer, [b"x"], [write_end])
            os.close(write_end)
            turn_until(reactor, lambda count=count: len(protocol.got) == count)  # type: ignore[misc]
            with os.fdopen(read_end, "rb") as reading:
                assert reading.read() == b""  # nobody can write any more
    log.removeObserver(said.append)
    warnings = [str(event.get("format")) for event in said]
    assert sum("closing file descriptor received" in each for each in warnings) == 1


@pytest.mark.parametrize("first", ["write", "descriptor"])
def test_a_descriptor_that_is_passed_while_data_is_received_travels_with_the_answer(
    reactor: Any, first: str
) -> None:
    read_end, write_end = os.pipe()

    class Passing(Protocol):
        def dataReceived(self, data: bytes) -> None:
            transport: Any = self.transport
            if first == "write":
                transport.write(data)
            transport.sendFileDescriptor(write_end)
            if first == "descriptor":
                transport.write(data)

    connected = Connected(reactor, Passing())
    with connected.peer, os.fdopen(read_end, "rb") as reading:
        connected.peer.send(b"x")
        data, [received] = connected.receive()
        os.close(write_end)
        with os.fdopen(received, "wb") as writing:
            writing.write(b"through")
        assert (data, reading.read()) == (b"x", b"through")


@pytest.mark.parametrize("sizes", [(40_000, 40_000), (20_000,) * 5])
def test_a_descriptor_travels_with_what_was_written_before_it_however_much(
    reactor: Any, sizes: tuple[int, ...]
) -> None:
    class Passing(Echo):
        def dataReceived(self, data: bytes) -> None:
            transport: Any = self.transport
            for size in sizes:
                transport.write(bytes(size))
            transport.sendFileDescriptor(connected.peer.fileno())

    connected = Connected(reactor, Echo())
    with connected.peer:
        connected.peer.send(b"x")
        assert connected.receive() == (b"x", [])
        later = Passing()
        connected.hand_over(later)
        for _ in range(2):  # the first read of each protocol is Twisted's
            connected.peer.send(b"x")
            _, [received] = connected.receive()
            os.close(received)
            got = 1
            while got < sum(sizes):
                turn_until(reactor, lambda: is_readable(connected.peer))
                got += len(connected.peer.recv(1 << 20))
            assert got == sum(sizes)
        assert connected.transport.connected


def test_a_protocol_that_takes_over_after_much_data_gets_the_descriptors(reactor: Any) -> None:
    later = Taking()

    class Upgrading(Protocol):
        got = 0

        def dataReceived(self, data: bytes) -> None:
            self.got += len(data)
            if data.endswith(b"upgrade"):
                connected.hand_over(later)

    first = Upgrading()
    connected = Connected(reactor, first)
    with connected.peer:
        connected.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        connected.peer.send(b"a")
        turn_until(reactor, lambda: first.got)
        connected.peer.sendall(bytes(1 << 16))
        connected.peer.sendall(bytes((1 << 16) - 7) + b"upgrade")
        socket.send_fds(connected.peer, [b"some"], [connected.peer.fileno()])
        assert connected.receive() == (b"1 for some", [])
        os.close(later.taken[0])


def test_descriptors_that_could_not_be_sent_are_told(reactor: Any) -> None:
    ended: list[Any] = []

    class Ending(Echo):
        def connectionLost(self, reason: Any = None) -> None:
            ended.append(reason.type)

    connected = Connected(reactor, Ending())
    with connected.peer:
        connected.peer.send(b"x")
        assert connected.receive() == (b"x", [])
        connected.transport.sendFileDescriptor(connected.peer.fileno())
        connected.transport.loseConnection()  # there are no bytes to send it with
        turn_until(reactor, lambda: ended)
    assert ended == [FileDescriptorOverrun]


def test_when_a_descriptor_is_gone_answers_are_sent_at_once_again(reactor: Any) -> None:
    connected = Connected(reactor, Echo())
    with connected.peer:
        connected.transport.sendFileDescriptor(connected.peer.fileno())
        connected.transport.write(b"w")
        data, [received] = connected.receive()
        os.close(received)
        assert data == b"w"
        connected.peer.send(b"x")
        turn_until(reactor, lambda: connected.transport.bytes_in)
        assert is_readable(connected.peer)


def test_a_protocol_that_takes_over_is_asked_whether_it_takes_descriptors(reactor: Any) -> None:
    connected = Connected(reactor, Echo())
    with connected.peer:
        connected.peer.send(b"first")
        assert connected.receive() == (b"first", [])
        later = Taking()
        connected.hand_over(later)
        socket.send_fds(connected.peer, [b"some"], [connected.peer.fileno()])
        assert connected.receive() == (b"1 for some", [])
        os.close(later.taken[0])


def test_when_it_has_ended_it_holds_no_protocol(reactor: Any) -> None:
    connected = Connected(reactor, Echo())
    with connected.peer:
        connected.peer.send(b"x")
        assert connected.receive() == (b"x", [])
    turn_until(reactor, lambda: not connected.transport.connected)
    protocol = weakref.ref(connected.protocol)
    del connected.protocol
    assert protocol() is None


@pytest.mark.parametrize("before", [b"", b"some"])
def test_a_close_in_a_call_later_comes_in_its_turn(reactor: Any, before: bytes) -> None:
    order: list[str] = []

    class Telling(Protocol):
        def connectionLost(self, reason: object = None) -> None:
            order.append("lost")

    connected = Connected(reactor, Telling())

    def close() -> None:
        connected.transport.write(before)
        connected.transport.loseConnection()
        reactor.callLater(0, order.append, "later")

    reactor.callLater(0, close)
    with connected.peer:
        turn_until(reactor, lambda: len(order) == 2)
    assert order == ["lost", "later"]


def test_a_half_close_after_a_write_keeps_the_connection(reactor: Any) -> None:
    received: list[bytes] = []

    class Reading(Protocol):
        def dataReceived(self, data: bytes) -> None:
            received.append(data)

    connected = Connected(reactor, Reading())

    def half_close() -> None:
        connected.transport.write(b"last")
        connected.transport.loseWriteConnection()

    reactor.callLater(0, half_close)
    with connected.peer:
        assert connected.receive()[0] == b"last"
        assert connected.receive()[0] == b""
        for _ in range(3):
            reactor.iterate(0)
        connected.peer.send(b"answer")
        turn_until(reactor, lambda: received or connected.transport.disconnected)
    assert received == [b"answer"]


def test_what_cannot_be_sent_ends_the_connection(reactor: Any) -> None:
    """A descriptor that is none: Twisted logs the error and closes."""
    lost: list[str] = []

    class Telling(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            lost.append(reason.type.__name__)

    errors: list[Any] = []
    log.addObserver(errors.append)
    try:
        connected = Connected(reactor, Telling())
        connected.transport.write(b"x")
        connected.transport.sendFileDescriptor("none")
        with connected.peer:
            turn_until(reactor, lambda: lost or any(event["isError"] for event in errors))
            reactor.iterate(0)
    finally:
        log.removeObserver(errors.append)
    assert lost == ["error"]  # struct.error


def test_a_connection_that_is_lost_sends_nothing(reactor: Any) -> None:
    connected = Connected(reactor)
    connected.transport.write(b"x")
    connected.transport.abortConnection()
    with connected.peer:
        data, _none = connected.receive()
    assert data == b""


def test_a_large_write_waits_for_its_reader(reactor: Any) -> None:
    connected = Connected(reactor)
    sent = os.urandom(1 << 20)
    connected.transport.write(sent)
    got = b""
    with connected.peer:
        turn_until(reactor, lambda: connected.transport in reactor.getWriters())
        while len(got) < len(sent):
            turn_until(reactor, lambda: is_readable(connected.peer))
            got += connected.peer.recv(1 << 20)
        turn_until(reactor, lambda: connected.transport not in reactor.getWriters())
    assert got == sent
