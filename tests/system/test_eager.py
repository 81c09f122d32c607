"""What an operator gets from eager streams, and how to turn them off."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.processes import BIN, PATIENCE, Running, Service, needs, read_all, run

MESSAGES = 200
BLOCK = os.urandom(1 << 16)
LISTEN = ("--listen", "tcp:0:interface=127.0.0.1")


@contextmanager
def _traced(folder: Path, calls: str, *arguments: str) -> Iterator[int]:
    """Run the echo under strace; yields its port. Afterwards ``calls`` has the system calls."""
    command: list[str | Path] = ["strace", "-f", "-o", folder / calls]
    command += ["-e", "trace=%network,epoll_ctl,epoll_wait"]
    command += [BIN / "twistd", "-n", *arguments]
    with Running(command, folder) as traced:
        port = int(traced.out.wait_for(r"listening on tcp:127\.0\.0\.1:(\d+)")[1])
        yield port
        # The tracer ends with what it traces, but passes no signal on.
        os.kill(int((folder / calls).read_text().split()[0]), 15)
        traced.wait()


def _ping_pong(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        for _ in range(MESSAGES):
            client.sendall(b"x" * 64)
            assert client.recv(64, socket.MSG_WAITALL) == b"x" * 64


@needs("strace")
@pytest.mark.parametrize(
    ("arguments", "eager"),
    [
        (("--reactor=epoll", "sock-echo", *LISTEN), True),
        (("--reactor=eager", "sock-echo", *LISTEN), True),
        (("--reactor=epoll", "sock-echo", "--stock-transports", *LISTEN), False),
        (("--reactor=eager", "sock-echo", "--stock-transports", *LISTEN), False),
    ],
)
def test_an_answer_is_sent_without_asking_the_kernel_for_leave(
    tmp_path: Path, arguments: tuple[str, ...], eager: bool
) -> None:
    with _traced(tmp_path, "calls", *arguments) as port:
        _ping_pong(port)
    called = (tmp_path / "calls").read_text()
    asked = len(re.findall(r"epoll_ctl\(", called))
    assert len(re.findall(r"sendto\(.*= 64$", called, re.MULTILINE)) == MESSAGES
    # Twisted's own transports ask twice for each answer.
    assert (asked < MESSAGES) is eager
    assert (asked >= 2 * MESSAGES) is not eager


@needs("strace")
def test_what_is_answered_and_closed_at_once_is_never_watched(tmp_path: Path) -> None:
    with _traced(tmp_path, "calls", "--reactor=eager", "sock-hello", *LISTEN) as port:
        watched_before = (tmp_path / "calls").read_text().count("EPOLL_CTL_ADD")
        for _ in range(MESSAGES):
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                assert client.makefile().read() == "Hello, world!\n"
    watched = (tmp_path / "calls").read_text().count("EPOLL_CTL_ADD")
    assert watched - watched_before < 10  # nothing for each connection; signals and the like


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio", "eager"])
@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_every_reactor_serves_every_kind_of_stream(
    tmp_path: Path, reactor: str, options: list[str]
) -> None:
    listen = ["--listen=tcp:0:interface=127.0.0.1", "--listen=unix:s", "--listen=tcp6:0"]
    with Service(f"--reactor={reactor}", "sock-echo", *listen, *options, cwd=tmp_path) as echo:
        tcp6 = int(echo.where[2].rpartition(":")[2])
        unix = socket.socket(socket.AF_UNIX)
        unix.connect(str(tmp_path / "s"))
        for client in (echo.connect(), unix, socket.create_connection(("::1", tcp6), PATIENCE)):
            with client:
                client.settimeout(PATIENCE)
                sender = threading.Thread(target=_send_all, args=(client,))
                sender.start()
                assert read_all(client) == BLOCK * 100
                sender.join()


def _send_all(client: socket.socket) -> None:
    client.sendall(BLOCK * 100)
    client.shutdown(socket.SHUT_WR)


def test_the_help_of_twistd_lists_the_reactor(tmp_path: Path) -> None:
    said = run(BIN / "twistd", "--help-reactors", cwd=tmp_path).stdout.decode()
    assert re.search(r"eager\s.*epoll", said)
