"""Timeouts of a real service: who is idle, who is not, and how a connection ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.system.processes import PATIENCE, Service, read_all, serve

LISTEN = "--listen=tcp:0:interface=127.0.0.1"
SIZE = 8 << 20

SERVICES = """
from twisted.internet.protocol import Protocol

class Filling(Protocol):
    def connectionMade(self):
        self.transport.write(b"x" * (8 << 20))

class Deaf(Filling):
    # Reads nothing, so that what its peer sends stays in the kernel.
    def connectionMade(self):
        self.transport.pauseProducing()
        self.transport.write(b"x" * (8 << 20))
"""


def _small(service: Service) -> socket.socket:
    """Connect a client whose system takes little at a time."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", service.port))
    return client


def test_a_silent_peer_gets_the_end_and_one_that_dribbles_does_not_outlive_its_time(
    tmp_path: Path,
) -> None:
    with Service("sock-echo", LISTEN, "--idle-timeout=0.3", cwd=tmp_path) as echo:
        with echo.connect() as silent:
            assert silent.recv(1) == b""
    with Service("sock-echo", LISTEN, "--max-time=1", cwd=tmp_path) as echo:
        with echo.connect() as dribbling:
            dribbling.settimeout(PATIENCE)
            dribbling.sendall(b".")
            while dribbling.recv(1):
                dribbling.sendall(b".")


@pytest.mark.parametrize("transports", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_what_was_written_is_delivered_though_the_peer_is_not_heard(
    tmp_path: Path, transports: list[str]
) -> None:
    with serve(tmp_path, SERVICES, "Deaf", "--max-time=0.5", *transports) as service:
        with service.connect() as client:
            client.sendall(b"never read")
            assert len(read_all(client)) == SIZE


def test_who_takes_nothing_is_reset(tmp_path: Path) -> None:
    with serve(tmp_path, SERVICES, "Filling", "--idle-timeout=0.3") as service:
        with _small(service) as client:
            poller = select.poll()
            poller.register(client, 0)  # only errors
            assert poller.poll(PATIENCE * 1000)


def test_a_download_is_not_idle(tmp_path: Path) -> None:
    """It takes a hundredth of what the kernel holds between two looks, for longer than the time."""
    with serve(tmp_path, SERVICES, "Filling", "--idle-timeout=2") as service:
        with _small(service) as client:
            got, began = 0, time.monotonic()
            while time.monotonic() < began + 4:
                got += len(client.recv(1000))
                time.sleep(0.05)
            assert got + len(read_all(client)) == SIZE


@pytest.mark.parametrize("transports", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_a_peer_that_we_do_not_read_is_not_idle(tmp_path: Path, transports: list[str]) -> None:
    """The dump waits for the reader of its output, and so does the client."""
    mine, theirs = os.pipe()
    options = (LISTEN, "--idle-timeout=0.5", *transports)
    with Service("sock-hexdump", *options, cwd=tmp_path, stdout=theirs) as dump:
        os.close(theirs)
        with dump.connect() as client, open(mine, "rb") as output:
            client.settimeout(2)
            sent = 0
            with pytest.raises(TimeoutError):
                while True:
                    sent += client.send(b"\xaa" * 4096)
            client.shutdown(socket.SHUT_WR)
            dumped = 0
            while dumped < sent:
                line = output.readline()
                assert line
                dumped += line.count(b"aa ")


def test_a_pause_of_the_process_is_no_idleness(tmp_path: Path) -> None:
    with Service("sock-echo", LISTEN, "--idle-timeout=1", cwd=tmp_path) as echo:
        with echo.connect() as client:
            client.sendall(b"a")
            assert client.recv(1) == b"a"
            echo.process.send_signal(signal.SIGSTOP)
            client.sendall(b"b")
            time.sleep(2)
            echo.process.send_signal(signal.SIGCONT)
            assert client.recv(1) == b"b"


def test_a_header_that_came_in_a_pause_is_not_late(tmp_path: Path) -> None:
    options = (LISTEN, "--proxy-protocol=v1", "--handshake-timeout=1")
    with Service("sock-echo", *options, cwd=tmp_path) as echo:
        with echo.connect() as client, echo.connect() as silent:
            echo.process.send_signal(signal.SIGSTOP)
            client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhello")
            time.sleep(2)
            echo.process.send_signal(signal.SIGCONT)
            assert client.recv(5) == b"hello"
            silent.settimeout(PATIENCE)
            assert silent.recv(1) == b""
