"""What is asked of the kernel for eager connections, and whose events are handed on."""

from __future__ import annotations

import os
import socket
from collections import Counter
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from sockservices.transports.nest import nest_of
from sockservices.transports.watching import Watching
from tests.transports import reactors
from tests.transports.lockstep import RESET
from tests.transports.reactors import turn_until


@pytest.fixture(params=["eager", "epoll_eager", "select_eager"])
def reactor(request: Any) -> Any:
    with getattr(reactors, request.param)() as (_reactor, streams):
        yield streams


class Kernel:
    """A poller that counts what it is asked."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self.calls: Counter[str] = Counter()
        self.events = 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.calls[name] += 1
            result = getattr(self._poller, name)(*arguments)
            if name == "poll":
                self.events += len(result)
            return result

        return call


def count(reactor: Any) -> Kernel:
    watching: Watching = reactor if isinstance(reactor, Watching) else nest_of(reactor.reactor)
    kernel = watching._poller = Kernel(watching._poller)
    return kernel


class Answering(Protocol):
    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


def listen(reactor: Any, protocol: Any) -> tuple[str, int]:
    port: Any = reactor.listenTCP(0, Factory.forProtocol(protocol), 500, interface="127.0.0.1")
    return ("127.0.0.1", port.getHost().port)


def test_what_is_answered_and_closed_at_once_is_never_registered(reactor: Any) -> None:
    class Greeting(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            self.transport.write(b"hello")
            self.transport.loseConnection()

    address = listen(reactor, Greeting)
    kernel = count(reactor)
    peers = [socket.create_connection(address) for _ in range(10)]
    for peer in peers:
        with peer:
            peer.setblocking(False)
            got = bytearray()

            def is_ended(peer: socket.socket = peer, got: bytearray = got) -> bool:
                try:
                    data = peer.recv(100)
                except BlockingIOError:
                    return False
                got.extend(data)
                return not data

            turn_until(reactor, is_ended)
        assert got == b"hello"
    assert not kernel.calls.keys() & {"register", "modify", "unregister"}


def test_an_answer_costs_no_change_of_what_is_watched(reactor: Any) -> None:
    address = listen(reactor, Answering)
    with socket.create_connection(address) as peer:
        peer.send(b"first")
        turn_until(reactor, lambda: readable(peer))
        assert peer.recv(10) == b"first"
        kernel = count(reactor)
        for _ in range(5):
            peer.send(b"x")
            turn_until(reactor, lambda: readable(peer))
            assert peer.recv(10) == b"x"
    assert set(kernel.calls) == {"poll"}


def readable(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


def test_a_loud_connection_does_not_keep_quiet_ones_waiting(reactor: Any) -> None:
    """By turns: each quiet one is heard in the turn in which it has spoken."""
    heard: Counter[bytes] = Counter()

    class Hearing(Protocol):
        def dataReceived(self, data: bytes) -> None:
            heard[data[:1]] += 1

    address = listen(reactor, Hearing)
    loud = socket.create_connection(address)
    quiet = [socket.create_connection(address) for _ in range(200)]
    turn_until(reactor, lambda: len(reactor.getReaders()) >= 202)
    loud.setblocking(False)
    rounds = 5
    for _ in range(rounds):
        try:
            while True:
                loud.send(b"L" * (1 << 16))
        except BlockingIOError:
            pass
        for peer in quiet:
            peer.send(b"q")
        before = heard[b"L"]
        reactor.iterate(0)
        reactor.iterate(0)
        assert heard[b"L"] > before
    assert heard[b"q"] == rounds * len(quiet)
    for peer in [loud, *quiet]:
        peer.close()


def test_a_duplicated_descriptor_leaves_no_events(reactor: Any) -> None:
    transports: list[Any] = []

    class Keeping(Protocol):
        def connectionMade(self) -> None:
            transports.append(self.transport)

    address = listen(reactor, Keeping)
    with socket.create_connection(address) as peer:
        turn_until(reactor, lambda: transports)
        reactor.iterate(0)
        held = os.dup(transports[0].fileno())
        transports[0].loseConnection()
        turn_until(reactor, lambda: transports[0].disconnected)
        kernel = count(reactor)
        peer.close()
        for _ in range(5):
            reactor.iterate(0)
        os.close(held)
    assert kernel.events == 0


def test_a_new_connection_does_not_get_the_event_of_the_descriptors_last(reactor: Any) -> None:
    """Two have ended; the first to hear of it closes the other, whose number is taken at once."""
    here, there = socket.socketpair()
    here.setblocking(False)
    made: list[Any] = []
    new: list[Any] = []
    events: list[str] = []
    busy: list[bool] = []

    class New(Protocol):
        def connectionMade(self) -> None:
            new.append(self.transport)

        def connectionLost(self, reason: Any = None) -> None:
            events.append("new lost")

    class Old(Protocol):
        def connectionMade(self) -> None:
            made.append(self.transport)

        def connectionLost(self, reason: Any = None) -> None:
            if not busy:
                busy.append(True)
                other = made[1] if self.transport is made[0] else made[0]
                number = other.fileno()
                spare = [os.dup(0)]
                while spare[-1] < number:  # lower numbers are free, and would be taken first
                    spare.append(os.dup(0))
                other.connectionLost(Failure(ConnectionDone()))
                reactor.adoptStreamConnection(
                    here.fileno(), socket.AF_UNIX, Factory.forProtocol(New)
                )
                events.append("same number" if new[0].fileno() == number else "another")
                for descriptor in spare:
                    os.close(descriptor)

    address = listen(reactor, Old)
    peers = [socket.create_connection(address) for _ in range(2)]
    turn_until(reactor, lambda: len(made) == 2)
    reactor.iterate(0)
    for peer in peers:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
    turn_until(reactor, lambda: new)
    for _ in range(3):
        reactor.iterate(0)
    assert events == ["same number"]
    here.close()
    there.close()


def test_a_closed_connection_cannot_write(reactor: Any) -> None:
    refused: list[str] = []

    class Late(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            transport: Any = self.transport
            try:
                transport.loseWriteConnection()
            except ValueError as error:
                refused.append(str(error))

    address = listen(reactor, Late)
    with socket.create_connection(address):
        turn_until(reactor, lambda: len(reactor.getReaders()) > 2)
    turn_until(reactor, lambda: refused)
    reactor.iterate(0)
    assert not reactor.getWriters()


def test_readers_and_writers_are_known_and_removed(reactor: Any) -> None:
    made: list[Any] = []

    class Keeping(Protocol):
        def connectionMade(self) -> None:
            made.append(self.transport)

    address = listen(reactor, Keeping)
    with socket.create_connection(address) as peer:
        turn_until(reactor, lambda: made)
        transport = made[0]
        assert transport in reactor.getReaders()
        assert transport not in reactor.getWriters()
        transport.write(bytes(1 << 24))
        assert transport in reactor.getWriters()
        removed = reactor.removeAll()
        assert transport in removed
        assert transport not in reactor.getReaders() + reactor.getWriters()
        kernel = count(reactor)
        peer.send(b"x")
        reactor.iterate(0)
        reactor.iterate(0)
        assert kernel.events == 0
        for port in set(removed) - {transport}:
            reactor.addReader(port)  # to be closed in the end
        transport.startReading()
        transport.connectionLost = lambda reason: made.append(reason)
        reactor.disconnectAll()
        assert made[1].type.__name__ == "ConnectionLost"
        del transport.connectionLost
        transport.abortConnection()
        turn_until(reactor, lambda: transport.disconnected)


def test_a_protocol_may_run_turns_of_its_own(reactor: Any) -> None:
    order: list[bytes] = []

    class Nesting(Protocol):
        def dataReceived(self, data: bytes) -> None:
            order.append(data)
            if data == b"outer":
                second.send(b"inner")
                reactor.iterate(0)
                order.append(b"after")

    address = listen(reactor, Nesting)
    with socket.create_connection(address) as first, socket.create_connection(address) as second:
        turn_until(reactor, lambda: len(reactor.getReaders()) >= 4)
        reactor.iterate(0)
        first.send(b"outer")
        turn_until(reactor, lambda: len(order) == 3)
    assert order == [b"outer", b"inner", b"after"]


def test_a_keyboard_interrupt_passes(reactor: Any) -> None:
    class Interrupted(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            raise KeyboardInterrupt

    address = listen(reactor, Interrupted)
    with socket.create_connection(address):
        turn_until(reactor, lambda: len(reactor.getReaders()) >= 3)
    with pytest.raises(KeyboardInterrupt):
        turn_until(reactor, lambda: False)


def test_a_descriptor_that_the_service_closes_ends_that_connection_alone(reactor: Any) -> None:
    made: list[Any] = []

    class Taking(Protocol):
        transport: Any
        data = b""
        is_lost = False

        def connectionMade(self) -> None:
            made.append(self)
            if len(made) == 1:
                self.transport.socket.close()

        def dataReceived(self, data: bytes) -> None:
            self.data += data

        def connectionLost(self, reason: Any = None) -> None:
            self.is_lost = True

    port = reactor.listenTCP(0, Factory.forProtocol(Taking), interface="127.0.0.1")
    address = ("127.0.0.1", port.getHost().port)
    with socket.create_connection(address), socket.create_connection(address) as second:
        second.sendall(b"served")
        turn_until(reactor, lambda: len(made) == 2 and made[1].data)
        assert (made[0].is_lost, made[1].data) == (True, b"served")
        with socket.create_connection(address) as third:
            third.sendall(b"accepted")
            turn_until(reactor, lambda: len(made) == 3 and made[2].data)
