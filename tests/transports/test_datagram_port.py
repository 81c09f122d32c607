from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import formatEvent
from zope.interface import implementer

from sockservices.printable import DatagramPeer
from sockservices.service import IBatchReceiver
from sockservices.transports import datagram_port
from sockservices.transports.datagram_port import BYTES_A_TURN, DATAGRAMS_A_TURN
from sockservices.transports.udp import UdpPort
from sockservices.transports.unix_datagrams import UnixDatagramPort
from tests.fakes import ManualReactor, logged
from tests.transports.datagrams import (
    LONGEST_PAUSE,
    Recorder,
    Truncating,
    Udp,
    Unix,
    close,
    drain,
    fill,
    listening,
)

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


@settings(max_examples=20)
@given(st.binary(max_size=20_000))
def test_any_datagram_arrives_whole(data: bytes) -> None:
    recorder = Recorder()
    with Udp(recorder) as udp:
        udp.say(data)
        udp.port.doRead()
    assert recorder.datagrams == [data]


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


# Finishing


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
        assert "received datagrams were not handled: the time to stop is over" in said


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
