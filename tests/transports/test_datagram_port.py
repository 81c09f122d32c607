from __future__ import annotations

import os
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import InvalidAddressError, MessageLengthError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockservices.errors import ListenError
from sockservices.printable import DatagramPeer
from sockservices.service import IAnswering, IBatchReceiver, ITruncationReceiver
from sockservices.transports import datagram_port, datagram_sending
from sockservices.transports.datagram_port import BYTES_A_TURN, DATAGRAMS_A_TURN
from sockservices.transports.senders import Sender
from sockservices.transports.udp import UdpPort
from sockservices.transports.unix_datagrams import UnixDatagramPort
from tests.fakes import ManualReactor, logged

LONGEST_PAUSE = 1.0  # seconds on the clock of the test; every retry comes sooner


class Recorder(DatagramProtocol):
    """Remembers what it received; does what a test wants it to do on each datagram."""

    noisy = False
    transport: Any

    def __init__(self, then: Callable[[Recorder, bytes], None] | None = None) -> None:
        self.then = then
        self.received: list[tuple[bytes, DatagramPeer]] = []
        self.refused = 0
        self.stopped = 0

    @property
    def datagrams(self) -> list[bytes]:
        return [data for data, _ in self.received]

    def datagramReceived(self, datagram: bytes, addr: DatagramPeer) -> None:
        self.received.append((datagram, addr))
        if self.then is not None:
            self.then(self, datagram)

    def connectionRefused(self) -> None:
        self.refused += 1

    def stopProtocol(self) -> None:
        self.stopped += 1


@implementer(ITruncationReceiver)
class Truncating(Recorder):
    max_datagram_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.truncated: list[tuple[bytes, int, DatagramPeer]] = []

    def datagram_truncated(self, data: bytes, size: int, peer: DatagramPeer) -> None:
        self.truncated.append((data, size, peer))


def close(port: UdpPort | UnixDatagramPort, reactor: ManualReactor) -> None:
    port.stopListening()
    reactor.advance(0)


@contextmanager
def listening(
    port: UdpPort | UnixDatagramPort, reactor: ManualReactor
) -> Iterator[UdpPort | UnixDatagramPort]:
    port.startListening()
    try:
        yield port
    finally:
        if port.connected:
            close(port, reactor)


class Udp:
    """A UDP port on the loopback interface, and a socket that talks to it."""

    def __init__(
        self, protocol: DatagramProtocol, interface: str = "127.0.0.1", family: int = socket.AF_INET
    ) -> None:
        self.protocol = protocol
        self.reactor = ManualReactor()
        self.port = UdpPort(0, protocol, interface, self.reactor)
        self.port.startListening()
        self.peer = socket.socket(family, socket.SOCK_DGRAM)
        self.peer.setblocking(False)
        self.address: Any = self.port.getHost()  # type: ignore[no-untyped-call]
        self.peer.connect((interface, self.address.port))
        self.name = self.peer.getsockname()[:2]

    def say(self, data: bytes) -> None:
        self.peer.send(data)

    def __enter__(self) -> Udp:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()
        if self.port.connected:
            close(self.port, self.reactor)


class Unix:
    """A Unix datagram port in a folder, and a bound socket that talks to it."""

    def __init__(self, folder: Path, protocol: DatagramProtocol, mode: int = 0o600) -> None:
        self.path = folder / "port"
        self.reactor = ManualReactor()
        self.port = UnixDatagramPort(os.fsencode(self.path), protocol, mode, self.reactor)
        self.port.startListening()
        self.peer = bound(folder / "peer")
        self.name = str(folder / "peer")

    def say(self, data: bytes) -> None:
        self.peer.sendto(data, str(self.path))

    def __enter__(self) -> Unix:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()
        if self.port.connected:
            close(self.port, self.reactor)


def bound(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind(str(path))
    return made


def fill(path: str) -> None:
    """Send to a Unix socket until it takes no more from anybody."""
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.connect(path)
            sent = 0
            try:
                while True:
                    sender.send(b"filling")
                    sent += 1
            except BlockingIOError:
                if not sent:
                    return


def drain(receiver: socket.socket) -> list[bytes]:
    """Read what a socket has, but for what ``fill`` put there."""
    received = []
    while True:
        try:
            received.append(receiver.recv(1 << 18))
        except BlockingIOError:
            return [each for each in received if each != b"filling"]


# Reading


def test_each_datagram_is_delivered_with_its_peer() -> None:
    with Udp(Recorder()) as udp:
        udp.say(b"one")
        udp.say(b"two")
        udp.port.doRead()
        assert udp.protocol.received == [(b"one", udp.name), (b"two", udp.name)]  # type: ignore[attr-defined]
        assert udp.port.datagrams_received == 2


def test_reading_when_there_is_nothing_does_nothing(tmp_path: Path) -> None:
    udp, unix = Recorder(), Recorder()
    with Udp(udp) as one, Unix(tmp_path, unix) as other:
        one.port.doRead()
        other.port.doRead()
    assert udp.received == unix.received == []


def test_peers_of_a_unix_socket_are_paths_abstract_names_and_nobody(tmp_path: Path) -> None:
    recorder = Recorder()
    abstract = f"\0{tmp_path.name}-{os.getpid()}"
    with Unix(tmp_path, recorder) as unix:
        unix.say(b"path")
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as somebody,
        ):
            nobody.sendto(b"nobody", str(unix.path))
            somebody.bind(abstract)
            somebody.sendto(b"abstract", str(unix.path))
        unix.port.doRead()
    assert recorder.received == [
        (b"path", unix.name),
        (b"nobody", None),
        (b"abstract", abstract.encode()),
    ]


@settings(max_examples=20)
@given(st.binary(max_size=20_000))
def test_any_datagram_arrives_whole(data: bytes) -> None:
    recorder = Recorder()
    with Udp(recorder) as udp:
        udp.say(data)
        udp.port.doRead()
    assert recorder.datagrams == [data]


def test_the_largest_udp_datagram_arrives_whole() -> None:
    recorder = Recorder()
    with Udp(recorder) as udp:
        udp.say(b"." * 65507)
        udp.port.doRead()
    assert recorder.datagrams == [b"." * 65507]
    assert udp.port.datagrams_truncated == 0


def test_a_longer_datagram_is_reported_as_cut_with_its_true_size(tmp_path: Path) -> None:
    for open_port in (lambda it: Udp(it), lambda it: Unix(tmp_path, it)):
        protocol = Truncating()
        with open_port(protocol) as it:
            it.say(b"whole"[:4])
            it.say(b"123456789")
            it.port.doRead()
            assert protocol.received == [(b"whol", it.name)]
            assert protocol.truncated == [(b"1234", 9, it.name)]
            assert (it.port.datagrams_received, it.port.datagrams_truncated) == (2, 1)


def test_a_protocol_that_does_not_ask_gets_the_part_and_the_log_the_size() -> None:
    recorder = Recorder()
    recorder.max_datagram_size = 4  # type: ignore[attr-defined]
    with Udp(recorder) as udp, logged() as events:
        udp.say(b"123456789")
        udp.port.doRead()
        assert recorder.received == [(b"1234", udp.name)]
    cut = [event for event in events if event.get("size") == 9]
    assert [(event["peer"], event["limit"]) for event in cut] == [
        (f"127.0.0.1, port {udp.name[1]}", 4)
    ]


def test_empty_datagrams_let_others_have_their_turn() -> None:
    recorder = Recorder()
    with Udp(recorder) as udp:
        for _ in range(DATAGRAMS_A_TURN + 1):
            udp.say(b"")
        udp.port.doRead()
        assert len(recorder.received) == DATAGRAMS_A_TURN
        udp.port.doRead()
        assert recorder.datagrams == [b""] * (DATAGRAMS_A_TURN + 1)


def test_large_datagrams_let_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BYTES_A_TURN >= 65536
    monkeypatch.setattr(datagram_port, "BYTES_A_TURN", 1000)
    recorder = Recorder()
    with Udp(recorder) as udp:
        for _ in range(3):
            udp.say(b"." * 600)
        udp.port.doRead()
        assert len(recorder.received) == 2


def test_a_protocol_that_pauses_gets_nothing_more_until_it_resumes() -> None:
    recorder = Recorder(lambda self, _: self.transport.pauseProducing())
    with Udp(recorder) as udp:
        udp.say(b"one")
        udp.say(b"two")
        udp.port.doRead()
        assert recorder.datagrams == [b"one"]
        assert udp.port not in udp.reactor.readers
        udp.port.resumeProducing()  # type: ignore[no-untyped-call]
        assert udp.port in udp.reactor.readers
        udp.port.doRead()
        assert recorder.datagrams == [b"one", b"two"]


def test_a_protocol_that_stops_gets_nothing_more(tmp_path: Path) -> None:
    recorder = Recorder(lambda self, _: self.transport.stopListening())
    with Unix(tmp_path, recorder) as unix:
        unix.say(b"one")
        unix.say(b"two")
        unix.port.doRead()
        unix.reactor.advance(0)
        assert recorder.datagrams == [b"one"]
        assert recorder.stopped == 1
        assert not unix.reactor.readers
        assert not unix.path.exists()


def test_a_protocol_that_raises_costs_its_datagram_only() -> None:
    def fragile(_: Recorder, data: bytes) -> None:
        if data == b"break":
            raise RuntimeError("broken by its peer")

    recorder = Recorder(fragile)
    with Udp(recorder) as udp, logged() as events:
        udp.say(b"break")
        udp.say(b"fine")
        udp.port.doRead()
        assert recorder.datagrams == [b"break", b"fine"]
        assert udp.port in udp.reactor.readers
    failures = [event for event in events if "log_failure" in event]
    assert [(event["peer"], event["size"], event["protocol"]) for event in failures] == [
        (f"127.0.0.1, port {udp.name[1]}", 5, "Recorder")
    ]
    assert failures[0]["log_failure"].check(RuntimeError)


def test_a_truncation_receiver_that_raises_costs_its_datagram_only() -> None:
    class Fragile(Truncating):
        def datagram_truncated(self, data: bytes, size: int, peer: DatagramPeer) -> None:
            raise RuntimeError("broken by its peer")

    fragile = Fragile()
    with Udp(fragile) as udp, logged() as events:
        udp.say(b"too long")
        udp.say(b"fine")
        udp.port.doRead()
        assert fragile.datagrams == [b"fine"]
    assert [event["size"] for event in events if "log_failure" in event] == [8]


@implementer(IBatchReceiver)
class Batching(Truncating):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[bytes]] = []

    def datagrams_received(self, datagrams: list[tuple[bytes, DatagramPeer]]) -> None:
        self.batches.append([data for data, _ in datagrams])
        self.received += datagrams
        if b"bad" in self.batches[-1]:
            raise RuntimeError("broken by its peer")

    def datagram_truncated(self, data: bytes, size: int, peer: DatagramPeer) -> None:
        super().datagram_truncated(data, size, peer)
        self.batches.append([b"cut"])


def test_a_batch_receiver_gets_together_what_had_arrived() -> None:
    batching = Batching()
    with Udp(batching) as udp:
        udp.port.doRead()
        for data in (b"1", b"2", b""):
            udp.say(data)
        udp.port.doRead()
        udp.say(b"3")
        udp.port.doRead()
        assert batching.batches == [[b"1", b"2", b""], [b"3"]]
        assert batching.received[0] == (b"1", udp.name)
        assert udp.port.datagrams_received == 4


def test_a_batch_receiver_gets_truncated_ones_in_their_place() -> None:
    batching = Batching()
    with Udp(batching) as udp:
        for data in (b"1", b"too long", b"2", b"3"):
            udp.say(data)
        udp.port.doRead()
        assert batching.batches == [[b"1"], [b"cut"], [b"2", b"3"]]
        assert batching.truncated == [(b"too ", 8, udp.name)]


def test_a_batch_is_a_turn_of_the_reactor_at_most() -> None:
    batching = Batching()
    with Udp(batching) as udp:
        for _ in range(DATAGRAMS_A_TURN + 1):
            udp.say(b"")
        udp.port.doRead()
        udp.port.doRead()
        assert [len(batch) for batch in batching.batches] == [DATAGRAMS_A_TURN, 1]


def test_a_batch_receiver_that_raises_costs_its_batch_only() -> None:
    batching = Batching()
    with Udp(batching) as udp, logged() as events:
        for data in (b"bad", b"1"):
            udp.say(data)
        udp.port.doRead()
        udp.say(b"fine")
        udp.port.doRead()
        assert batching.batches == [[b"bad", b"1"], [b"fine"]]
    failures = [event for event in events if "log_failure" in event]
    assert [(event["count"], event["peer"]) for event in failures] == [
        (2, f"127.0.0.1, port {udp.name[1]}")
    ]


# Sending


def test_an_answer_reaches_its_peer(tmp_path: Path) -> None:
    for open_port in (lambda it: Udp(it), lambda it: Unix(tmp_path, it)):
        recorder = Recorder()
        with open_port(recorder) as it:
            it.port.write(b"one", it.name)
            it.port.writeSequence([b"t", b"", b"wo"], it.name)
            assert drain(it.peer) == [b"one", b"two"]
            assert it.port.datagrams_dropped == 0


def test_what_a_full_peer_does_not_take_is_sent_in_order_when_it_has_room(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix:
        fill(unix.name)
        for data in (b"1", b"2", b"3"):
            unix.port.write(data, unix.name)
        unix.reactor.advance(LONGEST_PAUSE)
        assert drain(unix.peer) == []
        unix.port.write(b"4", unix.name)  # there is room now, but others came before
        unix.reactor.advance(LONGEST_PAUSE)
        assert drain(unix.peer) == [b"1", b"2", b"3", b"4"]
        unix.port.write(b"5", unix.name)
        assert drain(unix.peer) == [b"5"]
        assert unix.port.datagrams_dropped == 0
        assert unix.reactor.getDelayedCalls() == []


def test_it_is_tried_again_again_and_again(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix:
        fill(unix.name)
        unix.port.write(b"late", unix.name)
        for _ in range(100):
            unix.reactor.advance(LONGEST_PAUSE)
            assert len(unix.reactor.getDelayedCalls()) == 1
        drain(unix.peer)
        unix.reactor.advance(LONGEST_PAUSE)
        assert drain(unix.peer) == [b"late"]


def test_a_peer_that_has_room_is_not_held_up_by_one_that_is_full(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix, bound(tmp_path / "other") as other:
        fill(unix.name)
        unix.port.write(b"waits", unix.name)
        unix.port.write(b"goes", str(tmp_path / "other"))
        assert drain(other) == [b"goes"]


def test_a_peer_that_reads_nothing_of_ours_does_not_hold_up_others(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix, bound(tmp_path / "other") as other:
        for _ in range(600):
            unix.port.write(b"!", unix.name)
        unix.port.write(b"goes", str(tmp_path / "other"))
        assert drain(other) == [b"goes"]


def test_a_full_peer_does_not_hold_up_one_that_has_room_again(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix, bound(tmp_path / "other") as other:
        fill(unix.name)
        fill(str(tmp_path / "other"))
        unix.port.write(b"waits", unix.name)
        unix.port.write(b"goes", str(tmp_path / "other"))
        drain(other)
        unix.reactor.advance(LONGEST_PAUSE)
        assert drain(other) == [b"goes"]


@pytest.mark.parametrize(
    ("limit", "value", "kept"), [("UNSENT_DATAGRAMS", 2, 2), ("UNSENT_BYTES", 10, 3)]
)
def test_what_waits_is_bounded_and_the_excess_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, kept: int
) -> None:
    monkeypatch.setattr(datagram_sending, limit, value)
    with Unix(tmp_path, Recorder()) as unix, logged() as events:
        fill(unix.name)
        for number in range(5):
            unix.port.write(b"%03d" % number, unix.name)
        assert unix.port.datagrams_dropped == 5 - kept
        drain(unix.peer)
        unix.reactor.advance(LONGEST_PAUSE)
        assert drain(unix.peer) == [b"%03d" % number for number in range(kept)]
        for number in range(kept):  # what is sent makes room for others
            fill(unix.name)
            unix.port.write(b"%03d" % number, unix.name)
        assert unix.port.datagrams_dropped == 5 - kept
    warnings = [event for event in events if event["log_level"].name == "warn"]
    assert unix.name in str(warnings[0]["peer"])


def test_a_peer_that_is_gone_is_counted(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix, logged() as events:
        unix.port.write(b"!", str(tmp_path / "nobody"))
        unix.peer.close()
        unix.port.write(b"!", unix.name)
        assert unix.port.datagrams_dropped == 2
        assert unix.reactor.getDelayedCalls() == []
    # The others are only counted.
    assert [formatEvent(event) for event in events if "reason" in event] == [
        f"a datagram to {tmp_path}/nobody is dropped: No such file or directory "
        "(others in the next minute are only counted)"
    ]


def test_a_peer_that_goes_while_datagrams_wait_for_it_is_counted(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix:
        fill(unix.name)
        unix.port.write(b"1", unix.name)
        unix.port.write(b"2", unix.name)
        unix.peer.close()
        unix.reactor.advance(LONGEST_PAUSE)
        assert unix.port.datagrams_dropped == 2
        assert unix.reactor.getDelayedCalls() == []


def test_a_datagram_that_is_too_long_is_refused_and_counted(tmp_path: Path) -> None:
    for open_port in (lambda it: Udp(it), lambda it: Unix(tmp_path, it)):
        with open_port(Recorder()) as it:
            with pytest.raises(MessageLengthError, match="10000000 bytes"):
                it.port.write(b"." * 10_000_000, it.name)
            assert it.port.datagrams_dropped == 1
            it.port.write(b"fine", it.name)
            assert drain(it.peer) == [b"fine"]


def test_a_datagram_whose_length_is_seen_late_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagram_sending, "UNSENT_BYTES", 1 << 25)
    with Unix(tmp_path, Recorder()) as unix:
        fill(unix.name)
        unix.port.write(b"1", unix.name)
        unix.port.write(b"." * 10_000_000, unix.name)
        unix.port.write(b"2", unix.name)
        drain(unix.peer)
        unix.reactor.advance(LONGEST_PAUSE)
        assert drain(unix.peer) == [b"1", b"2"]
        assert unix.port.datagrams_dropped == 1


def test_at_the_end_what_waits_is_tried_once_more(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix:
        fill(unix.name)
        unix.port.write(b"waits", unix.name)
        drain(unix.peer)
        close(unix.port, unix.reactor)
        assert drain(unix.peer) == [b"waits"]
        assert unix.port.datagrams_dropped == 0
        assert unix.reactor.getDelayedCalls() == []


def _echo(recorder: Recorder, data: bytes) -> None:
    recorder.transport.write(data, recorder.received[-1][1])


@pytest.mark.parametrize("more", [0, 1, 5, DATAGRAMS_A_TURN])
def test_to_finish_is_to_deliver_what_had_come_turn_by_turn(more: int) -> None:
    recorder = Recorder(_echo)
    with Udp(recorder) as udp:
        sent = [b"%d" % number for number in range(DATAGRAMS_A_TURN + more)]
        for data in sent:
            udp.say(data)
        finished = udp.port.finish(60)
        udp.port.doRead()
        udp.reactor.advance(0)
        assert len(recorder.datagrams) == DATAGRAMS_A_TURN
        assert recorder.stopped == (not more)
        if more:
            udp.port.doRead()
            udp.reactor.advance(0)
        assert recorder.datagrams == sent
        assert recorder.stopped == 1
        assert drain(udp.peer) == sent
        assert finished.called
        assert udp.reactor.getDelayedCalls() == []


def test_to_finish_takes_a_bounded_time_of_a_peer_that_goes_on() -> None:
    recorder = Recorder(_echo)
    with Udp(recorder) as udp:
        udp.say(b"first")
        finished = udp.port.finish(1)
        for _ in range(7):
            for _ in range(DATAGRAMS_A_TURN + 1):  # it is never seen empty
                udp.say(b"more")
            udp.port.doRead()
            udp.reactor.advance(0.125)
        assert not finished.called
        assert len(recorder.datagrams) == 7 * DATAGRAMS_A_TURN
        udp.reactor.pump([0.125, 0])
        assert finished.called
        assert udp.reactor.getDelayedCalls() == []


def test_to_finish_waits_for_answers_to_what_had_come(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder(_echo)) as unix:
        unix.say(b"last")
        fill(unix.name)
        finished = unix.port.finish(60)
        assert not unix.path.exists()  # newcomers are told, rather than read by nobody
        unix.port.doRead()
        unix.reactor.advance(0)
        assert not finished.called
        drain(unix.peer)
        unix.reactor.pump([LONGEST_PAUSE, 0])
        assert finished.called
        assert drain(unix.peer) == [b"last"]


def test_one_that_pauses_while_it_finishes_gets_the_rest_when_it_resumes() -> None:
    def pause(recorder: Recorder, _data: bytes) -> None:
        recorder.transport.stopReading()

    recorder = Recorder(pause)
    with Udp(recorder) as udp:
        for data in (b"1", b"2", b"3"):
            udp.say(data)
        finished = udp.port.finish(60)
        for expected in ([b"1"], [b"1", b"2"]):
            udp.port.doRead()
            udp.reactor.advance(1)
            assert recorder.datagrams == expected
            assert not finished.called
            udp.port.startReading()
        udp.port.doRead()
        udp.reactor.advance(0)
        assert recorder.datagrams == [b"1", b"2", b"3"]
        assert finished.called


def test_one_that_pauses_and_resumes_while_answers_wait_is_not_waited_for(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder(_echo)) as unix:
        unix.say(b"last")
        fill(unix.name)
        finished = unix.port.finish(60)
        unix.port.doRead()
        unix.port.stopReading()
        unix.port.startReading()
        drain(unix.peer)
        unix.reactor.pump([LONGEST_PAUSE, 0])
        assert finished.called


def test_a_protocol_may_close_while_it_finishes(tmp_path: Path) -> None:
    def close_it(recorder: Recorder, _data: bytes) -> None:
        recorder.transport.stopListening()

    for open_port in (lambda it: Udp(it), lambda it: Unix(tmp_path, it)):
        recorder = Recorder(close_it)
        with open_port(recorder) as it, logged() as events:
            it.say(b"1")
            it.say(b"2")
            finished = it.port.finish(60)
            it.port.doRead()
            again = it.port.stopListening()
            it.reactor.advance(0)
            assert recorder.datagrams == [b"1"]
            assert recorder.stopped == 1
            assert finished.called
            assert again is not None
            assert again.called
            assert it.reactor.getDelayedCalls() == []
        said = [formatEvent(each) for each in events]
        assert "datagrams that had come are not handled: the time to stop is over" in said


def test_to_finish_what_is_closed_is_nothing() -> None:
    with Udp(Recorder()) as udp:
        close(udp.port, udp.reactor)
        assert udp.port.finish(60).called
        assert udp.reactor.getDelayedCalls() == []


def test_one_that_was_paused_before_gets_the_rest_when_it_resumes() -> None:
    recorder = Recorder()
    with Udp(recorder) as udp:
        udp.say(b"1")
        udp.port.stopReading()
        finished = udp.port.finish(60)
        udp.reactor.advance(59)
        assert not finished.called
        udp.port.startReading()
        udp.port.doRead()
        udp.reactor.advance(0)
        assert recorder.datagrams == [b"1"]
        assert finished.called
        assert udp.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("is_paused", [False, True])
def test_to_finish_does_not_wait_for_what_will_not_come(tmp_path: Path, is_paused: bool) -> None:
    with Unix(tmp_path, Recorder()) as unix:
        if is_paused:
            unix.port.stopReading()
        finished = unix.port.finish(60)
        unix.reactor.advance(0)
        assert finished.called
        assert unix.reactor.getDelayedCalls() == []


def test_what_came_to_an_inherited_socket_is_left_for_the_next(tmp_path: Path) -> None:
    for family, name in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, str(tmp_path / "s"))):
        with socket.socket(family, socket.SOCK_DGRAM) as kept:
            kept.bind(name)
            kept.setblocking(False)
            recorder, reactor = Recorder(), ManualReactor()
            kind = UdpPort if family == socket.AF_INET else UnixDatagramPort
            port = kind.inheriting(kept.dup(), recorder, reactor)
            port.startListening()
            with socket.socket(family, socket.SOCK_DGRAM) as peer:
                peer.sendto(b"for the next", kept.getsockname())
            finished = port.finish(60)
            reactor.advance(0)
            assert finished.called
            assert recorder.datagrams == []
            assert drain(kept) == [b"for the next"]


def test_at_the_end_what_cannot_be_sent_is_counted_and_logged(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix, logged() as events:
        fill(unix.name)
        unix.port.write(b"1", unix.name)
        unix.port.write(b"2", unix.name)
        close(unix.port, unix.reactor)
        assert unix.port.datagrams_dropped == 2
        assert unix.reactor.getDelayedCalls() == []
    assert [event["dropped"] for event in events if "dropped" in event] == [2]


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["write", "drain", "wait"]), max_size=40))
def test_whatever_happens_order_is_kept_and_nothing_is_lost(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, Unix(Path(folder), Recorder()) as unix:
        fill(unix.name)
        written = 0
        received: list[bytes] = []
        for step in [*steps, "drain", "wait", "drain"]:
            if step == "write":
                unix.port.write(b"%d" % written, unix.name)
                written += 1
            elif step == "drain":
                received += drain(unix.peer)
            else:
                unix.reactor.advance(LONGEST_PAUSE)
        while len(received) < written:
            before = len(received)
            unix.reactor.advance(LONGEST_PAUSE)
            received += drain(unix.peer)
            assert len(received) > before
        assert received == [b"%d" % number for number in range(written)]
        assert unix.port.datagrams_dropped == 0


# UDP alone


@pytest.mark.parametrize("host", ["localhost", "example.com", "", "::1", "fe80::1%lo", "256.1.1.1"])
def test_an_ipv4_port_writes_to_ipv4_addresses_only(host: str) -> None:
    with Udp(Recorder()) as udp:
        with pytest.raises(InvalidAddressError):
            udp.port.write(b"!", (host, udp.name[1]))
        assert udp.port.datagrams_dropped == 0


def test_an_ipv6_port_takes_and_writes_to_ipv6_addresses_only() -> None:
    recorder = Recorder()
    try:
        udp = Udp(recorder, "::1", socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with udp:
        assert udp.address == IPv6Address("UDP", "::1", udp.address.port)
        udp.say(b"six")
        udp.port.doRead()
        assert recorder.received == [(b"six", ("::1", udp.name[1]))]
        udp.port.write(b"back", udp.name)
        assert drain(udp.peer) == [b"back"]
        for host in ("127.0.0.1", "<broadcast>", "localhost"):
            with pytest.raises(InvalidAddressError):
                udp.port.write(b"!", (host, udp.name[1]))


def test_a_connected_port_hears_and_writes_to_its_peer_only() -> None:
    recorder = Recorder()
    with Udp(recorder) as udp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        udp.port.connect(*udp.name)
        udp.port.write(b"without an address")
        udp.port.write(b"with it", udp.name)
        assert drain(udp.peer) == [b"without an address", b"with it"]
        other.sendto(b"other", ("127.0.0.1", udp.address.port))
        udp.say(b"mine")
        udp.port.doRead()
        assert recorder.datagrams == [b"mine"]


def test_a_port_connects_to_an_address_and_once() -> None:
    with Udp(Recorder()) as udp:
        with pytest.raises(InvalidAddressError):
            udp.port.connect("localhost", 7)
        udp.port.connect(*udp.name)
        with pytest.raises(RuntimeError):
            udp.port.connect(*udp.name)


def test_a_connected_port_is_told_that_its_peer_is_gone() -> None:
    recorder = Recorder()
    with Udp(recorder) as udp:
        udp.port.connect(*udp.name)
        udp.peer.close()
        udp.port.write(b"!")
        udp.port.doRead()
        assert recorder.refused == 1
        assert udp.port in udp.reactor.readers


def test_a_port_has_the_port_that_the_system_chose() -> None:
    with Udp(Recorder()) as udp:
        assert isinstance(udp.address, IPv4Address)
        assert (udp.address.type, udp.address.host) == ("UDP", "127.0.0.1")
        assert udp.address.port > 0
        verifyObject(IListeningPort, udp.port)


# Unix sockets alone


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o000])
def test_the_file_has_the_mode_whatever_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with Unix(tmp_path, Recorder(), mode) as unix:
            assert stat.S_IMODE(unix.path.stat().st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a socket gives its file no mode")
def test_at_no_moment_may_more_send_than_shall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []

    def chmod(path: bytes, _mode: int) -> None:
        modes.append(stat.S_IMODE(os.stat(path).st_mode))

    before = os.umask(0)
    try:
        monkeypatch.setattr(os, "chmod", chmod)
        with Unix(tmp_path, Recorder(), 0o600):
            assert modes == [0o600]
    finally:
        os.umask(before)


def test_at_the_end_the_file_is_gone(tmp_path: Path) -> None:
    recorder = Recorder()
    with Unix(tmp_path, recorder) as unix:
        assert stat.S_ISSOCK(unix.path.stat().st_mode)
        assert unix.port.getHost() == UNIXAddress(os.fsencode(unix.path))
        verifyObject(IListeningPort, unix.port)
        close(unix.port, unix.reactor)
    assert not unix.path.exists()
    assert recorder.stopped == 1


def test_at_the_end_the_file_of_somebody_else_stays(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix:
        unix.path.rename(tmp_path / "moved")
        unix.path.write_text("mine")
    assert unix.path.read_text() == "mine"


def test_at_the_end_a_file_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    recorder = Recorder()
    with Unix(tmp_path, recorder) as unix:
        unix.path.unlink()
    assert recorder.stopped == 1


def test_an_abstract_name_has_no_file(tmp_path: Path) -> None:
    reactor, recorder = ManualReactor(), Recorder()
    name = f"\0{tmp_path.name}-{os.getpid()}-port".encode()
    port = UnixDatagramPort(name, recorder, 0o600, reactor)
    with (
        listening(port, reactor),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer,
    ):
        peer.sendto(b"!", name)
        port.doRead()
        assert recorder.received == [(b"!", None)]
    assert os.listdir(tmp_path) == []


def test_a_path_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix:
        second = UnixDatagramPort(os.fsencode(unix.path), Recorder(), 0o600, ManualReactor())
        with pytest.raises(ListenError, match="already in use"):
            second.startListening()
        assert unix.path.exists()


def test_a_protocol_that_cannot_start_leaves_no_socket_behind(tmp_path: Path) -> None:
    class Unwilling(Recorder):
        def startProtocol(self) -> None:
            raise RuntimeError("unwilling")

    port = UnixDatagramPort(
        os.fsencode(tmp_path / "port"), Unwilling(), 0o600, reactor := ManualReactor()
    )
    try:
        with pytest.raises(RuntimeError, match="unwilling"):
            port.startListening()
        assert not (tmp_path / "port").exists()
        assert not reactor.readers
    finally:
        if port.connected:
            port.socket.close()


# What it counts, and whom it does not let in


def test_it_counts_bytes_both_ways() -> None:
    def answer(recorder: Recorder, data: bytes) -> None:
        recorder.transport.write(data * 2, recorder.received[-1][1])

    with Udp(Recorder(answer)) as udp:
        for data in (b"one", b"", b"three"):
            udp.say(data)
        udp.port.doRead()
        assert (udp.port.bytes_in, udp.port.bytes_out) == (8, 16)
    with Udp(Batching()) as udp:
        for data in (b"one", b"three", b""):
            udp.say(data)
        udp.port.doRead()
        assert udp.port.bytes_in == 3 + Truncating.max_datagram_size


@pytest.mark.parametrize("protocol", [Recorder, Batching])
def test_what_is_refused_is_not_delivered(protocol: type[Recorder]) -> None:
    asked = []

    def refuses(peer: DatagramPeer) -> bool:
        asked.append(peer)
        return len(asked) in (1, 3)

    with Udp(protocol()) as udp:
        udp.port.refuses = refuses
        for number in range(4):
            udp.say(b"%d" % number)
        udp.port.doRead()
        assert udp.protocol.datagrams == [b"1", b"3"]  # type: ignore[attr-defined]
        assert asked == [udp.name] * 4
        assert (udp.port.datagrams_received, udp.port.bytes_in) == (2, 2)


def test_refused_datagrams_let_others_have_their_turn() -> None:
    asked = []
    with Udp(Recorder()) as udp:
        udp.port.refuses = lambda peer: not asked.append(peer)  # type: ignore[func-returns-value]
        for _ in range(DATAGRAMS_A_TURN + 10):
            udp.say(b"")
        udp.port.doRead()
        assert len(asked) == DATAGRAMS_A_TURN


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_what_the_kernel_drops_is_counted_and_stays_so() -> None:
    with Udp(Recorder()) as udp:
        assert udp.port.dropped_by_kernel == 0
        udp.port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(100):
            udp.say(bytes(1000))
        dropped = udp.port.dropped_by_kernel
        udp.port.doRead()
        assert 0 < dropped == 100 - udp.port.datagrams_received
    assert udp.port.dropped_by_kernel == dropped


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_of_an_inherited_socket_only_what_is_dropped_since_then_is_counted() -> None:
    reactor = ManualReactor()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as owned,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        owned.bind(("127.0.0.1", 0))
        owned.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(100):
            peer.sendto(bytes(1000), owned.getsockname())
        recorder = Recorder()
        with listening(UdpPort.inheriting(owned.dup(), recorder, reactor), reactor) as port:
            assert port.dropped_by_kernel == 0
            for _ in range(10):
                peer.sendto(bytes(1000), owned.getsockname())
            assert port.dropped_by_kernel == 10


# Answers


@implementer(IAnswering)
class Answering(Recorder):
    """Answers what it receives, and sends the same to others."""

    def __init__(self, *others: DatagramPeer) -> None:
        super().__init__()
        self._others = others

    def datagramReceived(self, datagram: bytes, addr: DatagramPeer) -> None:
        super().datagramReceived(datagram, addr)
        for each in (addr, *self._others):
            self.transport.answer(datagram, each)


def _of_another_user(sender: Any) -> Sender:
    other = Sender(sender)
    other.uid = sender.uid + 1
    return other


def _held_back(port: UdpPort | UnixDatagramPort) -> tuple[int, int]:
    return port.datagrams_unanswered, port.datagrams_dropped


def test_an_answer_goes_back_but_not_to_whom_nobody_should_answer() -> None:
    bad = [("127.0.0.1", 0), ("127.0.0.1", 7), ("224.0.0.1", 4000)]
    with Udp(Answering(*bad, None)) as udp, logged() as events:
        udp.say(b"x")
        udp.port.doRead()
        assert drain(udp.peer) == [b"x"]
        assert _held_back(udp.port) == (3, 0)
    assert [formatEvent(each) for each in events if "answer" in str(each.get("log_format"))] == [
        "no answer to 127.0.0.1, port 0: nobody has port 0 "
        "(others in the next minute are only counted)"
    ]


@pytest.mark.parametrize("interface", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_no_listener_of_this_process_is_answered(interface: str) -> None:
    loopback = "::1" if ":" in interface else "127.0.0.1"
    with Udp(Recorder(), "127.0.0.1") as other:
        answering = Answering()
        port = UdpPort(0, answering, interface, ManualReactor())
        with listening(port, port.reactor):
            own = port.getHost().port  # type: ignore[no-untyped-call]
            port.answer(b"x", (loopback, own))
            port.answer(b"x", ("127.0.0.1", other.address.port))
            assert port.datagrams_unanswered == 2
            # There nobody listens: it may be a client's.
            port.answer(b"x", (loopback, own % 60000 + 1025))
            assert port.datagrams_unanswered == 2


def test_of_unix_senders_only_those_with_their_own_name_are_answered(tmp_path: Path) -> None:
    answering = Answering("relative", b"\0not there", None)
    with Unix(tmp_path, answering) as unix:
        unix.say(b"x")
        unix.port.doRead()
        assert drain(unix.peer) == [b"x"]
        assert _held_back(unix.port) == (1, 1)  # the abstract name nobody has
        sender: Any = answering.received[0][1]
        assert sender == unix.name
        assert sender.uid == os.getuid()
        unix.port.answer(b"forged", _of_another_user(sender))
        assert _held_back(unix.port) == (2, 1)
        assert drain(unix.peer) == []


def test_no_unix_listener_of_this_process_is_answered(tmp_path: Path) -> None:
    with Unix(tmp_path, Answering()) as unix:
        abstract = UnixDatagramPort(
            b"\0" + os.fsencode(tmp_path / "a"), Answering(), 0o600, ManualReactor()
        )
        with listening(abstract, abstract.reactor):
            unix.port.answer(b"x", b"\0" + os.fsencode(tmp_path / "a"))
            assert unix.port.datagrams_unanswered == 1
            os.link(unix.path, tmp_path / "alias")
            own = Sender(str(tmp_path / "alias"))
            own.uid = os.getuid()
            unix.port.answer(b"x", own)
            assert unix.port.datagrams_unanswered == 2


def test_nobody_gets_an_answer_in_among_those_that_wait_for_another(tmp_path: Path) -> None:
    answering = Answering()
    with Unix(tmp_path, answering) as unix:
        unix.say(b"x")
        fill(unix.name)
        unix.port.doRead()
        sender: Any = answering.received[0][1]
        unix.port.answer(b"forged", _of_another_user(sender))
        assert _held_back(unix.port) == (1, 0)
        drain(unix.peer)
        unix.reactor.advance(LONGEST_PAUSE)
        assert drain(unix.peer) == [b"x"]


def test_who_was_not_asked_for_has_no_user(tmp_path: Path) -> None:
    recorder = Recorder()
    with Unix(tmp_path, recorder) as unix:
        unix.say(b"x")
        unix.port.doRead()
        assert type(recorder.received[0][1]) is str


def test_asked_for_the_user_a_long_datagram_is_told_by_its_size(tmp_path: Path) -> None:
    class Both(Truncating): ...

    both = implementer(IAnswering)(Both)()
    with Unix(tmp_path, both) as unix:
        unix.say(b"too long")
        unix.port.doRead()
        assert both.truncated == [(b"too ", 8, unix.name)]


def test_on_an_inherited_socket_senders_are_asked_for_as_well(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as kept,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer,
    ):
        kept.bind(str(tmp_path / "s"))
        kept.setblocking(False)
        peer.bind(str(tmp_path / "p"))
        peer.setblocking(False)
        peer.sendto(b"before", str(tmp_path / "s"))  # of whom nothing was asked then
        port = UnixDatagramPort.inheriting(kept.dup(), Answering(), ManualReactor())
        with listening(port, port.reactor):
            peer.sendto(b"after", str(tmp_path / "s"))
            port.doRead()
            assert drain(peer) == [b"after"]
            assert _held_back(port) == (1, 0)
