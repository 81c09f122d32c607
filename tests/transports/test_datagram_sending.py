from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import MessageLengthError
from twisted.logger import formatEvent

from sockservices.transports import unsent
from tests.fakes import logged
from tests.transports.datagrams import (
    LONGEST_PAUSE,
    Answering,
    Recorder,
    Udp,
    Unix,
    bound,
    close,
    drain,
    fill,
    held_back,
    of_another_user,
)


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


def test_a_peer_that_never_reads_takes_no_room_from_one_that_is_slow(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix, bound(tmp_path / "slow") as slow:
        fill(unix.name)
        fill(str(tmp_path / "slow"))
        for _ in range(2000):
            unix.port.write(b"!", unix.name)
        for number in range(10):
            unix.port.write(b"%d" % number, str(tmp_path / "slow"))
        drain(slow)
        unix.reactor.advance(LONGEST_PAUSE)
        assert drain(slow) == [b"%d" % number for number in range(10)]


def test_one_that_has_just_become_full_is_tried_soon(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix, bound(tmp_path / "slow") as slow:
        fill(unix.name)
        unix.port.write(b"waits", unix.name)
        for _ in range(20):
            unix.reactor.advance(LONGEST_PAUSE)
        fill(str(tmp_path / "slow"))
        unix.port.write(b"soon", str(tmp_path / "slow"))
        drain(slow)
        unix.reactor.advance(0.006)
        assert drain(slow) == [b"soon"]


@pytest.mark.parametrize(
    ("limit", "value", "kept"), [("UNSENT_DATAGRAMS", 2, 2), ("UNSENT_BYTES", 10, 3)]
)
def test_what_waits_is_bounded_and_the_excess_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, kept: int
) -> None:
    monkeypatch.setattr(unsent, limit, value)
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


def _retries(reactor: Any) -> list[Any]:
    """Return what is due, except what will be told of others."""
    return [each for each in reactor.getDelayedCalls() if "LogLimit" not in str(each)]


def test_a_peer_that_is_gone_is_counted(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix, logged() as events:
        unix.port.write(b"!", str(tmp_path / "nobody"))
        unix.peer.close()
        unix.port.write(b"!", unix.name)
        assert unix.port.datagrams_dropped == 2
        assert _retries(unix.reactor) == []
    # The others are only counted.
    assert [formatEvent(event) for event in events if "reason" in event] == [
        f"dropped a datagram to {tmp_path}/nobody: No such file or directory"
    ]


def test_a_peer_that_goes_while_datagrams_wait_for_it_is_counted(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix:
        fill(unix.name)
        unix.port.write(b"1", unix.name)
        unix.port.write(b"2", unix.name)
        unix.peer.close()
        unix.reactor.advance(LONGEST_PAUSE)
        assert unix.port.datagrams_dropped == 2
        assert _retries(unix.reactor) == []


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
    monkeypatch.setattr(unsent, "UNSENT_BYTES", 1 << 25)
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


def test_an_answer_goes_back_but_not_to_whom_nobody_should_answer() -> None:
    bad = [("127.0.0.1", 0), ("127.0.0.1", 7), ("224.0.0.1", 4000)]
    with Udp(Answering(*bad, None)) as udp, logged() as events:
        udp.say(b"x")
        udp.port.doRead()
        assert drain(udp.peer) == [b"x"]
        assert held_back(udp.port) == (3, 0)
    assert [formatEvent(each) for each in events if "answer" in str(each.get("log_format"))] == [
        "no answer to 127.0.0.1, port 0: port 0 is not a valid port"
    ]


def test_nobody_gets_an_answer_in_among_those_that_wait_for_another(tmp_path: Path) -> None:
    answering = Answering()
    with Unix(tmp_path, answering) as unix:
        unix.say(b"x")
        fill(unix.name)
        unix.port.doRead()
        sender: Any = answering.received[0][1]
        unix.port.answer(b"forged", of_another_user(sender))
        assert held_back(unix.port) == (1, 0)
        drain(unix.peer)
        unix.reactor.advance(LONGEST_PAUSE)
        assert drain(unix.peer) == [b"x"]
