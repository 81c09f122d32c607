"""Addresses may be forged: no service is made to answer itself, or to write for others."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sockservices.printable import quoted
from tests.system.processes import (
    BIN,
    TWISTD,
    Running,
    Service,
    as_root,
    folder_for_all,
    let_others_in,
    needs,
    run,
)

LOOPBACK = "--listen=udp:0:interface=127.0.0.1"


def _forge(source: int, target: int) -> None:
    """Send a datagram from one port to another, on the loopback interface."""
    data = b"forged"
    udp = struct.pack("!HHHH", source, target, 8 + len(data), 0) + data
    host = socket.inet_aton("127.0.0.1")
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(head + host + host + udp, ("127.0.0.1", 0))


def _ports(service: Service) -> list[int]:
    return [int(each.rpartition(":")[2]) for each in service.where]


@as_root
@pytest.mark.parametrize("listen", [[LOOPBACK, LOOPBACK], [LOOPBACK], ["--listen=udp:0"]])
def test_no_echo_answers_itself(tmp_path: Path, listen: list[str]) -> None:
    with Service("sock-echo", *listen, "--report", cwd=tmp_path) as echo:
        first, second = _ports(echo)[0], _ports(echo)[-1]
        _forge(first, second)
        echo.err.wait_for(f"no answer to 127.0.0.1, port {first}: this process listens there")
        with echo.connect_datagrams() as client:
            client.send(b"honest")
            assert client.recv(10) == b"honest"
        assert echo.stop() == 0
        # An echo of the echo would have been received, too.
        assert echo.out.whole().count("Received 6 bytes") == 2


@as_root
def test_nor_one_that_answers_all(tmp_path: Path) -> None:
    with Service("sock-echo", LOOPBACK, "--report", cwd=tmp_path) as echo:
        for source in (7, 19, 53, 0):
            _forge(source, echo.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as chargen:
            chargen.bind(("127.0.0.1", 19))
            with echo.connect_datagrams() as client:
                client.send(b"honest")
                assert client.recv(10) == b"honest"
            chargen.setblocking(False)
            with pytest.raises(BlockingIOError):
                chargen.recv(10)
        echo.err.wait_for("no answer to 127.0.0.1, port 7: port 7 may answer in turn")
        assert echo.stop() == 0


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@contextmanager
def _sent(folder: Path, by: Sequence[str], name: str) -> Iterator[Running]:
    """Send a datagram by another program, which then waits for the answer."""
    command = (*by, "socat", "-", f"UNIX-SENDTO:{folder}/echo/s,bind={name}")
    with Running(command, folder / "theirs", stdin=subprocess.PIPE) as program:
        assert program.process.stdin is not None
        program.process.stdin.write(b"hello")
        program.process.stdin.flush()
        yield program


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a folder for the echo, one for others, and one of which others see another."""
    with folder_for_all() as made:
        for name in ("echo", "theirs", "seen"):
            (made / name).mkdir()
            let_others_in(made / name)
        yield made


@as_root
@needs("socat")
@needs("setpriv")
def test_a_path_is_answered_only_if_it_is_the_senders(folder: Path) -> None:
    listen = f"--listen=unixgram:{folder}/echo/s:mode=666"
    with (
        Service("sock-echo", listen, "--report", cwd=folder) as echo,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as roots,
    ):
        with _sent(folder, NOBODY, f"{folder}/theirs/own") as honest:
            honest.out.wait_for("hello")
        roots.bind(f"{folder}/seen/roots")
        os.chmod(f"{folder}/seen/roots", 0o600)
        elsewhere = f'mount -t tmpfs -o mode=777 tmpfs {folder}/seen && exec "$@"'
        apart = ("unshare", "--mount", "sh", "-c", elsewhere, "sh", *NOBODY)
        with _sent(folder, apart, f"{folder}/seen/roots"):
            echo.err.wait_for("no answer to .*/roots: the socket at that path does not belong to")
        roots.setblocking(False)
        with pytest.raises(BlockingIOError):
            roots.recv(10)
        assert echo.stop() == 0
        assert echo.out.whole().count("Received 5 bytes") == 2


@needs("socat")
def test_a_relative_name_is_not_answered(folder: Path) -> None:
    with Service("sock-echo", f"--listen=unixgram:{folder}/echo/s", "--report", cwd=folder) as echo:
        with _sent(folder, (), "s"):
            echo.err.wait_for("no answer to s: the path is relative, and names another socket here")
        with _sent(folder, (), f"{folder}/theirs/own") as honest:
            honest.out.wait_for("hello")
        assert echo.stop() == 0
        assert echo.out.whole().count("Received 5 bytes") == 2


@as_root
@needs("socat")
def test_without_proc_no_path_is_answered_and_the_log_says_why(folder: Path) -> None:
    hidden = 'mount -t tmpfs tmpfs /proc && exec "$@"'
    apart = ("unshare", "--mount", "sh", "-c", hidden, "sh")
    command = (*apart, *TWISTD, "sock-echo", f"--listen=unixgram:{folder}/echo/s")
    with Running(command, folder) as echo:
        echo.err.wait_for("listening on")
        with _sent(folder, (), f"{folder}/theirs/own"):
            echo.err.wait_for("no answer to .*/own: /proc is not mounted, and is needed")
        assert echo.stop() == 0


@as_root
@needs("nsenter")
@pytest.mark.parametrize(
    ("interface", "asked"),
    [
        ("", ["127.0.0.2", "192.0.2.7"]),
        (r":interface=\:\:", ["fd09::7", "fe80::7%lo", "::1", "127.0.0.2", "::ffff:192.0.2.7"]),
    ],
)
def test_the_answer_comes_from_the_address_that_was_asked(
    tmp_path: Path, interface: str, asked: list[str]
) -> None:
    addresses = " && ".join(
        f"ip address add {each} dev lo"
        for each in ("192.0.2.7/32", "fd09::7/128 nodad", "fe80::7/64 nodad")
    )
    apart = ("unshare", "--net", "sh", "-c", f'ip link set lo up && {addresses} && exec "$@"', "sh")
    with Running((*apart, *TWISTD, "sock-echo", f"--listen=udp:4700{interface}"), tmp_path) as echo:
        echo.err.wait_for("listening on")
        inside = ("nsenter", "--net", f"--target={echo.process.pid}")
        for each in asked:  # the command takes an answer only from there
            where = f"udp:{quoted(each)}:4700"
            sent = run(
                *inside, BIN / "sockservices", "send", where, "who", "--wait=5", cwd=tmp_path
            )
            assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"who\n", b""), each
        assert echo.stop() == 0
