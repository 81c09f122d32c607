"""Eager ports: what they do when they cannot accept, and when a greeting leaves."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol

from sockservices.eager import EagerReactor, port, with_streams
from sockservices.listening import listener
from tests.eager.descriptors import no_descriptor_left
from tests.eager.lockstep import is_readable
from tests.eager.reactors import started, turn_until


class Noting(Protocol):
    """Notes that it was made."""

    def __init__(self, made: list[Protocol]) -> None:
        self._made = made

    def connectionMade(self) -> None:
        self._made.append(self)


class Listening:
    """A port, the protocols that it has made, and sockets that connect to it."""

    def __init__(
        self,
        reactor: Any,
        kind: str,
        folder: Path,
        protocol: type[Noting] = Noting,
        backlog: int = 50,
    ) -> None:
        self.reactor = reactor
        self.made: list[Protocol] = []
        factory = Factory.forProtocol(lambda: protocol(self.made))
        streams = with_streams(reactor, eager=True)
        ports: list[Any] = []
        if kind == "tcp":
            ports.append(streams.listenTCP(0, factory, backlog, "127.0.0.1"))
        elif kind == "unix":
            ports.append(streams.listenUNIX(str(folder / "socket"), factory))
        else:
            listener(streams, f"unix:{folder}/socket").endpoint.listen(factory).addBoth(
                ports.append
            )
        (self.port,) = ports
        self.peers = [socket.socket(self.port.socket.family) for _ in range(5)]

    def connect(self) -> None:
        for peer in self.peers:
            peer.connect(self.port.socket.getsockname())

    @property
    def accepts(self) -> bool:
        return self.port in self.reactor.getReaders()


@pytest.fixture(params=[EPollReactor, EagerReactor])
def reactor(request: Any) -> Any:
    with started(request.param) as made:
        yield made


@pytest.fixture(params=["tcp", "unix", "the unix: of a command"])
def listening(request: Any, reactor: Any, tmp_path: Path) -> Any:
    made = Listening(reactor, request.param, tmp_path)
    yield made
    if not made.port.disconnecting:
        made.port.stopListening()
    for peer in made.peers:
        peer.close()


@pytest.fixture
def no_reserve(monkeypatch: Any) -> None:
    monkeypatch.setattr(tcp, "_reservedFD", tcp._NullFileDescriptorReservation())
    monkeypatch.setattr(port, "_PAUSE", 3600)


@pytest.mark.usefixtures("no_reserve")
def test_without_descriptors_it_waits_and_then_accepts_again(listening: Listening) -> None:
    with no_descriptor_left():
        listening.connect()
        turn_until(listening.reactor, lambda: not listening.accepts)
    assert listening.made == []
    (resumption,) = listening.reactor.getDelayedCalls()
    resumption.reset(0)
    turn_until(listening.reactor, lambda: len(listening.made) == len(listening.peers))
    assert listening.reactor.getDelayedCalls() == []


@pytest.mark.usefixtures("no_reserve")
@pytest.mark.parametrize("end", ["stopReading", "startReading", "stopListening"])
def test_the_wait_ends_when_somebody_else_decides(listening: Listening, end: str) -> None:
    with no_descriptor_left():
        listening.connect()
        turn_until(listening.reactor, lambda: not listening.accepts)
    (resumption,) = listening.reactor.getDelayedCalls()
    getattr(listening.port, end)()
    assert not resumption.active()
    assert listening.accepts == (end == "startReading")


def test_with_a_descriptor_in_reserve_those_that_wait_are_refused(listening: Listening) -> None:
    with no_descriptor_left():
        listening.connect()
        for peer in listening.peers:
            turn_until(listening.reactor, lambda peer=peer: is_readable(peer))  # type: ignore[misc]
            assert peer.recv(1) == b""
    assert listening.made == []
    assert listening.accepts
    assert listening.reactor.getDelayedCalls() == []


def test_what_waits_is_accepted_when_asked(listening: Listening) -> None:
    listening.port.numberAccepts = 1
    listening.connect()
    listening.port.accept_waiting()
    assert len(listening.made) == len(listening.peers)


def test_all_are_accepted_that_a_backlog_has_room_for(reactor: Any) -> None:
    full = Listening(reactor, "tcp", Path(), backlog=4)  # for one more than it says: listen(2)
    full.port.numberAccepts = 1
    full.connect()
    full.port.accept_waiting()
    assert len(full.made) == 5
    full.port.stopListening()
    for peer in full.peers:
        peer.close()


def test_what_waits_is_not_accepted_within_what_was_accepted(reactor: Any) -> None:
    counts: list[int] = []

    class Asking(Noting):
        def connectionMade(self) -> None:
            super().connectionMade()
            asking.port.accept_waiting()
            counts.append(len(asking.made))

    asking = Listening(reactor, "tcp", Path(), Asking)
    asking.connect()
    asking.port.accept_waiting()
    assert counts == [1, 2, 3, 4, 5]
    asking.port.stopListening()
    for peer in asking.peers:
        peer.close()


def test_what_waits_is_not_accepted_while_nothing_is(listening: Listening) -> None:
    listening.port.stopReading()
    listening.connect()
    listening.port.accept_waiting()
    assert listening.made == []


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_what_waits_at_the_socket_of_somebody_else_stays(
    reactor: Any, family: int, tmp_path: Path
) -> None:
    made: list[Protocol] = []
    streams = with_streams(reactor, eager=True)
    with socket.socket(family) as owned, socket.socket(family) as peer:
        owned.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "s"))
        owned.listen()
        owned.setblocking(False)
        factory = Factory.forProtocol(lambda: Noting(made))
        adopted = streams.adoptStreamPort(owned.fileno(), family, factory)
        peer.connect(owned.getsockname())
        adopted.accept_waiting()
        adopted.stopListening()
        assert made == []
        owned.accept()[0].close()


def test_greetings_leave_together_when_all_are_accepted(reactor: Any, tmp_path: Path) -> None:
    early: list[bool] = []

    class Greeting(Noting):
        def connectionMade(self) -> None:
            super().connectionMade()
            early.extend(is_readable(peer) for peer in greeted.peers)
            assert self.transport is not None
            self.transport.write(b"welcome")

    greeted = Listening(reactor, "tcp", tmp_path, Greeting)
    greeted.port.numberAccepts = len(greeted.peers)
    greeted.connect()
    turn_until(reactor, lambda: len(greeted.made) == len(greeted.peers))
    assert not any(early)
    for peer in greeted.peers:
        turn_until(reactor, lambda peer=peer: is_readable(peer))  # type: ignore[misc]
        assert peer.recv(100) == b"welcome"
        peer.close()
