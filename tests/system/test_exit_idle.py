"""A service that ends when it is idle: what comes meanwhile waits for the next process."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.system.processes import BIN, PATIENCE, Service, run

CLIENTS = 12


def _bound(kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind)
    made.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        made.listen(100)
    return made


def _service(owned: socket.socket, folder: Path, seconds: str = "0.05") -> Service:
    prefix = "systemd" if owned.type == socket.SOCK_STREAM else "systemd-datagram"
    options = (f"--listen={prefix}:name=echo", f"--exit-idle={seconds}")
    return Service("sock-echo", *options, cwd=folder, passed=[("echo", owned)])


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
def test_nothing_is_lost_by_it(tmp_path: Path, kind: socket.SocketKind) -> None:
    """Clients come whenever the process may be ending; it is started when somebody waits."""
    choose = random.Random(7)
    answered: list[bytes] = []

    def ask() -> None:
        for number in range(CLIENTS):
            time.sleep(choose.uniform(0.03, 0.12))
            with socket.socket(socket.AF_INET, kind) as client:
                client.settimeout(PATIENCE)
                client.connect(owned.getsockname())
                client.sendall(b"%d" % number)
                answered.append(client.recv(100))

    with _bound(kind) as owned:
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        while asking.is_alive():
            if select.select([owned], [], [], 0.1)[0]:
                with _service(owned, tmp_path) as echo:
                    assert echo.wait() == 0
                    assert "exiting: idle for 0.05 s" in echo.err.whole()
    assert answered == [b"%d" % number for number in range(CLIENTS)]


def test_a_connection_keeps_it(tmp_path: Path) -> None:
    with _bound(socket.SOCK_STREAM) as owned, socket.create_connection(owned.getsockname()) as held:
        with _service(owned, tmp_path) as echo:
            held.sendall(b"a")
            assert held.recv(1) == b"a"
            time.sleep(0.5)
            held.sendall(b"b")
            assert held.recv(1) == b"b"
            held.close()
            assert echo.wait() == 0


def test_a_suspended_one_is_kept(tmp_path: Path) -> None:
    with _bound(socket.SOCK_STREAM) as owned, socket.socket() as waiting:
        with _service(owned, tmp_path, "1") as echo:
            echo.process.send_signal(signal.SIGUSR2)
            echo.err.wait_for("suspended: ")
            time.sleep(2)
            waiting.connect(owned.getsockname())
            waiting.sendall(b"a")
            echo.process.send_signal(signal.SIGUSR2)
            assert waiting.recv(1) == b"a"
            waiting.close()
            assert echo.wait() == 0


def test_output_that_nobody_has_read_yet_keeps_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    options = ("--listen=systemd-datagram:name=dump", "--exit-idle=0.2", "--output=pipe")
    with _bound(socket.SOCK_DGRAM) as owned:
        passed = [("dump", owned)]
        with Service("sock-hexdump", *options, cwd=tmp_path, passed=passed) as dump:
            owned.sendto(b"ab", owned.getsockname())
            time.sleep(1.5)
            with open(tmp_path / "pipe", "rb") as reading:
                assert reading.read() == b"61 62 \n"
            assert dump.wait() == 0


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (
            ["--port=0", "--exit-idle=5"],
            1,
            "--exit-idle would leave nobody to listen on 'tcp:0': it needs a socket that a service "
            "manager passes, such as systemd:index=0\n",
        ),
        (
            ["--port=0", "--exit-idle=5", "--reload"],
            2,
            "--reload and --exit-idle do not go together",
        ),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(
    tmp_path: Path, options: list[str], status: int, said: str
) -> None:
    done = run(BIN / "twistd", "-n", "sock-echo", *options, cwd=tmp_path)
    assert done.returncode == status
    assert said in done.stderr.decode()
