"""The system's clock is set while a service runs: what it times goes on as if it had not been."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.processes import PATIENCE, Service, needs

# Debian's multiarch folder differs from machine to machine.
_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))

pytestmark = [
    needs("faketime"),
    pytest.mark.parametrize("reactor", ["default", "eager", "asyncio", "select"]),
]

LISTEN = "--listen=tcp:0:interface=127.0.0.1"


class Clock:
    """The system's clock, as a service sees it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(_LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, by: str) -> None:
        """Set it: ``-1h`` is an hour back from what is right."""
        new = self._file.with_suffix(".new")
        new.write_text(by)
        new.rename(self._file)


@contextmanager
def _serving(
    folder: Path, reactor: str, *options: str, **environment: str
) -> Iterator[tuple[Service, Clock]]:
    clock = Clock(folder)
    arguments = (f"--reactor={reactor}", "sock-echo", LISTEN, *options)
    with Service(*arguments, cwd=folder, env={**clock.environment, **environment}) as service:
        yield service, clock


@contextmanager
def _stopping(
    folder: Path, reactor: str, seconds: int
) -> Iterator[tuple[Service, Clock, socket.socket]]:
    """Begin a stop, and yield the one client whose work is to be finished in so many seconds."""
    with _serving(folder, reactor, f"--graceful-timeout={seconds}") as (service, clock):
        with service.connect() as client:
            _exchange(client)
            service.process.send_signal(signal.SIGTERM)
            service.err.wait_for("stopping: 1 connection remains")
            yield service, clock, client


def _exchange(client: socket.socket) -> None:
    client.sendall(b"x")
    assert client.recv(1) == b"x"


def test_set_back_the_watchdog_is_fed(tmp_path: Path, reactor: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with _serving(tmp_path, reactor, **told) as (service, clock):
            assert manager.recv(1000).startswith(b"READY=1")
            assert manager.recv(1000) == b"WATCHDOG=1"
            clock.set("-1h")
            for _ in range(5):
                assert manager.recv(1000) == b"WATCHDOG=1"
            assert service.stop() == 0


def test_set_back_an_idle_connection_is_closed(tmp_path: Path, reactor: str) -> None:
    with _serving(tmp_path, reactor, "--idle-timeout=1") as (service, clock):
        with service.connect() as client:
            _exchange(client)
            clock.set("-1h")
            assert client.recv(1) == b""
        assert service.stop() == 0


def test_set_back_a_stop_ends(tmp_path: Path, reactor: str) -> None:
    with _stopping(tmp_path, reactor, 2) as (service, clock, _client):
        clock.set("-1h")
        assert service.wait() == 0


def test_set_forward_a_stop_is_not_cut_short(tmp_path: Path, reactor: str) -> None:
    with _stopping(tmp_path, reactor, 600) as (service, clock, client):
        clock.set("+1h")
        for _ in range(5):  # each is a turn of the reactor
            _exchange(client)
        client.close()
        assert service.wait() == 0
    assert "stopped: 1 connection finished, 0 were reset" in service.err.text
