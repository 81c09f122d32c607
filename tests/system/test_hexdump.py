"""sock-hexdump as an operator runs it: what is dumped, where it goes, and how it ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from tests.system.processes import BIN, PATIENCE, Running, Service, needs, run


def _send(path: Path, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        for datagram in datagrams:
            client.send(datagram)


def test_plain_is_the_tutorials_dump(tmp_path: Path) -> None:
    with Service("sock-hexdump", "--socket", "u", "--count", "2", cwd=tmp_path) as hexdump:
        _send(tmp_path / "u", b"Message", b"")
        assert hexdump.wait() == 0
        assert hexdump.out.whole() == "4d 65 73 73 61 67 65 \n\n"
    assert not (tmp_path / "u").exists()


def test_each_datagram_is_seen_at_once_through_a_pipe(tmp_path: Path) -> None:
    with Service("sock-hexdump", "--socket", "u", cwd=tmp_path) as hexdump:
        for number in range(3):
            _send(tmp_path / "u", bytes([number]))
            hexdump.out.wait_for(f"0{number} \n")


def test_streams_too(tmp_path: Path) -> None:
    with Service("sock-hexdump", "--listen", "tcp:0", "--count", "1", cwd=tmp_path) as hexdump:
        with hexdump.connect() as client:
            client.sendall(b"abc")
            assert hexdump.wait() == 0
        assert hexdump.out.whole() == "61 62 63 \n"


@needs("hexdump")
@pytest.mark.parametrize(
    "data", [b"x", b"0123456789abcdef", bytes(range(256)), b"a" * 100, b"\0" * 4096 + b"end"]
)
def test_canonical_is_what_hexdump_prints(tmp_path: Path, data: bytes) -> None:
    with Service(
        "sock-hexdump", "--socket", "u", "--format", "canonical", "--count", "1", cwd=tmp_path
    ) as dump:
        _send(tmp_path / "u", data)
        assert dump.wait() == 0
        ours = dump.out.whole()
    assert ours == run("hexdump", "-C", cwd=tmp_path, input=data).stdout.decode()


def test_json_is_an_object_a_line(tmp_path: Path) -> None:
    with Service(
        "sock-hexdump",
        *("--port", "0", "--format", "json", "--max-size", "4", "--count", "2"),
        cwd=tmp_path,
    ) as hexdump:
        with hexdump.connect_datagrams() as client:
            client.send(b"four")
            client.send(b"longer")
            peer = f"127.0.0.1, port {client.getsockname()[1]}"
        assert hexdump.wait() == 0
        one, two = map(json.loads, hexdump.out.whole().splitlines())
    assert one.pop("time") <= two.pop("time")
    assert one == {"peer": peer, "size": 4, "hex": "666f7572", "truncated": False}
    assert two == {"peer": peer, "size": 6, "hex": "6c6f6e67", "truncated": True}


def test_longer_than_max_size_is_marked_as_cut(tmp_path: Path) -> None:
    with Service(
        "sock-hexdump", "--socket", "u", "--max-size", "2", "--count", "1", cwd=tmp_path
    ) as hexdump:
        _send(tmp_path / "u", b"abc")
        assert hexdump.wait() == 0
        assert hexdump.out.whole() == "61 62 [truncated: 2 of 3 bytes]\n"


def test_count_is_exact_in_a_burst(tmp_path: Path) -> None:
    with Service("sock-hexdump", "--socket", "u", "--count", "3", cwd=tmp_path) as hexdump:
        os.kill(hexdump.process.pid, 19)
        _send(tmp_path / "u", *(bytes([number]) for number in range(8)))
        os.kill(hexdump.process.pid, 18)
        assert hexdump.wait() == 0
        assert hexdump.out.whole() == "00 \n01 \n02 \n"


def test_output_appends_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "dump").write_text("before\n")
    with Service(
        "sock-hexdump", "--socket", "u", "--output", "dump", "--count", "1", cwd=tmp_path
    ) as hexdump:
        _send(tmp_path / "u", b"!")
        assert hexdump.wait() == 0
    assert (tmp_path / "dump").read_text() == "before\n21 \n"


@pytest.mark.parametrize("as_option", [True, False])
def test_a_full_disk_ends_it_with_one_line(tmp_path: Path, as_option: bool) -> None:
    options = ["--output", "/dev/full"] if as_option else []
    name = "/dev/full" if as_option else "standard output"
    command: list[str | Path] = [BIN / "twistd", "-n", "--logfile=log"]
    with open("/dev/full", "wb") as full:
        stdout = subprocess.PIPE if as_option else full
        with Running(
            [*command, "sock-hexdump", "--socket", "u", *options],
            tmp_path,
            stdout=stdout,
        ) as hexdump:
            _wait_for_log(tmp_path / "log", "listening on")
            _send(tmp_path / "u", b"!")
            assert hexdump.wait() == 1
            assert (
                hexdump.err.whole() == f"twistd: cannot write to {name}: No space left on device\n"
            )
    assert not (tmp_path / "u").exists()


def test_a_closed_pipe_ends_it_with_one_line(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(writing, "wb") as stdout:
        hexdump = Running(
            [BIN / "twistd", "-n", "--logfile=log", "sock-hexdump", "--socket", "u"],
            tmp_path,
            stdout=stdout,
        )
    with hexdump:
        _wait_for_log(tmp_path / "log", "listening on")
        os.close(reading)
        _send(tmp_path / "u", b"!")
        assert hexdump.wait() == 1
        assert hexdump.err.whole() == "twistd: cannot write to standard output: Broken pipe\n"


def test_nothing_is_lost_for_a_reader_that_comes_late(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(writing, "wb") as stdout:
        hexdump = Service("sock-hexdump", "--socket", "u", cwd=tmp_path, stdout=stdout)
    datagrams = [number.to_bytes(4, "big") + b"." * 1000 for number in range(300)]
    with hexdump, open(reading, "rb") as late:
        sender = Running([_PYTHON, "-c", _SEND_ALL, "u", "300", "1000"], tmp_path)
        with sender:
            # 300 dumps are more than a pipe holds: it has stopped taking datagrams in by now.
            lines = [late.readline() for _ in range(300)]
            assert sender.wait() == 0
        hexdump.stop()
    assert [bytes.fromhex(line.decode()) for line in lines] == datagrams


_PYTHON = BIN / "python"
_SEND_ALL = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
    client.connect(sys.argv[1])
    for number in range(int(sys.argv[2])):
        client.send(number.to_bytes(4, "big") + b"." * int(sys.argv[3]))
"""


@pytest.mark.parametrize("size", [1000, 60000])  # a dump that a pipe takes whole, and one it cannot
def test_it_stops_while_nobody_reads_and_says_what_was_not_written(
    tmp_path: Path, size: int
) -> None:
    reading, writing = os.pipe()
    with open(writing, "wb") as stdout:
        hexdump = Service("sock-hexdump", "--socket", "u", cwd=tmp_path, stdout=stdout)
    with hexdump, Running([_PYTHON, "-c", _SEND_ALL, "u", "300", str(size)], tmp_path):
        _wait_until_full(hexdump.process.pid, tmp_path / "u")
        hexdump.stop()
        hexdump.err.wait_for("records not written: standard output was not read in time")
    os.close(reading)


def _wait_until_full(pid: int, path: Path) -> None:
    """Wait until the service takes no more datagrams in, which its senders notice."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(str(path))
        client.settimeout(4)  # much longer than a busy machine may leave the service without a turn
        with pytest.raises(TimeoutError):
            while True:
                client.send(b"." * 1000)


def _wait_for_log(path: Path, text: str) -> None:
    with Running(["tail", "-n", "+1", "-F", path], path.parent) as tail:
        tail.out.wait_for(text)


def test_dumps_apart_from_logs(tmp_path: Path) -> None:
    with Service("sock-hexdump", "--socket", "u", cwd=tmp_path) as hexdump:
        _send(tmp_path / "u", b"!")
        hexdump.out.wait_for("21 \n")
        hexdump.stop()
        assert hexdump.out.whole() == "21 \n"
        assert "listening on unixgram:u\n" in hexdump.err.whole()


_LOUD = """
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from sockservices import Output

class Loud(DatagramProtocol):
    log = Logger()
    output = Output()

    def datagramReceived(self, data, peer):
        self.log.info("before {n}", n=data[0])
        self.output.write(data.hex(" ").encode() + b" \\n", self.transport)
        self.log.info("after {n}", n=data[0])
"""


def test_logs_on_standard_output_never_tear_a_line(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(_LOUD)
    with Running(
        [BIN / "twistd", "-n", "sock-serve", "--factory=loud.Loud", "--socket=u"],
        tmp_path,
    ) as loud:
        loud.out.wait_for("listening on")
        for number in range(50):
            _send(tmp_path / "u", bytes([number]) * 3000)
        loud.out.wait_for("after 49")
        loud.stop()
        lines = loud.out.whole().splitlines()
    logged = [line for line in lines if line.startswith(_YEAR)]
    dumps = [line for line in lines if not line.startswith(_YEAR)]
    assert dumps == [f"{number:02x} " * 3000 for number in range(50)]
    for number in range(50):
        assert sum(line.endswith(f" {word} {number}") for line in logged for word in _WORDS) == 2


_YEAR = f"{datetime.now().year}-"
_WORDS = ("before", "after")
