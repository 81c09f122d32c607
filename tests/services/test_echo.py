from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from sockservices.service import IDatagramFactory, ITruncationReceiver
from sockservices.services.echo import Echo, EchoFactory
from sockservices.testing import DatagramServiceContract, StreamServiceContract
from tests.fakes import ManualReactor, SlowPeer, Source, connected, logged, output_to, pipe_at

_PEER = IPv4Address("TCP", "127.0.0.1", 40000)


def _connected(factory: EchoFactory, transport: object) -> Echo:
    return connected(factory.buildProtocol(_PEER), transport)


@given(st.lists(st.binary()))
def test_the_same_bytes_come_back_however_they_are_cut(parts: list[bytes]) -> None:
    transport = StringTransport()
    echo = _connected(EchoFactory(), transport)
    for part in parts:
        echo.dataReceived(part)
    assert transport.value() == b"".join(parts)
    assert not transport.disconnecting


def test_each_read_is_answered_before_the_next() -> None:
    transport = StringTransport()
    echo = _connected(EchoFactory(), transport)
    echo.dataReceived(b"one")
    assert transport.value() == b"one"


@given(st.lists(st.binary(min_size=1, max_size=70_000), max_size=8), st.integers(1, 150_000))
def test_a_slow_peer_stops_the_reading_and_gets_everything_at_last(
    parts: list[bytes], reads: int
) -> None:
    peer = SlowPeer(ManualReactor())
    echo = _connected(EchoFactory(), peer)
    sent = b""
    for part in parts:
        while not peer.is_read:
            peer.read_by_peer(reads)
        echo.dataReceived(part)
        sent += part
        assert peer.is_read == (len(sent) - len(peer.has_read) <= peer.bufferSize)
    echo.readConnectionLost()
    while peer.read_by_peer(reads) is not CONNECTION_DONE:
        pass
    assert peer.has_read == sent


def test_a_peer_that_reads_nothing_costs_no_more_than_a_buffer_and_a_read() -> None:
    peer = SlowPeer(ManualReactor())
    echo = _connected(EchoFactory(), peer)
    taken = 0
    while peer.is_read:
        echo.dataReceived(b"." * 4096)
        taken += 4096
        assert taken <= peer.bufferSize + 4096
    peer.read_by_peer(taken)
    assert peer.is_read


def test_the_peers_end_of_file_closes_after_what_is_on_its_way() -> None:
    assert IHalfCloseableProtocol.implementedBy(Echo)
    transport = StringTransport()
    echo = _connected(EchoFactory(), transport)
    echo.dataReceived(b"last")
    echo.readConnectionLost()
    assert transport.value() == b"last"
    assert transport.disconnecting
    assert transport.producer is None


def test_once_answers_the_first_read_and_closes() -> None:
    transport = StringTransport()
    echo = _connected(EchoFactory(once=True), transport)
    assert not transport.disconnecting
    echo.dataReceived(b"first")
    assert transport.value() == b"first"
    assert transport.disconnecting


def test_once_delivers_a_first_read_that_is_larger_than_the_buffer() -> None:
    peer = SlowPeer(ManualReactor())
    echo = _connected(EchoFactory(once=True), peer)
    echo.dataReceived(b"." * 200_000)
    while peer.read_by_peer(1000) is not CONNECTION_DONE:
        pass
    assert peer.has_read == b"." * 200_000


def test_the_end_of_a_connection_needs_nothing_more() -> None:
    transport = StringTransport()
    echo = _connected(EchoFactory(), transport)
    echo.writeConnectionLost()
    echo.connectionLost(Failure(ConnectionDone()))
    assert transport.value() == b""


@pytest.mark.parametrize(
    ("address", "name"),
    [(_PEER, "127.0.0.1, port 40000"), (UNIXAddress(None), "an unnamed Unix socket")],
)
def test_report_prints_each_read_and_its_peer(
    address: IPv4Address | UNIXAddress, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    transport = StringTransport(peerAddress=address)
    echo = _connected(EchoFactory(report=True), transport)
    echo.dataReceived(b"four")
    echo.dataReceived(b"!")
    assert capfd.readouterr().out == f"Received 4 bytes from {name}\nReceived 1 bytes from {name}\n"
    assert transport.value() == b"four!"


def test_without_report_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    factory = EchoFactory()
    _connected(factory, StringTransport()).dataReceived(b"four")
    datagrams = connected(factory.build_datagram_protocol(), _Sent())
    datagrams.datagramReceived(b"four", ("127.0.0.1", 1))
    assert capfd.readouterr().out == ""


class _Tcp(StringTransport):
    """One that remembers whether small segments go out at once."""

    no_delay: object = None

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        alsoProvides(self, ITCPTransport)

    def setTcpNoDelay(self, enabled: object) -> None:  # noqa: N802 - as ITCPTransport calls it
        self.no_delay = enabled


def test_over_tcp_a_small_answer_does_not_wait_for_an_acknowledgement() -> None:
    transport = _Tcp()
    _connected(EchoFactory(), transport)
    assert transport.no_delay is True


def test_a_connection_that_is_gone_already_is_no_error() -> None:
    class Gone(_Tcp):
        def setTcpNoDelay(self, enabled: object) -> None:  # noqa: N802 - as ITCPTransport calls it
            raise OSError("not connected")

    _connected(EchoFactory(), Gone())


def test_a_report_that_nobody_reads_pauses_its_source(tmp_path: Path) -> None:
    factory = EchoFactory(report=True)
    with pipe_at(tmp_path / "pipe"), output_to(tmp_path / "pipe", print) as output:
        factory._output = output
        full = Source()
        while not full.told:
            output.write(b"." * 4096, full)
        transport = StringTransport()
        _connected(factory, transport).dataReceived(b"four")
        assert transport.producerState == "paused"
        source = Source()
        datagrams = connected(factory.build_datagram_protocol(), source)
        datagrams.datagramReceived(b"four", None)
        assert source.told == ["pause"]


class _Sent:
    """A datagram transport that remembers."""

    def __init__(self) -> None:
        self.all: list[tuple[bytes, object]] = []

    def write(self, datagram: bytes, addr: object) -> None:
        self.all.append((datagram, addr))

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", "127.0.0.1", 7000)


@given(st.lists(st.tuples(st.binary(), st.sampled_from([("127.0.0.1", 1), "/run/x", b"\0x"]))))
def test_each_datagram_goes_back_to_its_sender(
    datagrams: list[tuple[bytes, tuple[str, int] | str | bytes]],
) -> None:
    sent = _Sent()
    echo = connected(EchoFactory().build_datagram_protocol(), sent)
    for data, peer in datagrams:
        echo.datagramReceived(data, peer)
    assert sent.all == datagrams


def test_a_datagram_of_nobody_is_reported_and_not_sent_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    sent = _Sent()
    echo = connected(EchoFactory(report=True).build_datagram_protocol(), sent)
    echo.datagramReceived(b"four", None)
    assert sent.all == []
    echo.datagramReceived(b"five!", ("127.0.0.1", 7))
    assert capfd.readouterr().out == (
        "Received 4 bytes from an unnamed Unix socket\nReceived 5 bytes from 127.0.0.1, port 7\n"
    )


def test_a_datagram_that_was_cut_is_logged_and_not_sent_back() -> None:
    sent = _Sent()
    echo = connected(EchoFactory().build_datagram_protocol(), sent)
    assert ITruncationReceiver.providedBy(echo)
    with logged() as events:
        echo.datagram_truncated(b"part", 300_000, ("127.0.0.1", 7))
    assert sent.all == []
    assert [formatEvent(event) for event in events] == [
        "no echo for a datagram of 300000 bytes from 127.0.0.1, port 7: the limit is 262144"
    ]


def test_each_datagram_listener_gets_a_protocol_of_its_own() -> None:
    factory = EchoFactory()
    assert IDatagramFactory.providedBy(factory)
    assert factory.build_datagram_protocol() is not factory.build_datagram_protocol()


class TestEcho(StreamServiceContract):
    factory = EchoFactory
    examples = (b"hello\n",)


class TestDatagramEcho(DatagramServiceContract):
    factory = EchoFactory
