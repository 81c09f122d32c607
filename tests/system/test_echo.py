"""sock-echo as an operator runs it, and as foreign programs meet it."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.system.processes import PATIENCE, Service, needs, read_all, run


def test_two_at_once_over_tcp(tmp_path: Path) -> None:
    with (
        Service("sock-echo", "--port", "0", "--interface", "127.0.0.1", cwd=tmp_path) as echo,
        echo.connect() as one,
        echo.connect() as other,
    ):
        one.sendall(b"one")
        other.sendall(b"other")
        assert one.recv(100) == b"one"
        assert other.recv(100) == b"other"


def test_over_ipv6(tmp_path: Path) -> None:
    with Service("sock-echo", "--port", "0", "--interface", "::1", cwd=tmp_path) as echo:
        with socket.create_connection(("::1", echo.port), PATIENCE) as client:
            client.sendall(b"six")
            assert client.recv(100) == b"six"


def test_half_close_brings_back_everything_then_end_of_file(tmp_path: Path) -> None:
    sent = os.urandom(3_000_000)
    with Service("sock-echo", "--port", "0", cwd=tmp_path) as echo:
        with echo.connect() as client, socket.socket() as _:
            came = _exchange(client, sent)
    assert came == sent


def _exchange(client: socket.socket, sent: bytes) -> bytes:
    import threading

    def send() -> None:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    came = read_all(client)
    sender.join(PATIENCE)
    return came


def test_once_answers_the_first_read_and_closes(tmp_path: Path) -> None:
    with Service("sock-echo", "--port", "0", "--once", cwd=tmp_path) as echo:
        with echo.connect() as client:
            client.sendall(b"first")
            assert read_all(client) == b"first"


def test_report_names_the_peer_of_each_read(tmp_path: Path) -> None:
    with Service("sock-echo", "--port", "0", "--listen", "udp:0", "--report", cwd=tmp_path) as echo:
        with echo.connect() as client:
            client.sendall(b"12345")
            client.recv(100)
            port = client.getsockname()[1]
            echo.out.wait_for(rf"Received 5 bytes from 127\.0\.0\.1, port {port}\n")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", int(echo.where[1].rpartition(":")[2])))
            client.settimeout(PATIENCE)
            client.send(b"123")
            client.recv(100)
            port = client.getsockname()[1]
            echo.out.wait_for(rf"Received 3 bytes from 127\.0\.0\.1, port {port}\n")


@pytest.mark.parametrize("size", [0, 1, 8193, 65507])
def test_datagrams_of_any_size_over_udp(tmp_path: Path, size: int) -> None:
    sent = os.urandom(size)
    with Service("sock-echo", "--listen", "udp:0:interface=127.0.0.1", cwd=tmp_path) as echo:
        with echo.connect_datagrams() as client:
            client.send(sent)
            assert client.recv(70000) == sent


def test_datagrams_over_unix_sockets_by_path_and_abstract_name(tmp_path: Path) -> None:
    name = f"sockservices-test-{os.getpid()}"
    with Service(
        "sock-echo", "--listen", "unixgram:e", "--listen", f"unixgram:abstract={name}", cwd=tmp_path
    ):
        for server in (str(tmp_path / "e"), f"\0{name}"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                client.settimeout(PATIENCE)
                client.bind("")
                client.sendto(b"unix", server)
                assert client.recv(100) == b"unix"


def test_a_peer_that_sends_a_gigabyte_and_reads_nothing_costs_less_than_a_mebibyte(
    tmp_path: Path,
) -> None:
    with Service("sock-echo", "--port", "0", cwd=tmp_path) as echo:
        block = b"x" * (1 << 20)
        with echo.connect() as polite:  # so that whatever is loaded lazily is loaded
            _exchange(polite, block)
        before = _resident_bytes(echo.process.pid)
        with echo.connect() as rude:
            rude.settimeout(1)
            sent = 0
            try:
                while sent < 1 << 30:
                    sent += rude.send(block)
            except TimeoutError:
                pass  # it does not read any more: that is what keeps it small
            assert sent < 1 << 30
            with echo.connect() as other:  # and it serves the others
                other.sendall(b"still there")
                assert other.recv(100) == b"still there"
            assert _resident_bytes(echo.process.pid) - before < 1 << 20


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@needs("socat")
def test_socat_over_tcp_udp_and_unix(tmp_path: Path) -> None:
    with Service(
        "sock-echo", "--port", "0", "--listen", "udp:0", "--socket", "e", cwd=tmp_path
    ) as echo:
        tcp, udp = (
            next(each for each in echo.where if each.startswith(kind)).rpartition(":")[2]
            for kind in ("tcp", "udp")
        )
        for address in (f"TCP:127.0.0.1:{tcp}", f"UDP:127.0.0.1:{udp}", "UNIX:e"):
            came = run("socat", "-t", "2", "-", address, cwd=tmp_path, input=b"socat\n")
            assert came.stdout == b"socat\n", address


@needs("nc")
def test_nc(tmp_path: Path) -> None:
    with Service("sock-echo", "--port", "0", cwd=tmp_path) as echo:
        came = run("nc", "-N", "127.0.0.1", str(echo.port), cwd=tmp_path, input=b"netcat\n")
        assert came.stdout == b"netcat\n"


def test_a_burst_of_connections_beyond_the_stock_backlog_is_taken(tmp_path: Path) -> None:
    with Service("sock-echo", "--port", "0", cwd=tmp_path) as echo:
        # Stopped, it accepts nothing: what connects now waits in the backlog.
        os.kill(echo.process.pid, 19)
        clients = []
        try:
            for _ in range(200):
                client = socket.socket()
                clients.append(client)
                client.settimeout(PATIENCE)
                client.connect(("127.0.0.1", echo.port))
            os.kill(echo.process.pid, 18)
            for client in clients:
                client.sendall(b"!")
            assert [client.recv(1) for client in clients] == [b"!"] * 200
        finally:
            os.kill(echo.process.pid, 18)
            for client in clients:
                client.close()


def test_twist_runs_it_as_well(tmp_path: Path) -> None:
    from tests.system.processes import BIN, Running

    with Running(
        [BIN / "twist", "--log-format=text", "sock-echo", "--port", "0"],
        tmp_path,
        stdout=subprocess.PIPE,
    ) as echo:
        port = int(echo.out.wait_for(r"listening on tcp:0\.0\.0\.0:(\d+)")[1])
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(b"twist")
            assert client.recv(100) == b"twist"
