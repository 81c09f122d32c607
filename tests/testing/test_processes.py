from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from sockservices.testing.processes import Collected, Twistd, default_signals


def test_a_command_as_an_operator_runs_it(twistd: Any) -> None:
    echo = twistd("sock-echo", "--port", "0", "--listen", "udp:0", "--report")
    assert len(echo.ports) == 2
    with echo.connect() as peer:
        peer.sendall(b"x")
        assert peer.recv(1) == b"x"
    assert echo.stop() == 0
    assert b"Received 1 bytes" in echo.output
    assert "Server Shut Down" in echo.log


@pytest.mark.parametrize(
    "listen", [r"tcp6:0:interface=\:\:1", r"unix:{}/s\:\=", r"unix:abstract={}\:\="]
)
def test_it_connects_to_listeners_of_all_kinds(twistd: Any, tmp_path: Path, listen: str) -> None:
    with twistd("sock-hello", "--listen", listen.format(tmp_path)).connect() as peer:
        assert peer.recv(100) == b"Hello, world!\n"


@pytest.mark.parametrize("listen", ["udp:0", "unixgram:{}/d"])
def test_and_to_datagram_listeners(twistd: Any, tmp_path: Path, listen: str) -> None:
    running = twistd("sock-hexdump", "--listen", listen.format(tmp_path))
    with running.connect() as peer:
        peer.send(b"one")
        peer.send(b"two")
    while running.output.count(b"\n") < 2:
        pass
    assert running.output == b"6f 6e 65 \n74 77 6f \n"


def test_one_that_cannot_listen_says_why(twistd: Any) -> None:
    with pytest.raises(RuntimeError, match=r"--port: 'x' is not a whole number"):
        twistd("sock-echo", "--port", "x")


@pytest.fixture
def pipe() -> Iterator[tuple[Collected, IO[bytes]]]:
    """Return what collects, and where to write what it collects."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", buffering=0) as stream:
        collected = Collected(os.fdopen(reading, "rb"))
        yield collected, stream
    collected.close()


def test_what_comes_is_collected_as_it_comes(pipe: tuple[Collected, IO[bytes]]) -> None:
    collected, stream = pipe
    assert collected.bytes == b""
    stream.write(b"one\n")
    collected.wait_for_bytes(4)
    assert collected.bytes == b"one\n"
    stream.write(b"two \xff\n")
    collected.wait_for_bytes(10)
    assert collected.text == "one\ntwo \N{REPLACEMENT CHARACTER}\n"
    stream.close()
    assert collected.whole() == collected.text


def test_a_pattern_is_waited_for_as_often_as_it_is_to_come(
    pipe: tuple[Collected, IO[bytes]],
) -> None:
    collected, stream = pipe
    later = threading.Timer(0.01, stream.write, [b"listening on 3\n"])
    stream.write(b"listening on 1\nlistening on 2\n")
    later.start()
    assert collected.wait_for(r"on (\d)")[1] == "1"
    assert collected.wait_for(r"on (\d)", times=3)[1] == "3"
    later.join()


def test_what_never_comes_is_told_with_all_that_came(pipe: tuple[Collected, IO[bytes]]) -> None:
    collected, stream = pipe
    stream.write(b"one\none\n")
    stream.close()
    with pytest.raises(RuntimeError, match="two") as caught:
        collected.wait_for("two")
    assert "one\none\n" in str(caught.value)
    with pytest.raises(RuntimeError, match=r"2.*3"):
        collected.wait_for("one", times=3)
    collected.wait_for_bytes(100)  # the end is enough


def test_one_that_ends_before_it_listens_says_why_and_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no-such-option"):
        Twistd(["sock-echo", "--no-such-option"], tmp_path)


def test_the_environment_and_the_folder_are_those_that_are_given(
    twistd: Any, tmp_path: Path
) -> None:
    running = twistd("sock-hello", environment={"SOCK_HELLO_LISTEN": "unix:s"})
    assert (tmp_path / "s").is_socket()
    assert running.ports == []
    assert running.wait_for("listening on (.*)")[1] == running.where[0]
    assert running.stop() == running.stop() == 0


def _ignored_by_a_child() -> str:
    """Return the signals that a new process ignores, but for those that Python itself ignores."""
    code = """if True:
        import signal
        ignored = [each for each in signal.Signals if signal.getsignal(each) == signal.SIG_IGN]
        print([each.name for each in ignored])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return done.stdout.decode()


def test_processes_start_with_default_signals_whatever_these_tests_ignore() -> None:
    pythons_own = "['SIGPIPE', 'SIGXFSZ']\n"
    before = signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert _ignored_by_a_child() != pythons_own
        with default_signals():
            assert _ignored_by_a_child() == pythons_own
            os.kill(os.getpid(), signal.SIGHUP)  # which still does nothing here
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGINT, before[1])


def test_a_service_under_test_reloads_though_the_tests_ignore_sighup(twistd: Any) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hello = twistd("sock-hello", "--port", "0")
    finally:
        signal.signal(signal.SIGHUP, before)
    hello.process.send_signal(signal.SIGHUP)
    assert hello.wait_for("reloaded")


def test_outside_the_main_thread_signals_stay_as_they_are() -> None:
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            with default_signals():
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not failed
