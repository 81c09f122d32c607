"""Signals that arrive after a service has bound its sockets, and before the reactor runs."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from time import sleep

import pytest

from tests.system.processes import BIN, PATIENCE, TWISTD, Running, run

# The port calls it when the file of the socket is there.
SERVICE = """
import os
from twisted.internet.protocol import Factory, Protocol

class Signalled(Factory):
    protocol = Protocol
    def __init__(self, number: int):
        self.number = number
    def doStart(self):
        assert os.path.exists("s")
        os.kill(os.getpid(), self.number)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "others.py").write_text(SERVICE)
    return tmp_path


def _service(number: signal.Signals) -> list[str]:
    return [
        "sock-serve",
        "--factory=others.Signalled",
        f"--with=number={int(number)}",
        "--socket=s",
    ]


_ENDING = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@_ENDING
def test_it_stops_in_order(folder: Path, number: signal.Signals) -> None:
    done = run(*TWISTD, "--pidfile=pid", *_service(number), cwd=folder)
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (0, b"")
    assert "stopped: 0 connections finished" in text
    assert "Traceback" not in text
    assert not (folder / "s").exists()
    assert not (folder / "pid").exists()


@_ENDING
def test_a_supervisor_stops_in_order_too(folder: Path, number: signal.Signals) -> None:
    (folder / "sitecustomize.py").write_text(f"""
import os, socket, sys
if "--reload" in sys.argv and "SOCKSERVICES_SUPERVISOR" not in os.environ:
    listen = socket.socket.listen
    socket.socket.listen = lambda *given: (listen(*given), os.kill(os.getpid(), {int(number)}))
""")
    command: list[str | Path] = [*TWISTD, "--pidfile=pid", *_service(number), "--reload"]
    done = run(*command, cwd=folder, env={"PYTHONPATH": str(folder)})
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"Traceback" not in done.stderr
    assert not (folder / "s").exists()
    assert not (folder / "pid").exists()


@_ENDING
def test_in_the_background_too(folder: Path, number: signal.Signals) -> None:
    command: list[str | Path] = [
        BIN / "twistd",
        "--pidfile=pid",
        "--logfile=log",
        *_service(number),
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(PATIENCE)
        done = run(*command, cwd=folder, env={"NOTIFY_SOCKET": str(folder / "notify")})
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        while not manager.recv(1000).startswith(b"STOPPING=1"):
            pass
    for _ in range(3000):
        if not (folder / "pid").exists():
            break
        sleep(0.01)
    assert not (folder / "s").exists()
    assert not (folder / "pid").exists()


@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGHUP, "reloaded: nothing"), (signal.SIGUSR2, "suspended")]
)
def test_the_others_do_what_they_are_for(folder: Path, number: signal.Signals, told: str) -> None:
    with Running([*TWISTD, *_service(number)], folder) as running:
        running.err.wait_for(told)
        assert running.stop() == 0
