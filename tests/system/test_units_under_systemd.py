"""The systemd units that are shipped, in a real systemd: .ci/systemd makes what they need.

``SYSTEMD_ROOT`` names the folder of a Debian in which they are installed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.system.processes import PATIENCE, Running, as_root, read_all
from tests.system.systemd import Systemd

ROOT = os.environ.get("SYSTEMD_ROOT")
FLOOD = Path(__file__).with_name("flood.py")
NAMES = ("sock-counter", "sock-echo", "sock-hexdump")

pytestmark = [
    as_root,
    pytest.mark.skipif(ROOT is None, reason="SYSTEMD_ROOT is not set: see .ci/systemd"),
    pytest.mark.xdist_group("systemd"),
]


@pytest.fixture(scope="module")
def system() -> Iterator[Systemd]:
    assert ROOT is not None
    with Systemd(Path(ROOT)) as booted:
        booted("systemctl", "start", *(f"{name}.socket" for name in NAMES))
        yield booted


def _until(holds: Callable[[], bool]) -> None:
    until = monotonic() + PATIENCE
    while not holds():
        assert monotonic() < until
        sleep(0.1)


def _process(system: Systemd) -> str:
    return system.show("sock-echo.service", "MainPID")


def _restarted(system: Systemd, was: str) -> None:
    _until(lambda: _process(system) not in ("0", was))
    _until(lambda: system.show("sock-echo.service", "ActiveState") == "active")


@pytest.fixture
def flood(system: Systemd) -> Iterator[Running]:
    """Connections to the echo, one after the other, while the test lasts."""
    asking = system.inside(system.python, "-u", "-c", FLOOD.read_text(), "7")
    with Running(asking, FLOOD.parent, stdin=subprocess.PIPE) as asks:
        try:
            asks.out.wait_for("begun")
            yield asks
        finally:
            _end(asks)


def _end(flood: Running) -> None:
    assert flood.process.stdin is not None
    flood.process.stdin.close()


def _counts(flood: Running) -> tuple[int, int]:
    """End a flood; return how many were answered, and how many were not."""
    _end(flood)
    found = flood.out.wait_for(r"(\d+) answered, (\d+) not")
    return int(found[1]), int(found[2])


def test_each_is_started_by_what_comes_to_its_socket(system: Systemd) -> None:
    assert {system.show(f"{name}.service", "ActiveState") for name in NAMES} == {"inactive"}
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(system.path("/run/sock-counter.sock"))
        assert read_all(client) == b"Connection 1!\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(b"one", system.path("/run/sock-hexdump.sock"))
    _until(lambda: "6f 6e 65" in system.journal("sock-hexdump.service"))
    ask = "import socket; s = socket.create_connection(('::1', 7)); s.send(b'x'); print(s.recv(1))"
    assert system(system.python, "-c", ask) == "b'x'\n"
    for name in NAMES:
        _until(lambda name=name: system.show(f"{name}.service", "ActiveState") == "active")  # type: ignore[misc]


def test_their_processes_may_do_little(system: Systemd) -> None:
    process = _process(system)
    status = dict(
        line.split(":\t", 1) for line in system("cat", f"/proc/{process}/status").splitlines()
    )
    assert "0" not in status["Uid"].split()
    assert int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    for name in NAMES:
        assert (
            float(
                system("systemd-analyze", "security", "--no-pager", f"{name}.service")
                .rsplit(": ", 1)[1]
                .split()[0]
            )
            < 2.5
        )


def test_the_journal_has_their_log_and_no_complaint(system: Systemd) -> None:
    for name in NAMES:
        told = system.journal(f"{name}.service")
        assert f"{name} listening on " in told
        assert "plugin cache" not in told
        assert "Traceback" not in told


def test_more_restarts_than_systemd_likes_lose_nothing(system: Systemd, flood: Running) -> None:
    for _ in range(8):
        system("systemctl", "restart", "sock-echo.service")
    answered, lost = _counts(flood)
    assert (answered > 8, lost, flood.err.text) == (True, 0, "")
    assert system.show("sock-echo.socket", "ActiveState") == "active"


def test_one_that_is_killed_loses_at_most_what_it_was_at(system: Systemd, flood: Running) -> None:
    for _ in range(6):
        was = _process(system)
        os.kill(system.outside(was), signal.SIGKILL)
        _restarted(system, was)
    answered, lost = _counts(flood)
    assert answered > 0
    assert lost <= 6, flood.err.text


def test_a_reload_waits_until_it_is_done(system: Systemd, flood: Running) -> None:
    was = _process(system)
    for number in range(1, 4):
        system("systemctl", "reload", "sock-echo.service")
        assert system.journal("sock-echo.service").count(": nothing") == number
    assert _process(system) == was
    assert _counts(flood)[1] == 0


def test_one_that_hangs_is_replaced_by_the_watchdog(system: Systemd) -> None:
    was = _process(system)
    os.kill(system.outside(was), signal.SIGSTOP)
    _restarted(system, was)
    assert "Watchdog timeout" in system.journal("sock-echo.service")


def test_a_stop_waits_for_connections_that_are_at_work(system: Systemd) -> None:
    code = (
        "import socket, sys; s = socket.create_connection(('127.0.0.1', 7)); s.send(b'a');"
        "s.recv(1); print('open', flush=True); sys.stdin.readline(); s.send(b'b');"
        "print(s.recv(1), flush=True)"
    )
    with Running(
        system.inside(system.python, "-c", code), Path("/"), stdin=subprocess.PIPE
    ) as client:
        client.out.wait_for("open")
        system("systemctl", "stop", "--no-block", "sock-echo.socket", "sock-echo.service")
        _until(
            lambda: (
                "stopping: 1 connection remains" in system.show("sock-echo.service", "StatusText")
            )
        )
        assert client.process.stdin is not None
        client.process.stdin.write(b"\n")
        client.process.stdin.flush()
        client.out.wait_for("b'b'")
        assert client.wait() == 0
    _until(lambda: system.show("sock-echo.service", "ActiveState") == "inactive")
    assert system.show("sock-echo.service", "Result") == "success"
    assert "stopped: 1 connection finished, 0 were reset" in system.journal("sock-echo.service")
