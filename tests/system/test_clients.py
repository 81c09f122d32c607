"""The command ``sockservices``, against our services and against foreign programs."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.system.processes import BIN, PATIENCE, Running, Service, needs, run

_COMMAND = BIN / "sockservices"


def _send(cwd: Path, *arguments: str, input: bytes | None = None) -> tuple[int, str, str]:  # noqa: A002
    done = run(_COMMAND, "send", *arguments, cwd=cwd, input=input)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def receiver(tmp_path: Path):  # type: ignore[no-untyped-def]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "u"))
        bound.settimeout(PATIENCE)
        yield bound


def test_send_text_hex_file_and_standard_input(tmp_path: Path, receiver: socket.socket) -> None:
    (tmp_path / "f").write_bytes(b"\0file\xff")
    assert _send(tmp_path, "unixgram:u", "Message") == (0, "", "")
    assert _send(tmp_path, "unixgram:u", "--hex", "4d 65") == (0, "", "")
    assert _send(tmp_path, "unixgram:u", "--file", "f") == (0, "", "")
    assert _send(tmp_path, "unixgram:u", "-", input=b"from\0stdin\n") == (0, "", "")
    assert [receiver.recv(100) for _ in range(4)] == [
        b"Message",
        b"Me",
        b"\0file\xff",
        b"from\0stdin\n",
    ]


def test_send_repeats(tmp_path: Path, receiver: socket.socket) -> None:
    arguments = ("unixgram:u", "x", "--repeat", "3", "--interval", "0.01")
    assert _send(tmp_path, *arguments) == (0, "", "")
    assert [receiver.recv(100) for _ in range(3)] == [b"x"] * 3


def test_send_shows_progress_on_a_terminal(tmp_path: Path, receiver: socket.socket) -> None:
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [_COMMAND, "send", "unixgram:u", "x", "--repeat=2"],
            cwd=tmp_path,
            stderr=theirs,
            timeout=PATIENCE,
            check=True,
        )
        assert b"100%" in os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("listen", ["udp:0", "unixgram:e", "unixgram:abstract={name}"])
def test_send_waits_for_a_reply(tmp_path: Path, listen: str) -> None:
    listen = listen.format(name=f"sockservices-test-{os.getpid()}")
    with Service("sock-echo", f"--listen={listen}", cwd=tmp_path) as echo:
        where = echo.where[0].replace("0.0.0.0", "127.0.0.1")
        assert _send(tmp_path, where, "hello", "--wait", "20") == (0, "hello\n", "")


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (
            ["unixgram:none", "x"],
            1,
            "sockservices send: cannot send to unixgram:none: No such file or directory\n",
        ),
        (
            ["unixgram:u", "x", "--wait=0.05"],
            1,
            "sockservices send: no reply from unixgram:u within 0.05 s\n",
        ),
        (["unixgram:u", "--hex", "4"], 2, "'4' is not hex: use pairs of digits, such as '4d 65'\n"),
        (["unixgram:u"], 2, "give one of TEXT, --hex and --file\n"),
        (["unixgram:u", "x", "--hex", "4d"], 2, "give one of TEXT, --hex and --file\n"),
        (
            ["tcp:127.0.0.1:7", "x"],
            2,
            "is not udp:HOST:PORT, unixgram:PATH or unixgram:abstract=NAME\n",
        ),
        (["udp:127.0.0.1:http", "x"], 2, "port: 'http' is not a whole number from 0 to 65535\n"),
        (["unixgram:u", "x", "--repeat", "0"], 2, "0 is not in the range x>=1.\n"),
    ],
)
@pytest.mark.usefixtures("receiver")
def test_what_send_cannot(tmp_path: Path, arguments: list[str], status: int, line: str) -> None:
    done_status, out, err = _send(tmp_path, *arguments)
    assert (done_status, out) == (status, "")
    assert err.endswith(line)
    assert "Traceback" not in err


def test_send_to_a_udp_port_that_nobody_has_says_so(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert _send(tmp_path, f"udp:127.0.0.1:{port}", "x", "--wait=20") == (
        1,
        "",
        f"sockservices send: cannot send to udp:127.0.0.1:{port}: Connection refused\n",
    )


@pytest.mark.parametrize("size", [0, 5, 5_000_000])
def test_connect_copies_both_ways_in_a_pipeline(tmp_path: Path, size: int) -> None:
    sent = os.urandom(size)
    with Service("sock-echo", "--port=0", "--socket=s", cwd=tmp_path) as echo:
        for place in (f"tcp:127.0.0.1:{echo.port}", "unix:s"):
            done = run(_COMMAND, "connect", place, cwd=tmp_path, input=sent)
            assert (done.returncode, done.stderr) == (0, b"")
            assert done.stdout == sent


def test_connect_takes_a_file_and_gives_one(tmp_path: Path) -> None:
    sent = os.urandom(300_000)
    (tmp_path / "in").write_bytes(sent)
    with (
        Service("sock-echo", "--port=0", cwd=tmp_path) as echo,
        open(tmp_path / "in", "rb") as given,
        open(tmp_path / "out", "wb") as taken,
        Running(
            [_COMMAND, "connect", f"tcp:127.0.0.1:{echo.port}"],
            tmp_path,
            stdin=given,
            stdout=taken,
        ) as connect,
    ):
        assert connect.wait() == 0
    assert (tmp_path / "out").read_bytes() == sent


def test_connect_is_a_conversation(tmp_path: Path) -> None:
    with (
        Service("sock-echo", "--port=0", cwd=tmp_path) as echo,
        Running(
            [_COMMAND, "connect", f"tcp:127.0.0.1:{echo.port}"],
            tmp_path,
            stdin=subprocess.PIPE,
        ) as connect,
    ):
        keyboard = connect.process.stdin
        assert keyboard is not None
        for line in (b"one\n", b"two\n"):
            keyboard.write(line)
            keyboard.flush()
            connect.out.wait_for(line.decode())
        keyboard.close()
        assert connect.wait() == 0


def test_connect_on_a_terminal_leaves_it_as_it_was(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        with Service("sock-echo", "--port=0", cwd=tmp_path) as echo:
            with Running(
                [_COMMAND, "connect", f"tcp:127.0.0.1:{echo.port}"],
                tmp_path,
                stdin=theirs,
                stdout=theirs,
            ) as connect:
                os.write(ours, b"typed\n")
                shown = b""
                while shown.count(b"typed") < 2:  # the terminal's own echo, and the peer's
                    assert select.select([ours], [], [], PATIENCE)[0]
                    shown += os.read(ours, 1000)
                os.write(ours, b"\x04")
                assert connect.wait() == 0
                assert os.get_blocking(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_connect_ends_when_the_peer_closes_though_input_is_open(tmp_path: Path) -> None:
    with (
        Service("sock-counter", "--port=0", cwd=tmp_path) as counter,
        Running(
            [_COMMAND, "connect", f"tcp:127.0.0.1:{counter.port}"],
            tmp_path,
            stdin=subprocess.PIPE,
        ) as connect,
    ):
        assert connect.wait() == 0
        assert connect.out.whole() == "Connection 1!\n"


def test_connect_to_nobody(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    done = run(_COMMAND, "connect", f"tcp:127.0.0.1:{port}", cwd=tmp_path)
    assert (
        done.stderr == f"sockservices connect: tcp:127.0.0.1:{port}: Connection refused\n".encode()
    )
    assert (done.returncode, done.stdout) == (1, b"")
    done = run(_COMMAND, "connect", "unix:none", cwd=tmp_path)
    assert done.stderr == b"sockservices connect: unix:none: No such file or directory\n"
    assert done.returncode == 1


_LIKE = b"expected something like tcp:127.0.0.1:7 or unix:/run/x"


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ("tcp", _LIKE),
        ("tpc:127.0.0.1:7", _LIKE),
        ("", _LIKE),
        ("tcp:127.0.0.1:x", b"port: 'x' is not a whole number from 0 to 65535"),
        ("udp:7", b"'udp:7' is for datagrams: use sockservices send"),
    ],
)
def test_connect_to_what_is_no_description(tmp_path: Path, description: str, said: bytes) -> None:
    done = run(_COMMAND, "connect", description, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert b"Traceback" not in done.stderr


def test_connect_whose_reader_has_gone(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with Service("sock-echo", "--port=0", cwd=tmp_path) as echo:
        with (
            open(writing, "wb") as stdout,
            Running(
                [_COMMAND, "connect", f"tcp:127.0.0.1:{echo.port}"],
                tmp_path,
                stdin=subprocess.PIPE,
                stdout=stdout,
            ) as connect,
        ):
            os.close(reading)
            assert connect.process.stdin is not None
            connect.process.stdin.write(b"x" * 100)
            connect.process.stdin.flush()
            assert connect.wait() == 1
            assert connect.err.whole().endswith(": cannot write to standard output\n")


@needs("openssl")
def test_connect_over_tls(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    sent = os.urandom(400_000)
    with (
        Service(
            *("sock-echo", "--listen=ssl:0:privateKey=key.pem:certKey=trusted/cert.pem"),
            cwd=tmp_path,
        ) as echo,
        Running(
            [
                _COMMAND,
                "connect",
                f"tls:localhost:{echo.where[0].rpartition(':')[2]}:trustRoots=trusted",
            ],
            tmp_path,
            stdin=subprocess.PIPE,
        ) as connect,
    ):
        keyboard = connect.process.stdin
        assert keyboard is not None
        keyboard.write(sent)
        keyboard.flush()
        # Twisted's TLS drops what it has not sent when the peer says that it is at its end.
        connect.out.wait_for_bytes(len(sent))
        keyboard.close()
        assert connect.wait() == 0
        assert connect.out.bytes == sent


@needs("openssl")
def test_connect_over_tls_with_no_input_at_all(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    with Service(
        *("sock-hello", "--listen=ssl:0:privateKey=key.pem:certKey=trusted/cert.pem"),
        cwd=tmp_path,
    ) as hello:
        port = hello.where[0].rpartition(":")[2]
        done = run(_COMMAND, "connect", f"tls:localhost:{port}:trustRoots=trusted", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, b"Hello, world!\n")
        done = run(_COMMAND, "connect", f"tls:localhost:{port}", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr == (
            f"sockservices connect: tls:localhost:{port}: TLS: certificate verify failed\n".encode()
        )


@needs("socat")
def test_connect_to_socat(tmp_path: Path) -> None:
    with Running(["socat", "-d", "-d", "TCP-LISTEN:0,bind=127.0.0.1", "EXEC:tac"], tmp_path) as tac:
        port = tac.err.wait_for(r"listening on .*:(\d+)\n")[1]
        done = run(_COMMAND, "connect", f"tcp:127.0.0.1:{port}", cwd=tmp_path, input=b"1\n2\n")
    assert (done.returncode, done.stdout) == (0, b"2\n1\n")


def test_help_of_the_command_names_its_subcommands(tmp_path: Path) -> None:
    done = run(_COMMAND, "--help", cwd=tmp_path)
    assert done.returncode == 0
    for name in (b"list", b"send", b"connect", b"refresh"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["connect", "unix:" + "x" * 200], 2, "is 200 bytes long; the limit on this system is 107"),
        (["connect", "tcp:a..b:7"], 2, "'a..b' is not a valid host name"),
        (["connect", "tls:localhost:1:certificate=none"], 1, "No such file or directory"),
        (["connect", "tcp:127.0.0.1:1\\"], 2, "ends with a backslash that escapes nothing"),
        (["connect", "tcp:127.0.0.1:1", "--timeout=nan"], 2, "nan is not a number of seconds"),
        (["connect", "x:1\nforged"], 2, "Unknown endpoint type: 'x'"),
        (["send", "udp:a..b:7", "x"], 1, "cannot find a..b: it is not a valid host name"),
        (["send", "udp:9", "x", "--wait=inf"], 2, "inf is not in the range 0<x<=1000000.0"),
        (["send", "udp:9", "x", "--interval=nan"], 2, "nan is not a number of seconds"),
        (["frobnicate"], 2, "No such command 'frobnicate'."),
        (["connect", "--verbose", "x"], 2, "No such option"),
    ],
)
def test_every_refusal_is_one_line(
    tmp_path: Path, arguments: list[str], status: int, line: str
) -> None:
    done = run(_COMMAND, *arguments, cwd=tmp_path)
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (status, b"")
    assert said.count("\n") == 1, said
    assert said.startswith("sockservices")
    assert line in said


def test_connect_with_closed_descriptors(tmp_path: Path) -> None:
    with Service("sock-hello", "--port=0", cwd=tmp_path) as hello:
        command = f"{_COMMAND} connect tcp:127.0.0.1:{hello.port}"
        done = run("bash", "-c", f"{command} <&-", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"Hello, world!\n", b"")
        done = run("bash", "-c", f"{command} >&-", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (
            1,
            b"sockservices connect: standard output is closed\n",
        )


def test_connect_tells_when_what_came_could_not_be_written(tmp_path: Path) -> None:
    with Service("sock-hello", "--port=0", cwd=tmp_path) as hello:
        done = run(
            "bash",
            "-c",
            f"{_COMMAND} connect tcp:127.0.0.1:{hello.port} </dev/null >/dev/full",
            cwd=tmp_path,
        )
        assert done.returncode == 1
        assert done.stderr.endswith(b": cannot write to standard output\n")


def test_connect_tells_that_the_peer_has_reset(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with Running([_COMMAND, "connect", f"tcp:127.0.0.1:{port}"], tmp_path) as connect:
            peer = server.accept()[0]
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            assert connect.wait() == 1
            # Whether it came before the connection was seen to be made is the kernel's affair.
            assert re.search("reset by peer|lost in a non-clean fashion", connect.err.whole())
