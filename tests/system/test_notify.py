"""A real service tells its manager how it does."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.system.processes import PATIENCE, Service


def test_the_manager_hears_of_each_turn_in_a_services_life(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with Service("sock-echo", "--socket=s", cwd=tmp_path, env=environment) as echo:
            assert manager.recv(1000) == b"READY=1\nSTATUS=listening on unix:s"
            for _ in range(5):
                assert manager.recv(1000) == b"WATCHDOG=1"

            def news() -> bytes:
                until = time.monotonic() + PATIENCE  # which no sign of life prolongs
                while (told := manager.recv(1000)) == b"WATCHDOG=1":
                    assert time.monotonic() < until, "nothing but signs of life"
                return told

            echo.process.send_signal(signal.SIGHUP)
            assert news().startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert news() == b"READY=1\nSTATUS=listening on unix:s"
            echo.process.send_signal(signal.SIGUSR2)
            assert news() == b"STATUS=suspended"
            echo.process.send_signal(signal.SIGHUP)
            assert news().startswith(b"RELOADING=1\n")
            assert news() == b"READY=1\nSTATUS=suspended"
            echo.process.send_signal(signal.SIGUSR2)
            assert news() == b"STATUS=listening on unix:s"
            # A service that hangs says nothing: that is what a watchdog is for.
            echo.process.send_signal(signal.SIGSTOP)
            manager.settimeout(0.5)
            try:
                for _ in range(10):
                    manager.recv(1000)
            except TimeoutError:
                echo.process.send_signal(signal.SIGCONT)
            else:
                raise AssertionError("it goes on to say that it lives")
            manager.settimeout(PATIENCE)
            echo.process.send_signal(signal.SIGTERM)
            assert news() == b"STOPPING=1\nSTATUS=stopping: 0 connections remain"
            assert echo.wait() == 0


def test_a_stop_is_the_last_that_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with Service(
            *("sock-echo", "--socket=s", "--graceful-timeout=60", "--deny=192.0.2.0/24"),
            cwd=tmp_path,
            env=environment,
        ) as echo:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "s"))
                client.sendall(b"x")
                assert client.recv(1) == b"x"
                assert manager.recv(1000).startswith(b"READY=1\n")
                echo.process.send_signal(signal.SIGTERM)
                assert manager.recv(1000) == b"STOPPING=1\nSTATUS=stopping: 1 connection remains"
                echo.process.send_signal(signal.SIGUSR2)
                echo.process.send_signal(signal.SIGHUP)
                echo.err.wait_for("reloaded: nothing")
            assert echo.wait() == 0
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(1000)
