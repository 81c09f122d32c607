from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.transports import Counted, EagerStreams
from sockservices.transports.streams import StockStreams
from tests.fakes import logged
from tests.transports.pairs import Pair
from tests.transports.reactors import started

BUFFERED = 1 << 24  # bytes; more than a kernel takes for a peer that does not read


class Setup:
    """Makes connections of a kind, over TCP or a Unix socket."""

    def __init__(self, reactor: Any, kind: Any, folder: Path | None) -> None:
        self._arguments = reactor, kind, folder

    def pair(self, **more: Any) -> Pair:
        return Pair(*self._arguments, **more)


@pytest.fixture(params=["tcp", "unix"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "unix" else None


@pytest.fixture(params=[EagerStreams, StockStreams])
def setup(request: pytest.FixtureRequest, folder: Path | None) -> Iterator[Setup]:
    with started(EPollReactor) as reactor:
        yield Setup(reactor, request.param, folder)


def test_bytes_are_counted_both_ways(setup: Setup) -> None:
    with setup.pair() as pair:
        assert isinstance(pair.transport, Counted)
        assert (pair.transport.bytes_in, pair.transport.bytes_out) == (0, 0)
        pair.peer.sendall(b"hello")
        pair.until(lambda: pair.protocol.received == b"hello")
        pair.peer.sendall(b"!")
        pair.until(lambda: pair.protocol.received == b"hello!")
        assert (pair.transport.bytes_in, pair.transport.bytes_out) == (6, 0)
        pair.transport.write(b"bye")
        pair.until(lambda: pair.transport.bytes_out == 3)
        assert pair.peer.recv(10) == b"bye"
        assert pair.transport.bytes_in == 6


def test_what_the_kernel_does_not_take_waits_and_is_counted_when_it_does(setup: Setup) -> None:
    with setup.pair() as pair:
        pair.transport.write(bytes(BUFFERED))
        for _ in range(50):
            pair.reactor.iterate(0)
        sent = pair.transport.bytes_out
        assert 0 < sent < BUFFERED
        assert pair.transport.unsent == BUFFERED - sent
        pair.transport.loseConnection()
        assert len(pair.read_all()) == BUFFERED
        assert pair.transport.bytes_out == BUFFERED
        assert pair.transport.unsent == 0


def test_the_end_is_told_once_after_the_protocol_was_told(setup: Setup) -> None:
    told: list[tuple[Any, Failure, int]] = []
    with setup.pair() as pair:
        pair.transport.on_end = lambda it, why: told.append((it, why, len(pair.protocol.reasons)))
        pair.peer.close()
        pair.until(lambda: pair.protocol.reasons)
        pair.transport.abortConnection()
        pair.reactor.iterate(0)
    [(connection, reason, protocols_told)] = told
    assert connection is pair.transport
    assert reason.check(ConnectionDone, ConnectionLost)
    assert protocols_told == 1


def test_the_end_is_told_though_the_protocol_fails(setup: Setup) -> None:
    told: list[Any] = []

    def fail(_reason: Failure) -> None:
        raise RuntimeError("at the end")

    with setup.pair() as pair:
        pair.protocol.connectionLost = fail  # type: ignore[method-assign,assignment]
        pair.transport.on_end = lambda it, _why: told.append(it)
        pair.peer.close()
        pair.until(lambda: told)
    assert told == [pair.transport]


def test_more_than_may_wait_is_told_to_the_port(setup: Setup) -> None:
    overflows: list[Any] = []
    piece = bytes(1 << 18)

    def limit(port: Any) -> None:
        port.max_unsent = 1 << 20
        port.on_overflow = overflows.append

    with setup.pair(begun=limit) as pair:
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        pair.transport.write(b"x" * 1000)
        for _ in range(10):
            pair.reactor.iterate(0)
        assert overflows == []
        while not overflows:
            assert pair.transport.unsent < BUFFERED
            pair.transport.write(piece)
            pair.reactor.iterate(0)
        assert set(overflows) == {pair.transport}
        assert pair.transport.unsent > 1 << 20


def test_what_the_kernel_takes_counts_for_nothing(setup: Setup) -> None:
    overflows: list[Any] = []

    def limit(port: Any) -> None:
        port.max_unsent = 0
        port.on_overflow = overflows.append

    with setup.pair(begun=limit) as pair:
        for _ in range(100):
            pair.transport.write(b"x" * 100)
            pair.until(lambda: pair.transport.unsent == 0)
            assert len(pair.peer.recv(1 << 16)) > 0
        assert overflows == []


def test_what_the_peer_has_taken_is_known(setup: Setup) -> None:
    with setup.pair() as pair:
        pair.transport.write(bytes(BUFFERED))
        pair.until(lambda: pair.transport.bytes_out)
        pair.reactor.iterate(0.01)
        before = pair.transport.taken
        assert before < pair.transport.bytes_out
        while pair.transport.taken == before:
            pair.peer.recv(1 << 16)
            pair.reactor.iterate(0)
        assert before < pair.transport.taken <= pair.transport.bytes_out


def test_a_peer_whose_bytes_are_not_read_waits_for_us(setup: Setup) -> None:
    with setup.pair() as pair:
        assert not pair.transport.waits_for_us
        pair.peer.sendall(b"x")
        assert pair.transport.waits_for_us
        pair.until(lambda: pair.protocol.received)
        assert not pair.transport.waits_for_us


def test_a_peer_that_we_have_paused_waits_for_us(setup: Setup) -> None:
    with setup.pair() as pair:
        pair.transport.pauseProducing()
        assert pair.transport.waits_for_us
        pair.transport.resumeProducing()
        assert not pair.transport.waits_for_us


def test_a_peer_that_takes_nothing_does_not_wait_for_us(setup: Setup) -> None:
    with setup.pair() as pair:
        pair.transport.pauseProducing()
        pair.transport.write(bytes(BUFFERED))
        for _ in range(5):
            pair.reactor.iterate(0.01)
        pair.peer.sendall(b"x")
        assert not pair.transport.waits_for_us


@implementer(IPushProducer)
class FailingProducer:
    """A producer that raises when it is stopped."""

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("how", ["abort", "peer"])
def test_a_producer_that_fails_at_the_end_leaves_nothing_open(setup: Setup, how: str) -> None:
    with setup.pair() as pair, logged() as events:
        handle = pair.transport.getHandle()
        ended: list[Any] = []
        pair.transport.on_end = lambda transport, _reason: ended.append(transport)
        pair.transport.registerProducer(FailingProducer(), True)
        if how == "abort":
            pair.transport.abortConnection()
        else:
            pair.peer.close()
        pair.until(lambda: ended)
        assert handle.fileno() == -1
        assert len(pair.protocol.reasons) == 1
        assert ended == [pair.transport]
        [event] = [each for each in events if "log_failure" in each]
        assert event["log_failure"].check(ZeroDivisionError)
