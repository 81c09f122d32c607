from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import DefaultOpenSSLContextFactory

from sockservices.transports import EagerStreams
from sockservices.transports.streams import StockStreams
from tests.certificates import make_certificate
from tests.fakes import logged
from tests.transports.pairs import Pair, TlsPeer
from tests.transports.reactors import started
from tests.transports.test_tls_closing import MESSAGE, Echoing, Producing


@pytest.fixture
def reactor() -> Iterator[Any]:
    with started(EPollReactor) as made:
        yield made


@pytest.fixture(params=[EagerStreams, StockStreams])
def pair(request: Any, reactor: Any, tmp_path: Path) -> Iterator[Pair]:
    """A connection on which TLS was started, and which has its handshake to do."""
    make_certificate(tmp_path)
    files = (str(tmp_path / "key.pem"), str(tmp_path / "trusted/cert.pem"))
    with Pair(reactor, request.param) as made:
        made.transport.startTLS(DefaultOpenSSLContextFactory(*files))
        yield made


def _serve(pair: Pair, protocol: Protocol) -> TlsPeer:
    pair.transport.protocol.wrappedProtocol = protocol
    protocol.makeConnection(pair.transport)
    peer = TlsPeer(pair)
    peer.shake_hands()
    return peer


def _send_and_end(pair: Pair, peer: TlsPeer, message: bytes) -> None:
    """Send a message and close_notify in one piece."""
    peer.tls.write(message)
    with suppress(ssl.SSLWantReadError):
        peer.tls.unwrap()
    pair.peer.setblocking(True)
    peer.send()


def test_a_paused_producer_does_not_outlive_tls(pair: Pair) -> None:
    server = Producing()
    peer = _serve(pair, server)
    _send_and_end(pair, peer, MESSAGE[:200_000])
    assert peer.read_all() == MESSAGE[:200_000]
    pair.until(lambda: server.is_lost)
    assert server.pauses
    assert server.is_stopped


class FailingToStop(Producing):
    """A producer that fails when it is stopped."""

    stops = 0

    def stopProducing(self) -> None:
        self.stops += 1
        raise RuntimeError("cannot stop")


@pytest.mark.parametrize("is_orderly", [True, False])
def test_a_producer_is_stopped_once_and_its_failure_hides_no_end(
    pair: Pair, is_orderly: bool
) -> None:
    server = FailingToStop()
    peer = _serve(pair, server)
    with logged() as events:
        if is_orderly:
            _send_and_end(pair, peer, b"hello")
            assert peer.read_all() == b"hello"
        else:
            pair.peer.close()
        pair.until(lambda: server.is_lost)
    assert server.stops == 1
    failures = [each["log_failure"] for each in events if "log_failure" in each]
    assert [str(each.value) for each in failures] == ["cannot stop"]


class Failing(Producing):
    """A protocol that fails on all data."""

    def dataReceived(self, data: bytes) -> None:
        raise RuntimeError("cannot take it")


def test_one_that_fails_on_all_data_is_told_of_its_end(pair: Pair) -> None:
    server = Failing()
    peer = _serve(pair, server)
    peer.tls.write(b"one record")
    peer.tls.write(b"another, which is delivered when the first has failed")
    peer.send()
    pair.until(lambda: server.is_lost)


def test_a_close_does_not_wait_for_a_peer_that_does_not_answer_it(pair: Pair) -> None:
    server = Producing()
    peer = _serve(pair, server)
    server.transport.write(MESSAGE[:20_000])
    server.transport.unregisterProducer()
    server.transport.loseConnection()
    pair.until(lambda: server.is_lost)
    assert peer.read_all() == MESSAGE[:20_000]


def test_small_writes_arrive_though_the_peer_ends_in_the_same_turn(pair: Pair) -> None:
    peer = _serve(pair, Echoing())
    _send_and_end(pair, peer, b"hello")
    assert peer.read_all() == b"hello"
