from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory

from sockservices.transports import EagerStreams, closing
from sockservices.transports.closing import close_after_delivery
from sockservices.transports.streams import StockStreams
from tests.certificates import make_certificate
from tests.transports.file_descriptors import no_descriptor_left
from tests.transports.pairs import Pair, TlsPeer
from tests.transports.reactors import started

ANSWER = bytes(range(256)) * (1 << 12)  # a mebibyte; more than is on its way at once


@pytest.fixture
def reactor() -> Iterator[Any]:
    with started(EPollReactor) as made:
        yield made


KINDS = pytest.mark.parametrize("kind", [EagerStreams, StockStreams])


@KINDS
def test_all_that_was_written_arrives_whatever_the_peer_sends_meanwhile(
    reactor: Any, kind: Any
) -> None:
    with Pair(reactor, kind) as pair:
        pair.peer.sendall(b"never read")
        pair.transport.write(ANSWER)
        close_after_delivery(pair.transport, reactor)
        for _ in range(20):
            pair.peer.sendall(b"more and more")
            reactor.iterate(0)
        assert pair.read_all() == ANSWER
        pair.until(lambda: pair.protocol.reasons)
        assert b"more" not in pair.protocol.received
        [reason] = pair.protocol.reasons
        assert reason.check(ConnectionDone)
    assert reactor.getDelayedCalls() == []


@KINDS
def test_with_nothing_on_its_way_it_is_closed_at_once(reactor: Any, kind: Any) -> None:
    with Pair(reactor, kind) as pair:
        close_after_delivery(pair.transport, reactor)
        assert pair.transport.disconnecting or pair.transport.disconnected
        assert reactor.getDelayedCalls() == []
        assert pair.read_all() == b""
        assert len(pair.protocol.reasons) == 1


@KINDS
@pytest.mark.parametrize("is_unix", [True, False])
def test_one_that_is_half_closed_is_closed_in_place(
    reactor: Any, kind: Any, is_unix: bool, tmp_path: Path
) -> None:
    with Pair(reactor, kind, tmp_path if is_unix else None) as pair:
        pair.transport.loseWriteConnection()
        pair.until(lambda: pair.transport._writeDisconnected)
        assert pair.read_all() == b""
        pair.until(lambda: closing._is_settled(pair.transport.socket))
        close_after_delivery(pair.transport, reactor)
        assert len(pair.protocol.reasons) == 1
    assert reactor.getDelayedCalls() == []


@KINDS
def test_a_peer_that_ends_its_side_gets_the_rest(reactor: Any, kind: Any) -> None:
    with Pair(reactor, kind) as pair:
        pair.transport.write(ANSWER)
        close_after_delivery(pair.transport, reactor)
        pair.peer.shutdown(1)
        assert pair.read_all() == ANSWER
        pair.until(lambda: pair.protocol.reasons)
        assert len(pair.protocol.reasons) == 1


@KINDS
def test_a_peer_that_goes_before_it_has_all_ends_it(reactor: Any, kind: Any) -> None:
    with Pair(reactor, kind) as pair:
        pair.transport.write(ANSWER)
        close_after_delivery(pair.transport, reactor)
        for _ in range(5):
            reactor.iterate(0)
        assert pair.protocol.reasons == []
        pair.peer.close()
        pair.until(lambda: pair.protocol.reasons)
        assert len(pair.protocol.reasons) == 1
    assert reactor.getDelayedCalls() == []


@KINDS
def test_it_stays_open_until_all_is_acknowledged(reactor: Any, kind: Any) -> None:
    with Pair(reactor, kind) as pair:
        pair.transport.write(ANSWER)
        close_after_delivery(pair.transport, reactor)
        for _ in range(20):
            reactor.iterate(0.001)
        assert pair.protocol.reasons == []
        assert pair.read_all() == ANSWER
        pair.until(lambda: pair.protocol.reasons)


@KINDS
def test_a_peer_that_does_not_read_is_looked_at_less_and_less(reactor: Any, kind: Any) -> None:
    clock = Clock()
    with Pair(reactor, kind) as pair:
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        pair.transport.write(ANSWER[: 1 << 18])
        close_after_delivery(pair.transport, clock)
        pair.until(clock.getDelayedCalls)
        looks = 0
        for _ in range(500):  # five seconds
            [due] = clock.getDelayedCalls()
            clock.advance(0.01)
            looks += not due.active()
        assert 20 < looks < 40
        pair.peer.close()

        def has_ended() -> object:
            clock.advance(1)
            return pair.protocol.reasons

        pair.until(has_ended)


@KINDS
def test_a_unix_socket_has_no_reset_to_fear(reactor: Any, kind: Any, tmp_path: Path) -> None:
    with Pair(reactor, kind, tmp_path) as pair:
        pair.transport.write(b"answer")
        close_after_delivery(pair.transport, reactor)
        assert pair.transport.disconnecting
        assert pair.read_all() == b"answer"
        assert len(pair.protocol.reasons) == 1


def test_one_that_closes_already_goes_on_closing(reactor: Any) -> None:
    with Pair(reactor, EagerStreams) as pair:
        pair.transport.write(ANSWER)
        pair.transport.loseConnection()
        close_after_delivery(pair.transport, reactor)
        assert pair.read_all() == ANSWER
        assert len(pair.protocol.reasons) == 1


class Below(StringTransport):
    """A transport below TLS."""


class Encrypted(StringTransport):
    """A connection with TLS that has said that it ends, or has not."""

    def __init__(self, shutdown: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.transport = Below()  # type: ignore[no-untyped-call]
        self._shutdown = shutdown

    def getHandle(self) -> Any:  # noqa: N802 - as ITCPTransport's kin call it
        return self

    def get_shutdown(self) -> int:
        return self._shutdown


@pytest.mark.parametrize(("shutdown", "closes"), [(0, False), (1, True), (2, False), (3, True)])
def test_what_tls_runs_on_is_closed_when_tls_has_said_that_it_ends(
    shutdown: int, closes: bool
) -> None:
    encrypted = Encrypted(shutdown)
    close_after_delivery(encrypted, Clock())
    assert encrypted.disconnecting
    assert encrypted.transport.disconnecting is closes


def test_a_handshake_that_is_not_done_ends_below_tls(reactor: Any, tmp_path: Path) -> None:
    """Twisted's TLS would reset the connection."""
    make_certificate(tmp_path)
    files = (str(tmp_path / "key.pem"), str(tmp_path / "trusted/cert.pem"))
    options = DefaultOpenSSLContextFactory(*files)
    with Pair(reactor, EagerStreams) as pair:
        factory = TLSMemoryBIOFactory(options, False, Factory.forProtocol(Protocol), reactor)
        tls = factory.buildProtocol(None)
        pair.transport.protocol = tls
        tls.makeConnection(pair.transport)
        pair.peer.sendall(b"\x16\x03")  # the beginning of a ClientHello
        pair.until(lambda: pair.transport.bytes_in == 2)
        close_after_delivery(tls, reactor)
        assert pair.read_all() == b""


@pytest.mark.parametrize("is_done", [True, False])
@KINDS
def test_tls_that_was_started_late_is_closed_like_any_other(
    reactor: Any, kind: Any, is_done: bool, tmp_path: Path
) -> None:
    """As STARTTLS of SMTP; the peer never answers the close_notify, or the handshake."""
    make_certificate(tmp_path)
    files = (str(tmp_path / "key.pem"), str(tmp_path / "trusted/cert.pem"))
    with Pair(reactor, kind) as pair:
        pair.transport.startTLS(DefaultOpenSSLContextFactory(*files))
        tls = TlsPeer(pair)
        if is_done:
            tls.shake_hands()
            pair.transport.write(b"answer")
        close_after_delivery(pair.transport, reactor)
        pair.until(lambda: pair.protocol.reasons)
        assert tls.read_all() == (b"answer" if is_done else b"")


# What loseConnection does

GREETING = ANSWER[:50_000]  # which the kernel takes at once, and the peer's system does not


def _close_with_unread_input(pair: Pair) -> None:
    pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    pair.transport.pauseProducing()
    pair.peer.sendall(b"never read")
    pair.transport.write(GREETING)
    pair.transport.loseConnection()
    pair.until(lambda: pair.protocol.reasons)


@KINDS
def test_it_ends_at_once_and_what_was_written_arrives_all_the_same(reactor: Any, kind: Any) -> None:
    with Pair(reactor, kind) as pair:
        _close_with_unread_input(pair)
        delivered = pair.port.undelivered.when_delivered()
        assert not delivered.called
        pair.peer.sendall(b"more")
        assert pair.read_all() == GREETING
        pair.peer.sendall(b"and more, after the end of file")
        pair.until(lambda: delivered.called)
        assert pair.protocol.received == b""
    assert reactor.getDelayedCalls() == []


@KINDS
def test_a_peer_that_reads_nothing_is_left_in_the_end(
    reactor: Any, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "_LONGEST", 0.0)
    with Pair(reactor, kind) as pair:
        _close_with_unread_input(pair)
        delivered = pair.port.undelivered.when_delivered()
        pair.until(lambda: delivered.called)
    assert reactor.getDelayedCalls() == []


@KINDS
def test_a_peer_that_goes_ends_the_wait(reactor: Any, kind: Any) -> None:
    with Pair(reactor, kind) as pair:
        _close_with_unread_input(pair)
        delivered = pair.port.undelivered.when_delivered()
        pair.peer.close()
        pair.until(lambda: delivered.called)
    assert reactor.getDelayedCalls() == []


def test_so_many_wait_and_no_more(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "_MOST", 1)
    with Pair(reactor, EagerStreams) as first, Pair(reactor, EagerStreams) as second:
        _close_with_unread_input(first)
        _close_with_unread_input(second)
        first.peer.sendall(b"more")  # to a socket that is closed
        with pytest.raises(ConnectionResetError):
            first.read_all()
        assert second.read_all() == GREETING


@KINDS
def test_a_new_connection_takes_the_file_descriptor_of_one_that_waits(
    reactor: Any, kind: Any
) -> None:
    with Pair(reactor, kind) as waiting, socket.socket() as client:
        _close_with_unread_input(waiting)
        delivered = waiting.port.undelivered.when_delivered()
        client.settimeout(30)
        with no_descriptor_left():
            client.connect(("127.0.0.1", waiting.port.getHost().port))
            waiting.until(lambda: delivered.called)
            waiting.until(lambda: waiting.port.sessionno == 2)
            assert waiting.port._accepts


def test_a_stop_can_end_the_wait(reactor: Any) -> None:
    with Pair(reactor, EagerStreams) as pair:
        _close_with_unread_input(pair)
        delivered = pair.port.undelivered.when_delivered()
        pair.port.undelivered.deliver_no_more()
        assert delivered.called
        assert pair.port.undelivered.when_delivered().called
    assert reactor.getDelayedCalls() == []


@KINDS
def test_an_abort_waits_for_nothing(reactor: Any, kind: Any) -> None:
    with Pair(reactor, kind) as pair:
        pair.peer.sendall(b"never read")
        pair.transport.write(GREETING)
        pair.transport.abortConnection()
        pair.until(lambda: pair.protocol.reasons)
        assert pair.port.undelivered.when_delivered().called
        with pytest.raises(ConnectionResetError):
            pair.read_all()


@KINDS
def test_a_unix_peer_gets_the_end_of_file_though_it_is_not_heard(
    reactor: Any, kind: Any, tmp_path: Path
) -> None:
    with Pair(reactor, kind, tmp_path) as pair:
        pair.transport.pauseProducing()
        pair.peer.sendall(b"never read" * 10_000)
        pair.transport.write(b"answer")
        pair.transport.loseConnection()
        pair.until(lambda: pair.protocol.reasons)
        assert pair.read_all() == b"answer"


@KINDS
@pytest.mark.parametrize("is_unix", [True, False])
def test_a_close_after_a_half_close_resets_nothing(
    reactor: Any, kind: Any, is_unix: bool, tmp_path: Path
) -> None:
    with Pair(reactor, kind, tmp_path if is_unix else None) as pair:
        pair.transport.write(b"answer")
        pair.transport.loseWriteConnection()
        pair.until(lambda: pair.transport._writeDisconnected)
        pair.transport.pauseProducing()
        pair.peer.sendall(b"never read" * 1000)
        pair.transport.loseConnection()
        pair.until(lambda: pair.protocol.reasons)
        assert pair.read_all() == b"answer"


@KINDS
def test_a_unix_peer_is_reset_by_an_abort(reactor: Any, kind: Any, tmp_path: Path) -> None:
    with Pair(reactor, kind, tmp_path) as pair:
        pair.peer.sendall(b"never read")
        pair.transport.abortConnection()
        pair.until(lambda: pair.protocol.reasons)
        with pytest.raises(ConnectionResetError):
            pair.read_all()
