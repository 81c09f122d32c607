"""Abstract Unix sockets, which have a name but no file: unix(7)."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.system.processes import BIN, PATIENCE, Service, needs, read_all, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract names")

NAME = f"sockservices test {os.getpid()}"


def _asked(name: str = NAME) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(b"\0" + name.encode())
        return read_all(client)


@pytest.mark.parametrize("options", [[], ["--stock-transports"], ["--reload"]])
def test_a_stream_has_an_abstract_name(tmp_path: Path, options: list[str]) -> None:
    with Service("sock-hello", f"--listen=unix:abstract={NAME}", *options, cwd=tmp_path) as hello:
        assert hello.where == [f"unix:abstract={NAME}"]
        assert _asked() == b"Hello, world!\n"
        connecting = run(BIN / "sockservices", "connect", hello.where[0], cwd=tmp_path)
        assert (connecting.returncode, connecting.stdout) == (0, b"Hello, world!\n")
        assert hello.stop() == 0
        assert "Traceback" not in hello.err.text
        assert "\0" not in hello.err.text
    with pytest.raises(ConnectionRefusedError):
        _asked()
    assert {path.name for path in tmp_path.iterdir()} <= {"dropin.cache"}


@needs("socat")
def test_it_is_that_of_a_foreign_program_with_any_characters(tmp_path: Path) -> None:
    listen = rf"--listen=unix:abstract={NAME}\:a\=b"
    with Service("sock-echo", listen, cwd=tmp_path):
        client = ("socat", "-", f"ABSTRACT-CONNECT:{NAME}\\:a=b")
        assert run(*client, cwd=tmp_path, input=b"hello").stdout == b"hello"


def test_limits_are_those_of_unix_sockets(tmp_path: Path) -> None:
    options = (f"--allow-user={os.geteuid() + 1}", f"--listen=unix:abstract={NAME}")
    with Service("sock-hello", *options, cwd=tmp_path) as hello:
        assert _asked() == b""
        assert hello.stop() == 0
        assert f"refused an unnamed Unix socket on unix:abstract={NAME}: user" in hello.err.text


def test_nobody_can_have_a_name_twice(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(b"\0" + NAME.encode())
        done = run(
            *(BIN / "twistd", "-n", "--logfile=log", "sock-echo"),
            *("--listen", f"unix:abstract={NAME}"),
            cwd=tmp_path,
        )
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"twistd: sock-echo: cannot listen on unix:abstract={NAME}: "
        "address already in use: another process listens there\n"
    )


@pytest.mark.parametrize(
    ("description", "status", "line"),
    [
        ("unix:abstract=sockservices nobody", 1, "Connection refused"),
        ("unix:abstract=", 2, "abstract: is empty"),
        ("unix:abstract=x:lockfile=1", 2, "'lockfile' is unknown: unix takes abstract"),
        (f"unix:abstract={'x' * 108}", 2, "the limit on this system is 107"),
    ],
)
def test_connect_says_why_not(tmp_path: Path, description: str, status: int, line: str) -> None:
    done = run(BIN / "sockservices", "connect", description, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, b"")
    assert line in done.stderr.decode()
