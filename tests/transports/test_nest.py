"""Eager connections on a reactor that knows nothing of them."""

from __future__ import annotations

import os
import queue
import socket
from typing import Any

import pytest
from twisted.internet._threadedselect import ThreadedSelectReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionFdescWentAway, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.python import log
from twisted.python.failure import Failure

from sockservices.transports import EagerStreams
from tests.transports.file_descriptors import no_descriptor_left
from tests.transports.lockstep import is_readable
from tests.transports.reactors import started, turn_until


class Telling(Protocol):
    """Tells how it ended."""

    transport: Any

    def __init__(self, ends: list[Any]) -> None:
        self._ends = ends

    def connectionLost(self, reason: Any = None) -> None:
        self._ends.append(reason.type)


def _factory(protocol: Protocol) -> Factory:
    return Factory.forProtocol(lambda: protocol)


class Connected:
    """Some connections of one reactor: the transports here, and the peers."""

    def __init__(self, reactor: Any, count: int = 1) -> None:
        self.reactor = reactor
        self.own = reactor.getReaders()
        self.ends: list[Any] = []
        self.transports: list[Any] = []
        self.peers: list[socket.socket] = []
        streams = EagerStreams(reactor)
        for _ in range(count):
            here, peer = socket.socketpair(socket.AF_UNIX)
            here.setblocking(False)
            protocol = Telling(self.ends)
            with here:
                streams.adoptStreamConnection(here.fileno(), socket.AF_UNIX, _factory(protocol))
            self.transports.append(protocol.transport)
            self.peers.append(peer)

    def received(self, peer: socket.socket) -> bytes:
        turn_until(self.reactor, lambda: is_readable(peer))
        return peer.recv(100)

    def close(self) -> None:
        for transport in self.transports:
            transport.connectionLost(Failure(ConnectionDone()))
        for peer in self.peers:
            peer.close()


@pytest.fixture(params=[EPollReactor, SelectReactor])
def reactor(request: Any) -> Any:
    with started(request.param) as made:
        yield made


@pytest.fixture
def connected(reactor: Any) -> Any:
    made = Connected(reactor, 3)
    yield made
    made.close()


def test_those_of_a_turn_write_and_end_in_the_next(connected: Connected) -> None:
    for transport in connected.transports:
        transport.write(b"last words")
        transport.loseConnection()
    assert connected.ends == []
    connected.reactor.iterate(0)
    assert connected.ends == [ConnectionDone] * 3
    assert connected.reactor.getWriters() == []
    for peer in connected.peers:
        assert connected.received(peer) == b"last words"
        assert connected.received(peer) == b""


def test_one_that_the_kernel_refuses_is_watched(connected: Connected) -> None:
    transport, peer = connected.transports[0], connected.peers[0]
    sent = b"x" * (1 << 20)
    transport.write(sent)
    turn_until(connected.reactor, lambda: connected.reactor.getWriters() == [transport])
    got = 0
    while got < len(sent):
        turn_until(connected.reactor, lambda: is_readable(peer))
        got += len(peer.recv(1 << 20))
    turn_until(connected.reactor, lambda: connected.reactor.getWriters() == [])


def test_a_call_that_was_due_before_the_end_comes_before_it(connected: Connected) -> None:
    transport = connected.transports[0]
    transport.loseConnection()
    connected.reactor.callLater(0, connected.ends.append, "call")
    turn_until(connected.reactor, lambda: len(connected.ends) == 2)
    assert connected.ends == ["call", ConnectionDone]


def test_a_reactor_that_stops_ends_those_that_wait(connected: Connected) -> None:
    for transport in connected.transports:
        transport.loseConnection()
    connected.reactor.disconnectAll()
    assert connected.ends == [ConnectionLost] * 3
    assert connected.reactor.getWriters() == []


def test_one_that_no_longer_wants_to_write_is_left_alone(connected: Connected) -> None:
    first, second, _third = connected.transports
    first.write(b"1")
    first.stopWriting()
    second.write(b"2")
    assert connected.received(connected.peers[1]) == b"2"
    assert not is_readable(connected.peers[0])


def test_one_whose_socket_somebody_took_is_lost_alone(connected: Connected) -> None:
    first, second, _third = connected.transports
    first.write(b"1")
    second.write(b"2")
    connected.reactor.removeReader(first)
    first.socket.close()
    assert connected.received(connected.peers[1]) == b"2"


def test_one_that_fails_costs_no_other_its_turn(connected: Connected) -> None:
    first, second, _third = connected.transports

    class Failing:
        pieces = iter([b"1"])

        def resumeProducing(self) -> None:
            first.write(next(self.pieces))

        def stopProducing(self) -> None: ...

    first.registerProducer(Failing(), False)
    second.write(b"2")
    errors: list[Any] = []
    log.addObserver(errors.append)
    try:
        turn_until(connected.reactor, lambda: connected.ends)
    finally:
        log.removeObserver(errors.append)
    assert connected.ends == [StopIteration]
    assert [event["failure"].type for event in errors if event["isError"]] == [StopIteration]
    assert connected.received(connected.peers[1]) == b"2"


def test_after_somebody_has_emptied_the_reactor_it_goes_on(connected: Connected) -> None:
    """As test runners do with what a test leaves behind."""
    first, second, third = connected.transports
    first.write(b"1")
    second.write(b"2")
    assert set(connected.reactor.removeAll()) == set(connected.transports)
    assert connected.reactor.getReaders() == connected.own
    assert connected.reactor.getWriters() == []
    second.write(b"3")
    third.startReading()
    assert connected.received(connected.peers[1]) == b"23"
    assert not is_readable(connected.peers[0])
    connected.peers[2].send(b"4")
    turn_until(connected.reactor, lambda: third.bytes_in)


def test_a_reactor_has_its_connections_among_its_own(connected: Connected) -> None:
    first, second, _third = connected.transports
    reactor = connected.reactor
    assert set(reactor.getReaders()) == {*connected.own, *connected.transports}
    reactor.removeReader(first)
    reactor.addWriter(second)
    assert first not in reactor.getReaders()
    assert reactor.getWriters() == [second]
    reactor.removeWriter(second)
    reactor.addReader(first)
    assert set(reactor.getReaders()) == {*connected.own, *connected.transports}
    assert reactor.getWriters() == []


class Closing(Telling):
    """Closes when something comes, and has a call made in the next turn."""

    reactor: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()
        self.reactor.callLater(0, self._ends.append, "call")


def test_what_ends_in_a_turn_ends_after_the_calls_of_that_turn(reactor: Any) -> None:
    """Also when another waits already: then the reactor finds both ready in one turn."""
    for order in (1, -1):
        connected = Connected(reactor, 2)
        busy, transport = connected.transports[::order]
        transport.protocol = Closing(connected.ends)
        transport.protocol.transport = transport
        transport.protocol.reactor = reactor
        connected.peers[::order][1].send(b"x")
        busy.write(b"busy")
        turn_until(reactor, lambda connected=connected: len(connected.ends) == 2)  # type: ignore[misc]
        assert connected.ends == ["call", ConnectionDone]
        connected.close()


def test_without_descriptors_a_connection_can_still_be_closed(connected: Connected) -> None:
    with no_descriptor_left():
        connected.transports[0].loseConnection()
        turn_until(connected.reactor, lambda: connected.ends)
    assert connected.ends == [ConnectionDone]


def test_one_whose_descriptor_is_gone_costs_no_other_its_turn() -> None:
    with started(EPollReactor) as reactor:
        connected = Connected(reactor, 3)
        gone = connected.transports[0]
        for transport in connected.transports:
            transport.write(b"x" * (1 << 20))
        gone.pauseProducing()
        os.close(gone.fileno())
        for peer in connected.peers[1:]:
            got = 0
            while got < 1 << 20:
                turn_until(reactor, lambda peer=peer: is_readable(peer))  # type: ignore[misc]
                got += len(peer.recv(1 << 20))
        assert connected.ends == [ConnectionFdescWentAway]
        connected.close()


def test_an_interrupt_leaves_the_reactor_and_the_others_live(connected: Connected) -> None:
    class Interrupted(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            raise KeyboardInterrupt

    first, second, _third = connected.transports
    first.protocol = Interrupted()
    first.loseConnection()
    second.write(b"2")
    second.loseConnection()
    errors: list[Any] = []
    log.addObserver(errors.append)
    try:
        with pytest.raises(KeyboardInterrupt):
            connected.reactor.iterate(0)
    finally:
        log.removeObserver(errors.append)
    assert connected.received(connected.peers[1]) == b"2"
    turn_until(connected.reactor, lambda: connected.ends)
    assert connected.ends == [ConnectionDone]


def test_a_reactor_whose_turns_are_a_toolkits_writes_and_closes() -> None:
    """As wxPython's: it has a thread that waits, and its calls are made in the toolkit's loop."""
    calls: queue.Queue[Any] = queue.Queue()
    reactor: Any = ThreadedSelectReactor()
    reactor.interleave(calls.put, installSignalHandlers=False)
    has_stopped: list[bool] = []
    reactor.addSystemEventTrigger("after", "shutdown", has_stopped.append, True)

    class Counting(Protocol):
        def dataReceived(self, data: bytes) -> None:
            reactor.callLater(0, self._count, 1)

        def _count(self, number: int) -> None:
            assert self.transport is not None
            self.transport.write(b"%d" % number)
            if number < 5:
                reactor.callLater(0, self._count, number + 1)
            else:
                self.transport.loseConnection()

    port: Any = EagerStreams(reactor).listenTCP(0, _factory(Counting()), interface="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
        client.sendall(b"?")
        got = [b""]
        while len(got) == 1 or got[-1]:
            calls.get(timeout=30)()
            while is_readable(client) and (len(got) == 1 or got[-1]):
                got.append(client.recv(10))
    assert b"".join(got) == b"12345"
    port.stopListening()
    reactor.stop()
    while not has_stopped:
        calls.get(timeout=30)()
