"""Behind a proxy: HAProxy in front of real services, and liars that are none."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.system.processes import PATIENCE, Running, Service, needs, read_all

LISTEN = "--listen=tcp:0:interface=127.0.0.1"
TLS = ("--tls-cert=trusted/cert.pem", "--tls-key=key.pem")

CONFIGURATION = """
global
    log stderr format raw local0
defaults
    mode tcp
    # What is refused before HAProxy takes it for connected would be tried again, and counted again.
    retries 0
    timeout connect 30s
    timeout client 30s
    timeout server 30s
listen front
    bind fd@{descriptor}
    server back {server}
"""


@contextmanager
def _haproxy(folder: Path, server: str, host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """Run HAProxy before a server; yields where it listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as front:
        front.bind((host, 0))
        front.listen()
        file = folder / "haproxy.cfg"
        file.write_text(CONFIGURATION.format(descriptor=front.fileno(), server=server))
        with Running(["haproxy", "-db", "-f", file], folder, pass_fds=[front.fileno()]) as running:
            yield front.getsockname()[:2]
            assert running.process.poll() is None, running.err.text


def _ask(front: tuple[str, int], own_host: str = "") -> tuple[bytes, int]:
    """Send a word through; return the answer and the port it came from."""
    with socket.create_connection(front, PATIENCE, (own_host, 0)) as client:
        with contextlib.suppress(OSError):  # it may be refused already
            client.sendall(b"word")
            client.shutdown(socket.SHUT_WR)
        return _all_or_reset(client), client.getsockname()[1]


@needs("haproxy")
@pytest.mark.parametrize(
    ("option", "sends"),
    [
        ("v1", "send-proxy"),
        ("v2", "send-proxy-v2"),
        ("any", "send-proxy"),
        ("any", "send-proxy-v2 proxy-v2-options unique-id,crc32c,authority"),
    ],
)
@pytest.mark.parametrize("transports", ["eager", "stock"])
def test_the_service_sees_haproxys_client(
    tmp_path: Path, option: str, sends: str, transports: str
) -> None:
    options = ["--stock-transports"] if transports == "stock" else []
    with Service(
        *("sock-echo", "--report", LISTEN, f"--proxy-protocol={option}", *options), cwd=tmp_path
    ) as echo:
        with _haproxy(tmp_path, f"127.0.0.1:{echo.port} {sends}") as front:
            answer, port = _ask(front, "127.0.0.5")
            assert answer == b"word"
            echo.out.wait_for(f"Received 4 bytes from 127.0.0.5, port {port}\n")


@needs("haproxy")
def test_an_ipv6_client_of_a_service_on_a_unix_socket(tmp_path: Path) -> None:
    with Service(
        *("sock-echo", "--report", "--socket=s", "--proxy-protocol=v2"), cwd=tmp_path
    ) as echo:
        with _haproxy(tmp_path, f"unix@{tmp_path}/s send-proxy-v2", "::1") as front:
            answer, port = _ask(front)
            assert answer == b"word"
            echo.out.wait_for(f"Received 4 bytes from ::1, port {port}\n")


@needs("haproxy")
@needs("openssl")
@pytest.mark.parametrize("listen", ["own", "ssl"])
def test_tls_is_inside(tmp_path: Path, listen: str) -> None:
    make_certificate(tmp_path)
    description = "ssl:0:interface=127.0.0.1:certKey=trusted/cert.pem:privateKey=key.pem"
    how = [LISTEN, *TLS] if listen == "own" else [f"--listen={description}"]
    with Service("sock-echo", "--report", "--proxy-protocol=v2", *how, cwd=tmp_path) as echo:
        trusting = ssl.create_default_context(cafile=str(tmp_path / "trusted/cert.pem"))
        with _haproxy(tmp_path, f"127.0.0.1:{echo.port} send-proxy-v2") as front:
            plain = socket.create_connection(front, PATIENCE, ("127.0.0.5", 0))
            with trusting.wrap_socket(plain, server_hostname="localhost") as client:
                client.sendall(b"word")
                assert client.recv(100) == b"word"
            echo.out.wait_for("Received 4 bytes from 127.0.0.5, port ")


@needs("haproxy")
def test_limits_are_of_clients_not_of_the_proxy(tmp_path: Path) -> None:
    with Service(
        *("sock-hello", LISTEN, "--proxy-protocol=any", "--rate-per-source=2/600"),
        *("--deny=127.0.0.7", "--allow=127.0.0.0/8"),
        cwd=tmp_path,
    ) as hello:
        with _haproxy(tmp_path, f"127.0.0.1:{hello.port} send-proxy") as front:
            answers = [
                _ask(front, host)[0]
                for host in ("127.0.0.5", "127.0.0.6", "127.0.0.5", "127.0.0.5", "127.0.0.7")
            ]
        assert answers == [b"Hello, world!\n"] * 3 + [b"", b""]
        hello.stop()
        hello.err.wait_for("since the start: .*refused: denied 1, rate-per-source 1\n")


@needs("haproxy")
def test_health_checks_are_local(tmp_path: Path) -> None:
    with Service(
        *("sock-counter", LISTEN, "--proxy-protocol=v2", "--allow=127.0.0.0/8"), cwd=tmp_path
    ) as counter:
        server = f"127.0.0.1:{counter.port} send-proxy-v2 check inter 100 fall 1 rise 1"
        with _haproxy(tmp_path, server) as front:
            number = 0
            while number < 5:  # the checks are counted, too
                number = int(_ask(front)[0].split()[1].rstrip(b"!"))
        counter.stop()
        assert "refused" not in counter.err.text


def test_liars_are_refused_and_counted(tmp_path: Path) -> None:
    lies = [
        b"GET / HTTP/1.0\r\n\r\n",
        b"PROXY TCP4 999.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 " + b"1" * 1000,
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04abcd",
        b"\r\n\r\n\0\r\nQUIT\n\x99",
        b"PROXY ",
    ]
    with Service(
        *("sock-echo", LISTEN, "--proxy-protocol=any", "--handshake-timeout=60"), cwd=tmp_path
    ) as echo:
        for lie in lies:
            with echo.connect() as client:
                client.sendall(lie)
                client.shutdown(socket.SHUT_WR)
                assert _all_or_reset(client) == b""
        with echo.connect() as client:
            client.sendall(b"PROXY UNKNOWN\r\nhonest")
            assert client.recv(100) == b"honest"
        echo.stop()
        echo.err.wait_for(f"since the start: .*refused: proxy-header {len(lies)}\n")
        echo.err.wait_for(
            "refused 127.0.0.1, port [0-9]+ on tcp:.*: proxy-header: it begins with b'GET / "
        )
        assert "Traceback" not in echo.err.text


def test_only_proxies_are_believed(tmp_path: Path) -> None:
    options = ("--proxy-protocol=any", "--proxy-allow-from=192.0.2.0/24")
    with Service("sock-echo", LISTEN, *options, cwd=tmp_path) as echo:
        with echo.connect() as client:
            assert _all_or_reset(client) == b""
        echo.stop()
        echo.err.wait_for("since the start: .*refused: proxy-allow-from 1\n")


def test_a_header_that_never_ends_has_its_time(tmp_path: Path) -> None:
    options = ("--proxy-protocol=any", "--handshake-timeout=0.3", "--max-connections=1")
    with Service("sock-echo", LISTEN, *options, cwd=tmp_path) as echo:
        with echo.connect() as client:
            assert client.send(b"P") == 1
            assert _all_or_reset(client) == b""
        with echo.connect() as client:  # its place is free again
            client.sendall(b"PROXY UNKNOWN\r\nx")
            assert client.recv(1) == b"x"
        echo.stop()
        echo.err.wait_for("since the start: .*refused: handshake-timeout 1\n")


def _all_or_reset(client: socket.socket) -> bytes:
    try:
        return read_all(client)
    except ConnectionResetError:
        return b""
