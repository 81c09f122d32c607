from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sockservices.cli import sender
from sockservices.cli.send import send
from tests.cli.running import run


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    """Return a UDP socket that waits for datagrams on the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(30)
        yield receiver


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[socket.socket]:
    """Return a Unix socket that does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "socket"))
        receiver.settimeout(30)
        yield receiver


def _where(receiver: socket.socket) -> str:
    name = receiver.getsockname()
    return f"unixgram:{name}" if isinstance(name, str) else f"udp:127.0.0.1:{name[1]}"


def test_a_text_is_one_datagram_byte_by_byte(udp: socket.socket, unix: socket.socket) -> None:
    for receiver in (udp, unix):
        for text in ("hello", "", "h\u00e9llo\n", os.fsdecode(b"\xff")):
            assert run(send, _where(receiver), "--", text) == (0, "", "")
            assert receiver.recv(100) == os.fsencode(text)


def test_a_port_alone_is_that_of_this_machine(udp: socket.socket) -> None:
    assert run(send, f"udp:{udp.getsockname()[1]}", "hello")[0] == 0
    assert udp.recv(100) == b"hello"


def test_an_abstract_name_has_no_file(tmp_path: Path) -> None:
    name = f"{tmp_path}-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        assert run(send, f"unixgram:abstract={name}", "hello")[0] == 0
        assert receiver.recv(100) == b"hello"


def test_bytes_can_be_given_in_hex_or_in_a_file(udp: socket.socket, tmp_path: Path) -> None:
    assert run(send, _where(udp), "--hex", "4d 65 00FF")[0] == 0
    assert udp.recv(100) == b"Me\0\xff"
    (tmp_path / "file").write_bytes(b"of\na file\0")
    assert run(send, _where(udp), "--file", str(tmp_path / "file"))[0] == 0
    assert udp.recv(100) == b"of\na file\0"


def test_a_dash_is_standard_input(udp: socket.socket) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe\n")
    os.close(writing)
    kept = os.dup(0)
    try:
        os.dup2(reading, 0)
        assert run(send, _where(udp), "-")[0] == 0
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reading)
    assert udp.recv(100) == b"from a pipe\n"


def test_it_is_sent_so_many_times_with_a_pause_between_two(
    udp: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("sockservices.cli.send.time", SimpleNamespace(sleep=pauses.append))
    assert run(send, _where(udp), "hello", "--repeat=3", "--interval=0.5") == (0, "", "")
    assert [udp.recv(100) for _ in range(3)] == [b"hello"] * 3
    assert pauses == [0.5, 0.5]


def test_a_reply_to_each_is_printed_on_a_line_of_its_own(
    udp: socket.socket, unix: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    for receiver in (udp, unix):

        def answer(receiver: socket.socket = receiver) -> None:
            for reply in (b"one", b"two\n"):
                _data, peer = receiver.recvfrom(100)
                receiver.sendto(reply, peer)

        answering = threading.Thread(target=answer)
        answering.start()
        assert run(send, _where(receiver), "hello", "--repeat=2", "--wait=30")[0] == 0
        answering.join()
        assert capfd.readouterr().out == "one\ntwo\n"


def test_a_reply_that_does_not_come_is_told(udp: socket.socket) -> None:
    status, printed, said = run(send, _where(udp), "hello", "--wait=0.001")
    assert (status, printed) == (1, "")
    assert _where(udp) in said
    assert "0.001" in said


def test_where_nobody_is_that_is_told(tmp_path: Path) -> None:
    status, _printed, said = run(send, f"unixgram:{tmp_path}/none", "hello")
    assert status == 1
    assert "No such file or directory" in said


def test_one_that_is_too_long_is_told(udp: socket.socket, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(65508))
    status, _printed, said = run(send, _where(udp), f"--file={tmp_path}/file")
    assert status == 1
    assert "Message too long" in said


@pytest.mark.parametrize("host", ["ab..c", "x" * 64])
def test_a_name_that_can_be_no_host_is_told(host: str) -> None:
    status, _printed, said = run(send, f"udp:{host}:7", "hello")
    assert status == 1
    assert host in said


def test_a_host_that_is_not_found_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "nobody knows it")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    status, _printed, said = run(send, "udp:somewhere:7", "hello")
    assert status == 1
    assert "somewhere" in said
    assert "nobody knows it" in said


def test_all_addresses_of_a_host_are_tried(
    udp: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = socket.getaddrinfo("127.0.0.1", udp.getsockname()[1], type=socket.SOCK_DGRAM)
    nobody = [(*each[:4], ("127.0.0.1", 1)) for each in here]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*nobody, *here])
    assert run(send, f"udp:localhost:{udp.getsockname()[1]}", "hello", "--repeat=2")[0] == 0
    assert [udp.recv(100), udp.recv(100)] == [b"hello"] * 2


def test_one_that_never_reads_is_not_waited_for_for_ever(
    unix: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_PATIENCE", 0.01)
    status, printed, said = run(send, _where(unix), "hello", "--repeat=10000")
    assert (status, printed) == (1, "")
    assert said.endswith(f"cannot send to {_where(unix)}: its queue stays full\n")


@pytest.mark.parametrize(
    ("arguments", "faulty"),
    [
        (["tcp:127.0.0.1:7", "x"], "'tcp:127.0.0.1:7'"),
        (["udp", "x"], "udp"),
        (["udp:127.0.0.1:port", "x"], "'port'"),
        (["udp:127.0.0.1:65536", "x"], "65536"),
        (["udp::7", "x"], "udp"),
        (["unixgram:", "x"], "unixgram"),
        (["unixgram:/run/x:abstract=x", "x"], "abstract"),
        (["unixgram:/run/" + "x" * 200, "x"], "205"),
        (["udp:7"], "--hex"),
        (["udp:7", "x", "--hex=00"], "--file"),
        (["udp:7", "--hex=0"], "'0'"),
        (["udp:7", "--file=/nowhere/file"], "/nowhere/file"),
        (["udp:7", "x", "--repeat=0"], "--repeat"),
        (["udp:7", "x", "--interval=-1"], "--interval"),
        (["udp:7", "x", "--wait=0"], "--wait"),
        ([], "DESCRIPTION"),
    ],
)
def test_what_cannot_be_understood_is_a_usage_error(arguments: list[str], faulty: str) -> None:
    status, printed, said = run(send, *arguments)
    assert (status, printed) == (2, "")
    assert faulty in said
