"""Eager ports: what they do when they cannot accept, and when a greeting leaves."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import tcp
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol

from sockservices.listening import Listening, listener
from sockservices.transports import EagerReactor, port, socket_errors, with_streams
from tests.transports.file_descriptors import no_descriptor_left
from tests.transports.lockstep import is_readable
from tests.transports.reactors import Noting, started, turn_until


class Port:
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
            listener(streams, f"unix:{folder}/socket", Listening()).endpoint.listen(
                factory
            ).addBoth(ports.append)
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
    made = Port(reactor, request.param, tmp_path)
    yield made
    made.port.stopListening()
    for peer in made.peers:
        peer.close()


@pytest.fixture
def no_reserve(monkeypatch: Any) -> None:
    monkeypatch.setattr(tcp, "_reservedFD", tcp._NullFileDescriptorReservation())
    monkeypatch.setattr(socket_errors, "_PAUSE", 3600)


@pytest.mark.usefixtures("no_reserve")
def test_without_descriptors_it_waits_and_then_accepts_again(listening: Port) -> None:
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
def test_the_wait_ends_when_somebody_else_decides(listening: Port, end: str) -> None:
    with no_descriptor_left():
        listening.connect()
        turn_until(listening.reactor, lambda: not listening.accepts)
    (resumption,) = listening.reactor.getDelayedCalls()
    getattr(listening.port, end)()
    assert not resumption.active()
    assert listening.accepts == (end == "startReading")


def test_a_python_without_its_private_accept_accepts_the_same(
    listening: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert port._accept is getattr(
        socket.socket, "_accept", None
    )  # which is tested everywhere else
    monkeypatch.setattr(port, "_accept", port._accept_publicly)
    listening.connect()
    turn_until(listening.reactor, lambda: len(listening.made) == len(listening.peers))
    for each in listening.made:
        each.transport.write(b"x")  # type: ignore[union-attr]
    for peer in listening.peers:
        turn_until(listening.reactor, lambda peer=peer: is_readable(peer))  # type: ignore[misc]
        assert peer.recv(2) == b"x"


def test_with_a_descriptor_in_reserve_those_that_wait_are_refused(listening: Port) -> None:
    with no_descriptor_left():
        listening.connect()
        for peer in listening.peers:
            turn_until(listening.reactor, lambda peer=peer: is_readable(peer))  # type: ignore[misc]
            assert peer.recv(1) == b""
    assert listening.made == []
    assert listening.accepts
    assert listening.reactor.getDelayedCalls() == []


def _finish(listening: Port) -> list[object]:
    closed: list[object] = []
    listening.port.finish(3600).addCallback(closed.append)
    return closed


def test_one_that_finishes_accepts_those_that_wait_and_closes(listening: Port) -> None:
    listening.port.numberAccepts = 1
    listening.connect()
    closed = _finish(listening)
    assert len(listening.made) == len(listening.peers)
    assert not listening.port.is_finishing
    turn_until(listening.reactor, lambda: closed)
    assert listening.reactor.getDelayedCalls() == []


def test_who_comes_then_is_refused_and_not_reset_in_the_next_turn(listening: Port) -> None:
    where = listening.port.socket.getsockname()
    listening.connect()
    _finish(listening)
    with socket.socket(listening.port.socket.family) as late:
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            late.connect(where)


def test_all_are_accepted_that_a_backlog_has_room_for(reactor: Any) -> None:
    full = Port(reactor, "tcp", Path(), backlog=4)  # for one more than it says: listen(2)
    full.port.numberAccepts = 1
    full.connect()
    _finish(full)
    assert len(full.made) == 5
    for peer in full.peers:
        peer.close()


def test_what_waits_is_not_accepted_within_what_was_accepted(reactor: Any) -> None:
    counts: list[int] = []

    class Asking(Noting):
        def connectionMade(self) -> None:
            super().connectionMade()
            if not asking.port.is_finishing:
                _finish(asking)
            counts.append(len(asking.made))

    asking = Port(reactor, "tcp", Path(), Asking)
    asking.port.numberAccepts = 3
    asking.connect()
    turn_until(reactor, lambda: not asking.port.connected)
    assert counts == [1, 2, 3, 4, 5]
    for peer in asking.peers:
        peer.close()


def test_one_that_may_not_accept_finishes_when_it_may_again(listening: Port) -> None:
    listening.port.stopReading()
    listening.connect()
    closed = _finish(listening)
    for _ in range(10):
        listening.reactor.iterate(0)
    assert (listening.made, listening.port.is_finishing) == ([], True)
    listening.port.startReading()
    turn_until(listening.reactor, lambda: closed)
    assert len(listening.made) == len(listening.peers)


def test_one_that_may_not_accept_but_where_nobody_waits_closes(listening: Port) -> None:
    listening.port.stopReading()
    closed = _finish(listening)
    turn_until(listening.reactor, lambda: closed)


def test_nobody_joins_those_that_wait_for_one_that_finishes(listening: Port) -> None:
    listening.port.stopReading()
    where = listening.port.socket.getsockname()
    listening.connect()
    _finish(listening)
    with socket.socket(listening.port.socket.family) as late:
        late.setblocking(False)
        late.connect_ex(where)
        for _ in range(10):
            listening.reactor.iterate(0)
        with pytest.raises(OSError, match="not connected"):
            late.getpeername()
        listening.port.startReading()
        turn_until(listening.reactor, lambda: not listening.port.connected)
    assert len(listening.made) == len(listening.peers)


@pytest.mark.parametrize("end", ["the time is over", "it is closed", "it is closed twice"])
def test_one_that_finishes_does_not_wait_for_ever(listening: Port, end: str) -> None:
    listening.port.stopReading()
    listening.connect()
    closed = _finish(listening)
    if end == "the time is over":
        (deadline,) = listening.reactor.getDelayedCalls()
        deadline.reset(0)
    for _ in range(["the time is over", "it is closed", "it is closed twice"].index(end)):
        listening.port.stopListening()
        listening.port.startReading()  # which does not make it accept again
    turn_until(listening.reactor, lambda: closed)
    assert listening.made == []
    assert listening.reactor.getDelayedCalls() == []


def test_one_that_has_finished_may_listen_again(reactor: Any) -> None:
    again = Port(reactor, "tcp", Path())
    closed = _finish(again)
    turn_until(reactor, lambda: closed)
    again.port.startListening()
    assert not again.port.is_finishing
    again.connect()
    turn_until(reactor, lambda: len(again.made) == len(again.peers))
    assert again.accepts
    again.port.stopListening()
    for peer in again.peers:
        peer.close()


def test_to_finish_what_is_closed_is_nothing(listening: Port) -> None:
    listening.port.stopListening()
    turn_until(listening.reactor, lambda: not listening.port.connected)
    assert listening.port.finish(3600) is None
    assert listening.reactor.getDelayedCalls() == []


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
        closed: list[object] = []
        adopted.finish(3600).addCallback(closed.append)
        turn_until(reactor, lambda: closed)
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

    greeted = Port(reactor, "tcp", tmp_path, Greeting)
    greeted.port.numberAccepts = len(greeted.peers)
    greeted.connect()
    turn_until(reactor, lambda: len(greeted.made) == len(greeted.peers))
    assert not any(early)
    for peer in greeted.peers:
        turn_until(reactor, lambda peer=peer: is_readable(peer))  # type: ignore[misc]
        assert peer.recv(100) == b"welcome"
        peer.close()
