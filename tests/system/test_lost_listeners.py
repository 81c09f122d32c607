"""Listeners that fail while a service runs: it goes on, listens again, or says that it is over."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest

from tests.system.processes import PATIENCE, Running, Service, needs

LISTEN = ("--listen=tcp:0:interface=127.0.0.1", "--listen=udp:0:interface=127.0.0.1")


def _ask(service: Service, kind: str) -> bytes:
    where = next(each for each in service.where if each.startswith(kind))
    with socket.socket(type=socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", int(where.rpartition(":")[2])))
        client.sendall(b"x")
        return client.recv(100)


@needs("strace")
@pytest.mark.parametrize("error", ["EPERM", "ENOBUFS", "ENOMEM", "EHOSTUNREACH", "EPROTO", "EIO"])
@pytest.mark.parametrize(("kind", "call"), [("tcp", "accept4"), ("udp", "recvfrom")])
def test_an_error_that_passes_costs_nothing(
    tmp_path: Path, kind: str, call: str, error: str
) -> None:
    with Service("sock-echo", *LISTEN, cwd=tmp_path) as service:
        inject = f"inject={call}:error={error}:when=1"
        pid = str(service.process.pid)
        with Running(
            ["strace", "-f", "-e", f"trace={call}", "-e", inject, "-p", pid], tmp_path
        ) as tracer:
            tracer.err.wait_for("attached")
            assert _ask(service, kind) == b"x"
            tracer.process.send_signal(signal.SIGINT)
            tracer.wait()
        assert f"{error} " in tracer.err.whole()
        assert _ask(service, kind) == b"x"
        assert service.stop() == 0
        assert "no longer listens" not in service.err.whole()
        assert "Traceback" not in service.err.whole()


def _bound(kind: str, folder: Path) -> socket.socket:
    family = socket.AF_INET if kind in ("tcp", "udp") else socket.AF_UNIX
    made = socket.socket(
        family, socket.SOCK_STREAM if kind in ("tcp", "unix") else socket.SOCK_DGRAM
    )
    made.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(folder / "socket"))
    if made.type == socket.SOCK_STREAM:
        made.listen()
    return made


def _shut_down(held: socket.socket) -> None:
    """Do what a plain Twisted process that shares a listening socket does when it ends."""
    try:
        held.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        if held.family != socket.AF_INET or held.type != socket.SOCK_DGRAM:
            raise AssertionError("it was not shut down") from error


def test_an_inherited_tcp_socket_that_another_process_shuts_down_listens_again(
    tmp_path: Path,
) -> None:
    with _bound("tcp", tmp_path) as held:
        with Service(
            "sock-echo", "--listen=systemd:name=x", cwd=tmp_path, passed=[("x", held)]
        ) as echo:
            assert _ask(echo, "tcp") == b"x"
            for times in (1, 2):
                _shut_down(held)
                once = "no longer listens: its socket was shut down(?s:.*)x listens again(?s:.*)"
                echo.err.wait_for(once * times)
                assert _ask(echo, "tcp") == b"x"
            assert echo.stop() == 0


@pytest.mark.parametrize("kind", ["unix", "udp", "unixgram"])
def test_when_nothing_is_left_to_listen_on_it_ends_with_status_1(tmp_path: Path, kind: str) -> None:
    with _bound(kind, tmp_path) as held:
        listen = f"--listen=systemd{'' if kind == 'unix' else '-datagram'}:name=x"
        with Service("sock-echo", listen, cwd=tmp_path, passed=[("x", held)]) as echo:
            _shut_down(held)
            assert echo.wait() == 1
            said = echo.err.whole()
            assert re.search(
                r"^twistd: sock-echo: nothing is left to listen on: cannot listen on "
                rf"{listen.removeprefix('--listen=')}: another process has shut the socket down$",
                said,
                re.MULTILINE,
            )
            assert "Traceback" not in said


def test_the_manager_is_told_and_the_other_listeners_serve(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        _bound("unix", tmp_path) as held,
    ):
        manager.settimeout(PATIENCE)
        manager.bind(str(tmp_path / "notify"))

        def told(text: str) -> None:
            while text not in manager.recv(1 << 16).decode():
                pass

        with Service(
            *("sock-echo", *LISTEN, "--listen=systemd:name=x"),
            cwd=tmp_path,
            passed=[("x", held)],
            env={"NOTIFY_SOCKET": str(tmp_path / "notify")},
        ) as echo:
            told("STATUS=listening on ")
            _shut_down(held)
            told("STATUS=not ready: lost systemd:name=x, listening on tcp:")
            echo.err.wait_for(
                "cannot listen on systemd:name=x: another process has shut the socket"
            )
            assert _ask(echo, "tcp") == _ask(echo, "udp") == b"x"
            echo.process.send_signal(signal.SIGHUP)
            told("STATUS=not ready: lost systemd:name=x, listening on tcp:")
            assert echo.stop() == 0
