"""A stop ends the process in its time, also when a service's code does not return."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from time import sleep

import pytest

from tests.system.processes import Service

SERVICES = """
import threading
from time import sleep
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from sockservices import fail_process

class Busy(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)
        {
            b"pool": lambda: reactor.callInThread(sleep, 3600),
            b"thread": lambda: threading.Thread(target=sleep, args=(3600,), name="mine").start(),
            b"daemon": lambda: threading.Thread(target=sleep, args=(3600,), daemon=True).start(),
            b"loop": lambda: reactor.callLater(0, sleep, 3600),
            b"fail": lambda: (reactor.callInThread(sleep, 3600), fail_process("no more")),
        }[data]()
"""
POOL = "PoolThread-twisted.internet.reactor-0"


def _busy(folder: Path, *options: str) -> Service:
    (folder / "others.py").write_text(SERVICES)
    service = ("sock-serve", "--factory=others.Busy", "--listen=tcp:0:interface=127.0.0.1")
    return Service("--pidfile=busy.pid", *service, *options, cwd=folder)


def _ask(service: Service, what: bytes) -> None:
    with service.connect() as client:
        client.sendall(what)
        assert client.recv(100) == what


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (b"pool", rf"{POOL} \(.*:\d+\)"),
        (b"thread", r"mine \(.*threading\.py:\d+\)"),
        (b"loop", r"MainThread \(.*base\.py:\d+\)"),
    ],
)
def test_it_ends_after_the_time_limits_although(tmp_path: Path, what: bytes, why: str) -> None:
    with _busy(tmp_path, "--graceful-timeout=0", "--flush=0") as busy:
        _ask(busy, what)
        assert busy.stop() == 0
        busy.err.wait_for(rf"\ntwistd: exiting by force: still running: {why}\n")
        assert not (tmp_path / "busy.pid").exists()


def test_it_ends_after_a_second_signal_although_a_thread_is_running(tmp_path: Path) -> None:
    with _busy(tmp_path, "--graceful-timeout=3600") as busy, contextlib.closing(busy.connect()):
        _ask(busy, b"pool")
        busy.process.send_signal(signal.SIGTERM)
        busy.err.wait_for("stopping: 1 connection remains")
        busy.process.send_signal(signal.SIGTERM)
        assert busy.wait() == 0
        busy.err.wait_for(r"stopped: \d connections? finished, 1 was reset")
        busy.err.wait_for(f"exiting by force: still running: {POOL}")


def test_a_third_signal_ends_it_at_once(tmp_path: Path) -> None:
    with _busy(tmp_path, "--graceful-timeout=3600") as busy:
        _ask(busy, b"loop")
        for _ in range(3000):  # signals that come together count as one: signal(7)
            if busy.process.poll() is not None:
                break
            busy.process.send_signal(signal.SIGTERM)
            sleep(0.01)
        assert busy.wait() == 0
        busy.err.wait_for("exiting by force: still running: MainThread")


def test_a_failure_keeps_its_status(tmp_path: Path) -> None:
    with _busy(tmp_path, "--graceful-timeout=0", "--flush=0") as busy:
        _ask(busy, b"fail")
        assert busy.wait() == 1
        text = busy.err.whole()
        assert "twistd: no more\n" in text
        assert f"exiting by force: still running: {POOL}" in text


def test_what_keeps_nobody_is_not_told(tmp_path: Path) -> None:
    with _busy(tmp_path) as busy:
        _ask(busy, b"daemon")
        assert busy.stop() == 0
        assert "by force" not in busy.err.whole()
