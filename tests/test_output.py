from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from sockservices.output import Output
from tests.fakes import Source, close_output, output_to, pipe_at, read_pipe, until, with_reactor

reactor: Any = _reactor
RECORD = b"." * 1000 + b"\n"


def _fill(output: Output, source: Source) -> int:
    """Write records until the source is paused; return how many."""
    count = 0
    while not source.told:
        output.write(b"%06d" % count + RECORD, source)
        count += 1
    return count


def _records(count: int) -> bytes:
    return b"".join(b"%06d" % number + RECORD for number in range(count))


def _resumed(output: Output, source: Source) -> Deferred[None]:
    """Return a Deferred that fires when the source is told to go on."""
    result: Deferred[None] = Deferred()
    before = source.told.count("resume")

    class Waiting(Source):
        def resumeProducing(self) -> None:
            super().resumeProducing()
            if self.told.count("resume") == before + 1:
                reactor.callLater(0, result.callback, None)  # past the turn that resumes

    source.__class__ = Waiting
    return result


@contextmanager
def _given_up_when_it_hangs() -> Iterator[None]:
    """Fail a test that would never end. What ends does so long before."""

    def give_up(*_: object) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(5)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _ended(output: Output) -> Deferred[None]:
    result: Deferred[None] = Deferred()
    output.end(then=lambda: result.callback(None))
    return result


@given(st.lists(st.binary()))
def test_records_are_appended_whole_and_in_order(records: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(b"before")
        with output_to(path) as output:
            for record in records:
                output.write(record)
                assert path.read_bytes().endswith(record)
        assert path.read_bytes() == b"before" + b"".join(records)


@given(st.lists(st.text(st.characters(codec="ascii"), max_size=5000)))
def test_texts_are_appended_whole_and_in_order(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        with output_to(path) as output:
            output.write_texts(texts)
        assert path.read_bytes() == "".join(texts).encode()


def test_texts_go_into_a_pipe_whole_several_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [str(number) * 1500 for number in range(5)] + ["x"]
    written: list[bytes] = []
    write = os.write

    def spy(fd: int, data: bytes) -> int:
        count = write(fd, data)
        written.append(bytes(data[:count]))
        return count

    with pipe_at(tmp_path / "pipe"), output_to(tmp_path / "pipe") as output:
        monkeypatch.setattr(os, "write", spy)
        output.write_texts(texts)
        monkeypatch.undo()
    together = [texts[0] + texts[1], texts[2] + texts[3], texts[4] + texts[5]]
    assert [data.decode() for data in written] == together


def test_a_file_is_made_when_it_is_missing(tmp_path: Path) -> None:
    with output_to(tmp_path / "new") as output:
        output.write(b"first\n")
    assert (tmp_path / "new").read_bytes() == b"first\n"


def test_its_file_is_closed_when_nobody_has_it_any_more(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    output = Output(str(tmp_path / "new"))
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    del output
    assert os.listdir("/proc/self/fd") == before


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Output(str(tmp_path))


def test_without_a_path_it_is_the_real_standard_output(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with open(tmp_path / "elsewhere", "w") as elsewhere:
        monkeypatch.setattr("sys.stdout", elsewhere)
        Output().write("Grüße\n".encode())
        monkeypatch.undo()
    assert capfd.readouterr().out == "Grüße\n"
    assert (tmp_path / "elsewhere").read_text() == ""


def test_a_reader_of_a_pipe_sees_each_record_at_once(tmp_path: Path) -> None:
    source = Source()
    with pipe_at(tmp_path / "pipe") as reading, output_to(tmp_path / "pipe") as output:
        for record in (b"one\n", b"two\n"):
            output.write(record, source)
            assert read_pipe(reading) == record
    assert source.told == []


@with_reactor
async def test_a_reader_that_does_not_read_pauses_the_source_until_it_reads(
    tmp_path: Path,
) -> None:
    source = Source()
    with pipe_at(tmp_path / "pipe") as reading, output_to(tmp_path / "pipe") as output:
        count = _fill(output, source)
        assert source.told == ["pause"]
        resumed = _resumed(output, source)
        received = read_pipe(reading)
        await resumed
        assert source.told == ["pause", "resume"]
        assert received + read_pipe(reading) == _records(count)
        assert output._sink not in reactor.getWriters()


@with_reactor
async def test_what_comes_while_records_wait_is_written_after_them(tmp_path: Path) -> None:
    source, other = Source(), Source()
    with pipe_at(tmp_path / "pipe") as reading, output_to(tmp_path / "pipe") as output:
        count = _fill(output, source)
        received = read_pipe(reading)  # there is room again, and nobody has told the output
        output.write(b"other\n", other)
        assert other.told == ["pause"]
        resumed = _resumed(output, other)
        await resumed
        assert source.told == ["pause", "resume"]
        assert received + read_pipe(reading) == _records(count) + b"other\n"


@with_reactor
async def test_a_source_of_many_records_that_wait_is_resumed_once(tmp_path: Path) -> None:
    source = Source()
    with pipe_at(tmp_path / "pipe") as reading, output_to(tmp_path / "pipe") as output:
        _fill(output, source)
        for _ in range(3):
            output.write(RECORD, source)
        resumed = _resumed(output, source)
        read_pipe(reading)
        await resumed
        assert source.told.count("resume") == 1


@with_reactor
async def test_a_source_that_somebody_else_resumed_is_paused_again(tmp_path: Path) -> None:
    source = Source()
    with pipe_at(tmp_path / "pipe") as reading, output_to(tmp_path / "pipe") as output:
        _fill(output, source)
        source.resumeProducing()  # as a transport does whose own buffer has room again
        output.write(RECORD, source)
        told = list(source.told)
        resumed = _resumed(output, source)
        read_pipe(reading)
        await resumed
    assert told == ["pause", "resume", "pause"]


@with_reactor
async def test_the_end_comes_after_the_last_record_and_resumes_nobody(tmp_path: Path) -> None:
    source = Source()
    with pipe_at(tmp_path / "pipe") as reading, output_to(tmp_path / "pipe") as output:
        count = _fill(output, source)
        ended = _ended(output)
        assert not ended.called
        received = read_pipe(reading)
        await ended
        assert received + read_pipe(reading) == _records(count)
        assert source.told == ["pause"]


def test_the_end_comes_at_once_when_nothing_waits(tmp_path: Path) -> None:
    with output_to(tmp_path / "file") as output:
        output.write(b"!")
        assert _ended(output).called


@with_reactor
async def test_a_record_larger_than_a_pipe_holds_is_written_whole_and_never_waited_for(
    tmp_path: Path,
) -> None:
    # Reader and writer are one thread here: what the one waits for, the other cannot do.
    record = os.urandom(1 << 20)
    source = Source()
    with pipe_at(tmp_path / "pipe") as reading, output_to(tmp_path / "pipe") as output:
        with _given_up_when_it_hangs():
            output.write(record, source)
        assert source.told == ["pause"]
        ended = _ended(output)
        received = b""
        while not ended.called:
            received += read_pipe(reading)
            await deferLater(reactor, 0)
        assert received + read_pipe(reading) == record


def test_a_slow_reader_of_a_long_record_is_not_waited_for(tmp_path: Path) -> None:
    done = threading.Event()
    with pipe_at(tmp_path / "pipe") as reading, output_to(tmp_path / "pipe") as output:

        def read() -> None:
            while not done.wait(0.001):
                with suppress(BlockingIOError):
                    os.read(reading, 4096)

        reader = threading.Thread(target=read)
        reader.start()
        source = Source()
        output.write(b"." * (16 << 20), source)  # half a minute for such a reader
        assert source.told == ["pause"]
        done.set()
        reader.join()


def test_a_reader_that_has_gone_fails_the_output_once_with_one_line(tmp_path: Path) -> None:
    failures: list[str] = []
    source = Source()
    path = tmp_path / "pipe"
    with pipe_at(path):
        output = Output(str(path), failures.append)
    output.write(b"one\n", source)
    output.write(b"two\n", source)
    close_output(output)
    assert failures == [f"cannot write to {path}: Broken pipe"]
    assert source.told == ["pause"]


@with_reactor
async def test_a_reader_that_goes_while_records_wait_fails_the_output_once(
    tmp_path: Path,
) -> None:
    failed: Deferred[str] = Deferred()
    source = Source()
    path = tmp_path / "pipe"
    with pipe_at(path):
        output = Output(str(path), failed.callback)
        _fill(output, source)
    assert await failed == f"cannot write to {path}: Broken pipe"
    await deferLater(reactor, 0)  # past the turn in which it failed
    assert output._sink not in reactor.getWriters()
    assert source.told == ["pause"]
    close_output(output)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_fails_the_output_once_with_one_line() -> None:
    failures: list[str] = []
    source = Source()
    with output_to(Path("/dev/full"), failures.append) as output:
        output.write(b"one\n", source)
        output.write(b"two\n", source)
    assert failures == ["cannot write to /dev/full: No space left on device"]
    assert source.told == ["pause"]


def test_the_end_of_the_reactor_loses_nothing_that_can_be_written(tmp_path: Path) -> None:
    source = Source()
    with pipe_at(tmp_path / "pipe") as reading, output_to(tmp_path / "pipe") as output:
        count = _fill(output, source)
        received = read_pipe(reading)
        output._get_sink().connectionLost(Failure(CONNECTION_LOST))  # as for each writer at the end
        assert _ended(output).called
        assert received + read_pipe(reading) == _records(count)


def _too_much(output: Output, source: Source) -> int:
    """Write until too much waits, from sources that are paused at once; return how many records."""
    count = 0
    while "pause" not in source.told:
        output.write(b"%06d" % count + RECORD, Source())
        count += 1
    return count


@with_reactor
async def test_when_too_much_waits_all_sources_and_listeners_pause_until_all_is_read(
    tmp_path: Path,
) -> None:
    quiet, gone, late, listeners = Source(), Source(), Source(), Source()
    with pipe_at(tmp_path / "pipe") as reading, output_to(tmp_path / "pipe") as output:
        output.add_listeners(listeners.pauseProducing, listeners.resumeProducing)
        output.add_source(quiet)
        output.add_source(gone)
        count = _too_much(output, quiet)
        assert count * len(b"......" + RECORD) < 1 << 21
        assert [each.told for each in (quiet, gone, listeners)] == [["pause"]] * 3
        output.add_source(late)  # accepted before the listeners paused
        assert late.told == ["pause"]
        output.remove_source(gone)
        received = read_pipe(reading)
        while len(received) < len(_records(count)):
            await deferLater(reactor, 0)
            received += read_pipe(reading)
        assert received == _records(count)
        await until(lambda: listeners.told == ["pause", "resume"])
        assert [each.told for each in (quiet, late)] == [["pause", "resume"]] * 2
        assert gone.told == ["pause"]
        output.write(b"after\n", quiet)
        assert read_pipe(reading) == b"after\n"


def test_a_source_is_not_paused_for_others_while_little_waits(tmp_path: Path) -> None:
    quiet, listeners = Source(), Source()
    with pipe_at(tmp_path / "pipe"), output_to(tmp_path / "pipe") as output:
        output.add_listeners(listeners.pauseProducing, listeners.resumeProducing)
        output.add_source(quiet)
        _fill(output, Source())
        assert quiet.told == listeners.told == []
