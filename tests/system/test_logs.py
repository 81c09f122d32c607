"""Logs and outputs: rotated as operators do it, and read slowly, late or never."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.processes import BIN, PATIENCE, Running, Service, needs, run

_TWISTD = (BIN / "twistd", "-n")


def _send(path: Path, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        for datagram in datagrams:
            client.send(datagram)


@contextlib.contextmanager
def _following(path: Path) -> Iterator[Running]:
    often = ("--sleep-interval=0.05", "--max-unchanged-stats=1")
    with Running(["tail", "-n", "+1", "-F", *often, path], path.parent) as tail:
        yield tail


@pytest.mark.parametrize("place", ["standard output", "standard error", "syslog", "a file"])
def test_sigusr1_ends_no_service(tmp_path: Path, place: str) -> None:
    options = {
        "standard output": [],
        "standard error": ["--logger=sockservices.to_stderr"],
        "syslog": ["--syslog"],
        "a file": ["--logfile=log"],
    }[place]
    with Running([*_TWISTD, *options, "sock-echo", "--socket=s", "--port=0"], tmp_path) as echo:
        client = _connected(tmp_path / "s")
        with client:
            for _ in range(3):
                echo.process.send_signal(signal.SIGUSR1)
                client.sendall(b"still here")
                assert client.recv(100) == b"still here"
        assert echo.stop() == 0


def _connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    run("sh", "-c", f"until [ -S {path} ]; do sleep 0.05; done", cwd=path.parent)
    client.connect(str(path))
    client.sendall(b"!")
    assert client.recv(1) == b"!"  # so its reactor runs
    return client


@needs("logrotate")
@pytest.mark.parametrize("sends", ["USR1", "HUP"])
@pytest.mark.parametrize("makes", ["create", "create 600", "nocreate"])
def test_logrotate_renames_and_signals(tmp_path: Path, sends: str, makes: str) -> None:
    log, dump = tmp_path / "log", tmp_path / "dump"
    options = ("sock-hexdump", "--socket=u", "--output=dump")
    with Running([*_TWISTD, "--logfile=log", *options], tmp_path) as it, _following(log) as tail:
        tail.out.wait_for("listening on")
        _dump(tmp_path, b"before", "62 65 66 6f 72 65")
        _rotate(tmp_path, f"{makes}\npostrotate\nkill -{sends} {it.process.pid}\nendscript")
        tail.out.wait_for("opened dump again")
        _dump(tmp_path, b"after", "61 66 74 65 72")
        assert it.stop() == 0
    assert (tmp_path / "dump.1").read_text() == "62 65 66 6f 72 65 \n"
    assert dump.read_text() == "61 66 74 65 72 \n"
    assert "listening on" in (tmp_path / "log.1").read_text()
    assert "listening on" not in log.read_text()
    assert "Server Shut Down" in log.read_text()


@needs("logrotate")
def test_logrotate_copies_and_truncates(tmp_path: Path) -> None:
    log, dump = tmp_path / "log", tmp_path / "dump"
    options = ("sock-hexdump", "--socket=u", "--output=dump")
    with Running([*_TWISTD, "--logfile=log", *options], tmp_path) as it, _following(log) as tail:
        tail.out.wait_for("listening on")
        _dump(tmp_path, b"before", "62 65 66 6f 72 65")
        _rotate(tmp_path, "copytruncate")
        _dump(tmp_path, b"after", "61 66 74 65 72")
        it.process.send_signal(signal.SIGHUP)
        tail.out.wait_for("reloaded")
        assert it.stop() == 0
    assert dump.read_bytes() == b"61 66 74 65 72 \n"
    assert b"\0" not in log.read_bytes()
    assert "listening on" not in log.read_text()


def _dump(folder: Path, data: bytes, shown: str) -> None:
    """Send a datagram, and wait until it is dumped."""
    _send(folder / "u", data)
    with _following(folder / "dump") as dumps:
        dumps.out.wait_for(shown)


def _rotate(folder: Path, how: str) -> None:
    file = folder / "logrotate.conf"
    file.write_text(f"{folder}/log {folder}/dump {{\nrotate 1\nsharedscripts\n{how}\n}}\n")
    file.chmod(0o600)
    done = run("logrotate", "--force", "--state", folder / "state", file, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()


def test_with_reload_all_processes_write_to_the_new_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command: list[str | Path] = [*_TWISTD, "--logfile=log", "sock-echo", "--reload", "--socket=s"]
    with Running(command, tmp_path) as it, _following(log) as tail:
        tail.out.wait_for("the code is loaded")
        log.rename(tmp_path / "old")
        it.process.send_signal(signal.SIGUSR1)
        tail.out.wait_for("(?s)opened log again.*opened log again")
        assert it.stop() == 0
    assert "stopped: 0 connections" in log.read_text()


@pytest.mark.parametrize("place", ["a pipe", "a pipe for both", "a terminal", "a socket"])
def test_whoever_does_not_read_the_log_holds_up_nothing(tmp_path: Path, place: str) -> None:
    if place == "a terminal":
        reading, writing = pty.openpty()
    elif place == "a socket":  # as systemd's journal
        reading, writing = (each.detach() for each in socket.socketpair())
    else:
        reading, writing = os.pipe()
    with contextlib.suppress(BlockingIOError):
        os.set_blocking(writing, False)
        while True:
            os.write(writing, b"." * 512)
    os.set_blocking(writing, True)  # it is shared with the service
    both = "2>&1" if place == "a pipe for both" else ""
    shell: list[str | Path] = ["sh", "-c", f'exec "$0" "$@" {both}']
    command = [*shell, *_TWISTD, "sock-echo", "--socket=s"]
    with open(writing, "wb") as stdout:
        echo = Running(command, tmp_path, stdout=stdout)
    with echo:
        with _connected(tmp_path / "s") as client:
            for _ in range(20):  # each is logged
                echo.process.send_signal(signal.SIGHUP)
                client.sendall(b"still here")
                assert client.recv(100) == b"still here"
        assert echo.stop() == 0
    os.close(reading)


def test_a_fifo_as_output_waits_for_its_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Service("sock-hexdump", "--socket=u", "--output=pipe", cwd=tmp_path) as hexdump:
        hexdump.err.wait_for("waiting for a reader of pipe\n")
        _send(tmp_path / "u", b"first")
        with open(tmp_path / "pipe", "rb") as reading:
            assert reading.readline() == b"66 69 72 73 74 \n"
            _send(tmp_path / "u", b"second")
            assert reading.readline() == b"73 65 63 6f 6e 64 \n"
            assert hexdump.stop() == 0


@pytest.mark.parametrize("sent", [(), (b"lost",)])
def test_a_fifo_without_a_reader_delays_no_stop(tmp_path: Path, sent: tuple[bytes, ...]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Service("sock-hexdump", "--socket=u", "--output=pipe", cwd=tmp_path) as hexdump:
        _send(tmp_path / "u", *sent)
        assert hexdump.stop() == (1 if sent else 0)
        said = "twistd: 1 record not written: pipe was not read in time\n"
        assert (said in hexdump.err.whole()) == bool(sent)
