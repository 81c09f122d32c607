"""Sockets that somebody else has bound: systemd's own program, and restarts under load."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.system.processes import PATIENCE, TWISTD, Running, Service, needs, read_all, run


@contextmanager
def _activated(
    folder: Path, address: str, *command: str | Path, options: tuple[str, ...] = ()
) -> Iterator[Running]:
    with Running(
        ["systemd-socket-activate", *options, f"--listen={address}", *TWISTD, *command], folder
    ) as running:
        running.err.wait_for("Listening on .* as 3")
        yield running
        assert running.stop() == 0
        assert "Traceback" not in running.err.text


@needs("systemd-socket-activate")
@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_tcp_by_systemds_own_program(tmp_path: Path, options: list[str]) -> None:
    port = _free_port()
    description = "--listen=systemd:index=0"
    with _activated(tmp_path, f"127.0.0.1:{port}", "sock-echo", description, *options) as echo:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"hello"
        echo.err.wait_for(f"listening on tcp:127.0.0.1:{port}")


@needs("systemd-socket-activate")
@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_a_unix_stream_by_systemds_own_program(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "s"
    command = ("sock-counter", "--listen=systemd:domain=UNIX:name=counter", *options)
    with _activated(tmp_path, str(path), *command, options=("--fdname=counter",)) as counter:
        path.chmod(0o640)
        made = path.stat()
        for number in (1, 2):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                client.connect(str(path))
                assert read_all(client) == b"Connection %d!\n" % number
        counter.err.wait_for(f"listening on unix:{path}")
        assert path.stat() == made
    assert path.stat() == made


@needs("systemd-socket-activate")
def test_unix_datagrams_by_systemds_own_program(tmp_path: Path) -> None:
    path = tmp_path / "d"
    command = ("sock-hexdump", "--listen=systemd-datagram:index=0")
    with _activated(tmp_path, str(path), *command, options=("--datagram",)) as hexdump:
        path.chmod(0o620)
        made = path.stat()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"one", str(path))
            client.sendto(b"two", str(path))
        hexdump.out.wait_for("6f 6e 65 \n74 77 6f \n")
        hexdump.err.wait_for(f"listening on unixgram:{path}")
        assert path.stat() == made
    assert path.stat() == made


@needs("systemd-socket-activate")
def test_udp_by_systemds_own_program(tmp_path: Path) -> None:
    port = _free_port(socket.SOCK_DGRAM)
    command = ("sock-echo", "--listen=systemd-datagram:index=0")
    with _activated(tmp_path, f"127.0.0.1:{port}", *command, options=("--datagram",)) as echo:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.sendto(b"one", ("127.0.0.1", port))
            assert client.recv(100) == b"one"
        echo.err.wait_for(f"listening on udp:127.0.0.1:{port}")


def _free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@needs("openssl")
def test_tls_on_them(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "trusted/cert.pem"))
    with _listening(socket.AF_INET, ("127.0.0.1", 0)) as owned:
        with Service(
            *("sock-hello", "--listen=systemd:name=web"),
            *("--tls-cert=trusted/cert.pem", "--tls-key=key.pem"),
            cwd=tmp_path,
            passed=[("web", owned)],
        ):
            plain = socket.create_connection(owned.getsockname(), PATIENCE)
            with trusting.wrap_socket(plain, server_hostname="localhost") as client:
                assert client.recv(100) == b"Hello, world!\n"


@contextmanager
def _listening(
    family: socket.AddressFamily, address: tuple[str, int] | str
) -> Iterator[socket.socket]:
    with socket.socket(family) as owned:
        owned.bind(address)
        owned.listen()
        yield owned


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("systemd:index=0", "no socket was passed to this process"),
        ("systemd-datagram:name=x", "no socket was passed to this process"),
        ("systemd:domain=INET", "needs either index=NUMBER or name=NAME"),
    ],
)
def test_an_error_is_one_line(tmp_path: Path, description: str, reason: str) -> None:
    done = run(*TWISTD, "sock-echo", f"--listen={description}", cwd=tmp_path)
    assert done.returncode == 1
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("twistd: sock-echo: ")
    assert reason in line


@pytest.mark.parametrize("options", [[], ["--reload"]])
def test_one_name_reaches_all_sockets_of_a_unit(tmp_path: Path, options: list[str]) -> None:
    with (
        _listening(socket.AF_INET, ("127.0.0.1", 0)) as ipv4,
        socket.socket(socket.AF_INET6) as ipv6,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        port = ipv4.getsockname()[1]
        ipv6.bind(("::1", port))
        ipv6.listen()
        datagrams.bind(("127.0.0.1", port))
        with Service(
            *("sock-echo", "--listen=systemd:name=echo", "--listen=systemd-datagram:name=echo"),
            *options,
            cwd=tmp_path,
            passed=[("echo", ipv4), ("echo", datagrams), ("echo", ipv6)],
        ) as echo:
            assert echo.where == [
                *(f"tcp:127.0.0.1:{port}", f"tcp:[::1]:{port}", f"udp:127.0.0.1:{port}"),
            ]
            for owned in (ipv4, ipv6, datagrams):
                with socket.socket(owned.family, owned.type) as client:
                    client.settimeout(PATIENCE)
                    client.connect(owned.getsockname())
                    client.sendall(b"hello")
                    assert client.recv(100) == b"hello"
            assert echo.stop() == 0
            assert "nothing listens on" not in echo.err.text


@pytest.mark.parametrize("options", [[], ["--reload"]])
def test_a_socket_that_is_passed_and_not_used_is_a_warning(
    tmp_path: Path, options: list[str]
) -> None:
    with (
        _listening(socket.AF_INET, ("127.0.0.1", 0)) as used,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused,
    ):
        unused.bind(("127.0.0.1", 0))
        passed = [("echo", used), ("more", unused)]
        listen = "--listen=systemd:name=echo"
        with Service("sock-echo", listen, *options, cwd=tmp_path, passed=passed) as echo:
            assert echo.stop() == 0
            assert echo.err.text.count("nothing listens on") == 1
            said = (
                "nothing listens on systemd-datagram:index=1, a socket named more that was passed"
            )
            assert said in echo.err.text


def _asks_until(
    ended: threading.Event, connect: Callable[[], socket.socket], answered: list[int]
) -> list[str]:
    """Ask for an echo, again and again, one connection each; return what went wrong."""
    wrong = []
    while not ended.is_set():
        line = os.urandom(16).hex().encode() + b"\n"
        try:
            with connect() as client:
                client.sendall(line)
                answer = b""
                while len(answer) < len(line) and (part := client.recv(100)):
                    answer += part
            answered.append(answer == line)
            if answer != line:
                wrong.append(f"{answer!r}, not {line!r}")
        except OSError as error:
            wrong.append(repr(error))
    return wrong


@pytest.mark.parametrize(
    ("family", "restarts"),
    [(socket.AF_INET, 50), (socket.AF_UNIX, 10)],
    ids=["tcp", "unix"],
)
def test_restarts_under_load_lose_nothing(
    tmp_path: Path, family: socket.AddressFamily, restarts: int
) -> None:
    address = str(tmp_path / "s") if family == socket.AF_UNIX else ("127.0.0.1", 0)
    ended = threading.Event()
    wrong: list[str] = []
    answered: list[int] = []
    with _listening(family, address) as owned:

        def connect() -> socket.socket:
            client = socket.socket(family)
            client.settimeout(PATIENCE)
            client.connect(owned.getsockname())
            return client

        def service() -> Service:
            return Service(
                *("sock-echo", "--listen=systemd:name=echo", "--graceful-timeout=10"),
                cwd=tmp_path,
                passed=[("echo", owned)],
            )

        clients = [
            threading.Thread(
                target=lambda: wrong.extend(_asks_until(ended, connect, answered)), daemon=True
            )
            for _ in range(4)
        ]
        for client in clients:
            client.start()
        for _ in range(restarts):
            with service() as echo, connect() as half_way:
                half_way.sendall(b"one ")
                assert half_way.recv(4, socket.MSG_WAITALL) == b"one "
                begun = sum(answered)
                while sum(answered) < begun + 20:
                    time.sleep(0.001)
                echo.process.send_signal(signal.SIGTERM)
                echo.err.wait_for("stopping: [0-9]+ connections? remains?")
                half_way.sendall(b"two")
                half_way.shutdown(socket.SHUT_WR)
                assert read_all(half_way) == b"two"
                assert echo.wait() == 0
                echo.err.wait_for("stopped: [1-9][0-9]* connections finished, 0 were reset")
                assert "Traceback" not in echo.err.text
        with service():
            ended.set()
            for client in clients:
                client.join(PATIENCE)
                assert not client.is_alive()
    assert wrong == []
