from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from sockservices.testing.processes import Collected, Twistd


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
