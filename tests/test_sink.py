from __future__ import annotations

import gc
import os
import pty
import socket
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater
from twisted.logger import formatEvent

from sockservices import sink as module
from sockservices.logs import to_sink
from sockservices.sink import Sink, flush_all, reopen_all, standard
from tests.fakes import logged, pipe_at, read_pipe, until, with_reactor

reactor: Any = _reactor


@contextmanager
def _closing(*sinks: Sink) -> Iterator[None]:
    try:
        yield
    finally:
        for each in sinks:
            module._stalled.discard(each)
            module._opened.discard(each)
            each._queue.clear()
            if each.fileno() >= 0:
                reactor.removeWriter(each)
                each._close()


@pytest.fixture(params=["pipe", "socket", "terminal", "the pipe of another user"])
def stalling(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[int, int]]:
    """Return the reading end, which never blocks, and the writing end of each kind of file."""
    if request.param == "socket":
        ends = [each.detach() for each in socket.socketpair()]
    elif request.param == "terminal":
        ends = list(pty.openpty())
        attributes = termios.tcgetattr(ends[1])
        attributes[1] &= ~termios.OPOST  # leave line ends alone
        termios.tcsetattr(ends[1], termios.TCSANOW, attributes)
    else:
        ends = list(os.pipe())
    os.set_blocking(ends[0], False)
    with monkeypatch.context() as patching:
        if request.param == "the pipe of another user":

            def denied(*_: object) -> int:
                raise PermissionError(13, "Permission denied")

            patching.setattr(os, "open", denied)
        yield ends[0], ends[1]
    for each in ends:
        os.close(each)


@with_reactor
async def test_nothing_waits_for_a_reader_and_all_is_written_in_order(
    stalling: tuple[int, int],
) -> None:
    reading, writing = stalling
    sink = Sink(fd=writing)
    assert sink.may_stall
    done: list[OSError | None] = []
    with _closing(sink):
        written = b""
        while len(written) < 1 << 19:  # more than any of them holds
            sink.write(data := b"%06d" % len(written) + b"." * 9000 + b"\n", done.append)
            sink.write_line(line := b"line %d\n" % len(written))
            written += data + line
        assert os.get_blocking(writing)
        assert len(done) < 40
        received = read_pipe(reading)
        while len(received) < len(written):
            await deferLater(reactor, 0)
            received += read_pipe(reading)
        assert received == written
        await until(lambda: sink not in reactor.getWriters())
        assert set(done) == {None}


def test_lines_that_nobody_reads_are_dropped_counted_and_told(tmp_path: Path) -> None:
    line = b"." * 999 + b"\n"
    with pipe_at(tmp_path / "pipe") as reading, logged() as events:
        sink = Sink(str(tmp_path / "pipe"))
        with _closing(sink):
            for _ in range(3000):
                sink.write_line(line)
            received = b""
            while part := read_pipe(reading):
                received += part
                sink.doWrite()
            kept = received.count(line)
            assert received == line * kept
            assert 1000 < kept < 2000
            assert events == []
            sink.write_line(b"after\n")
            told = "log lines were dropped: nobody read them in time"
            assert [formatEvent(each) for each in events] == [f"{3000 - kept} {told}"]
            assert read_pipe(reading) == b"after\n"


def test_those_that_write_to_one_pipe_share_a_sink(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    kept = os.dup(1), os.dup(2)
    try:
        for each in (1, 2):
            os.dup2(writing, each)
        assert standard(1) is standard(2)
    finally:
        for number, each in enumerate(kept, 1):
            os.dup2(each, number)
            os.close(each)
        os.close(reading)
        os.close(writing)
    assert standard(1) is not standard(2)
    monkeypatch.setattr(sys, "__stdout__", None)
    with pytest.raises(OSError, match="Bad file descriptor"):
        standard(1)


@with_reactor
async def test_a_fifo_is_waited_for_until_it_has_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with logged() as events:
        sink = Sink(str(path))
    assert [formatEvent(each) for each in events] == [f"waiting for a reader of {path}"]
    done: list[OSError | None] = []
    first = b"." * 200_000 + b"\n"  # more than a pipe holds
    sink.write(first, done.append)
    sink.write(b"second\n", done.append)
    await deferLater(reactor, 0)
    assert done == []
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with _closing(sink):
        received = bytearray()

        def all_is_read() -> bool:
            received.extend(read_pipe(reading))
            return len(done) == 2

        await until(all_is_read)
        assert done == [None, None]
        assert received + read_pipe(reading) == first + b"second\n"
        sink.write(b"third\n")
        assert read_pipe(reading) == b"third\n"
    os.close(reading)


@pytest.mark.parametrize("old", [True, False])
def test_a_file_that_was_moved_is_opened_again_with_its_mode(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "log"
    sink = Sink(str(path))
    with _closing(sink), logged() as events:
        path.chmod(0o640)
        sink.write(b"before\n")
        path.rename(tmp_path / "moved")
        if old:  # another program has made the new one
            path.write_bytes(b"theirs\n")
            path.chmod(0o600)
        sink.write(b"between\n")
        before = os.umask(0o077)  # as twistd sets it in the background
        reopen_all()
        reopen_all()
        os.umask(before)
        sink.write(b"after\n")
    assert [formatEvent(each) for each in events] == [f"opened {path} again"]
    assert (tmp_path / "moved").read_bytes() == b"before\nbetween\n"
    assert path.read_bytes() == b"theirs\n" * old + b"after\n"
    assert path.stat().st_mode & 0o777 == (0o600 if old else 0o640)


def test_a_file_that_was_truncated_has_no_gap(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = Sink(str(path))
    with _closing(sink):
        sink.write(b"before\n")
        os.truncate(path, 0)
        sink.write(b"after\n")
        reopen_all()
        sink.write(b"again\n")
    assert path.read_bytes() == b"after\nagain\n"


def test_a_file_that_cannot_be_opened_again_stays_open(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    sink = Sink(str(folder / "log"))
    with _closing(sink), logged() as events:
        folder.rename(tmp_path / "moved")
        reopen_all()
        sink.write(b"after\n")
    assert (tmp_path / "moved" / "log").read_bytes() == b"after\n"
    assert [formatEvent(each) for each in events] == [
        f"cannot open {folder / 'log'} again, so the file that was open is still written to: "
        "No such file or directory"
    ]


def test_an_error_is_reported_for_all_that_waits(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    done: list[OSError | None] = []
    with pipe_at(path):
        sink = Sink(str(path))
        for _ in range(3):
            sink.write(b"." * 100_000, done.append)
        assert done == []
    with _closing(sink):
        sink.doWrite()
        assert [type(each) for each in done] == [BrokenPipeError] * 3


def test_at_the_end_a_reader_has_a_second_for_all_that_waits(tmp_path: Path) -> None:
    with pipe_at(tmp_path / "pipe") as reading:
        sink = Sink(str(tmp_path / "pipe"))
        with _closing(sink):
            data = os.urandom(1 << 19)
            done: list[OSError | None] = []
            sink.write(data, done.append)
            received: list[bytes] = []

            def read() -> None:
                while sum(map(len, received)) < len(data):
                    received.append(read_pipe(reading))

            reader = threading.Thread(target=read)
            reader.start()
            flush_all()
            reader.join()
            assert b"".join(received) == data
            assert done == [None]
            sink.write(data, done.append)
            sink._patience = 0.01
            flush_all()  # returns although nobody reads
            flush_all()
            assert done == [None]


@with_reactor
async def test_threads_may_log_while_the_reader_is_slow(tmp_path: Path) -> None:
    with pipe_at(tmp_path / "pipe") as reading:
        sink = Sink(str(tmp_path / "pipe"))
        observe = to_sink(sink)

        def log(name: str) -> None:
            for number in range(500):
                observe({"log_format": f"{name} {number}." + "x" * 200, "log_time": 0.0})

        with _closing(sink):
            names = ("one", "two", "three")
            threads = [threading.Thread(target=log, args=(name,)) for name in names]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            received = b""
            while received.count(b"\n") < 1500:
                received += read_pipe(reading)
                await deferLater(reactor, 0)
    texts = [line.split(b" ", 2)[2] for line in received.splitlines()]
    for name in names:
        ours = [text for text in texts if text.startswith(name.encode())]
        assert ours == [f"{name} {number}.".encode() + b"x" * 200 for number in range(500)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_destructor_may_log_while_another_line_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    sink = Sink(str(tmp_path / "log"))
    write = os.write

    def interrupted(fd: int, data: bytes) -> int:
        monkeypatch.undo()
        count = write(fd, data[:3]) if when == "after" else 0
        sink.write_line(b"inner\n")
        return count

    with _closing(sink):
        monkeypatch.setattr(os, "write", interrupted)
        sink.write_line(b"outer\n")
        sink.write_line(b"next\n")
    assert (tmp_path / "log").read_text() == "outer\ninner\nnext\n"
    assert sink not in module._stalled


def test_what_follows_a_record_may_fail_without_harm_to_others(tmp_path: Path) -> None:
    done: list[str] = []

    def fail(_error: OSError | None) -> None:
        raise ZeroDivisionError

    with pipe_at(tmp_path / "pipe") as reading:
        sink = Sink(str(tmp_path / "pipe"))
        with _closing(sink), logged() as events:
            sink.write(b"." * 100_000, fail)
            sink.write(b"second", lambda _error: done.append("second"))
            read_pipe(reading)
            sink.doWrite()
    assert done == ["second"]
    assert [each["log_failure"].type for each in events] == [ZeroDivisionError]


def test_its_file_is_closed_when_nobody_has_it_any_more(tmp_path: Path) -> None:
    gc.collect()
    before = os.listdir("/proc/self/fd")
    sink = Sink(str(tmp_path / "new"))
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    del sink
    assert os.listdir("/proc/self/fd") == before
