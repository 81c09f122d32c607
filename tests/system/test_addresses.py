"""The addresses that a service listens on: both families, host names, and who is in the way."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.system.processes import (
    BIN,
    PATIENCE,
    TWISTD,
    Running,
    Service,
    as_root,
    needs,
    read_all,
    run,
)

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def _free_port() -> int:
    """Return a port that is free for TCP and UDP, IPv4 and IPv6."""
    while True:
        with (
            socket.socket(socket.AF_INET6) as stream,
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagrams,
        ):
            stream.bind(("::", 0))
            port: int = stream.getsockname()[1]
            try:
                datagrams.bind(("::", port))
            except OSError:
                continue
            return port


def _echoed(family: socket.AddressFamily, kind: socket.SocketKind, port: int) -> None:
    with socket.socket(family, kind) as client:
        client.settimeout(PATIENCE)
        client.connect((LOOPBACK[family], port))
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


@pytest.mark.parametrize("options", [[], ["--stock-transports"], ["--reload"]])
@pytest.mark.parametrize("ipv6_first", [False, True])
def test_ipv4_and_ipv6_have_one_port(tmp_path: Path, options: list[str], ipv6_first: bool) -> None:
    port = _free_port()
    ipv4 = [f"--listen=tcp:{port}", f"--listen=udp:{port}:interface=127.0.0.1"]
    ipv6 = [f"--listen=tcp6:{port}", rf"--listen=udp:{port}:interface=\:\:"]
    both = ipv6 + ipv4 if ipv6_first else ipv4 + ipv6
    with Service("sock-echo", *both, *options, cwd=tmp_path) as echo:
        assert set(echo.where) == {
            *(f"tcp:0.0.0.0:{port}", f"udp:127.0.0.1:{port}"),
            *(f"tcp:[::]:{port}", f"udp:[::]:{port}"),
        }
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            for family in LOOPBACK:
                _echoed(family, kind, port)
        assert echo.stop() == 0


def test_the_interface_can_be_repeated(tmp_path: Path) -> None:
    port = _free_port()
    interfaces = ("--interface=0.0.0.0", "--interface=::")
    with Service("sock-hello", f"--port={port}", *interfaces, cwd=tmp_path) as hello:
        for host in LOOPBACK.values():
            with socket.create_connection((host, port), PATIENCE) as client:
                assert read_all(client) == b"Hello, world!\n"
        assert hello.stop() == 0
    environment = {"SOCK_HELLO_PORT": "0", "SOCK_HELLO_INTERFACE": "127.0.0.1 127.0.0.2"}
    with Service("sock-hello", cwd=tmp_path, env=environment) as hello:
        assert [each.rpartition(":")[0] for each in hello.where] == [
            *("tcp:127.0.0.1", "tcp:127.0.0.2"),
        ]


@pytest.mark.parametrize(("alone", "serves_ipv4"), [("", True), (":ipv6only=yes", False)])
def test_a_socket_of_ipv6_alone_serves_ipv4_unless_it_is_not_to(
    tmp_path: Path, alone: str, serves_ipv4: bool
) -> None:
    port = _free_port()
    with Service("sock-echo", f"--listen=tcp6:{port}:ipv6only=no", cwd=tmp_path):
        _echoed(socket.AF_INET, socket.SOCK_STREAM, port)
    with Service("sock-echo", f"--listen=tcp6:{port}{alone}", cwd=tmp_path):
        _echoed(socket.AF_INET6, socket.SOCK_STREAM, port)
        with socket.socket() as client:
            refused = client.connect_ex((LOOPBACK[socket.AF_INET], port))
            assert (refused == 0) == serves_ipv4


@needs("openssl")
def test_the_types_of_twisted_have_both_families_too(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    port, other = _free_port(), _free_port()
    files = "privateKey=key.pem:certKey=trusted/cert.pem"
    with Service(
        "sock-hello",
        f"--listen=ssl:{port}:{files}",
        rf"--listen=ssl:{port}:{files}:interface=\:\:",
        f"--listen=haproxy:tcp6:{other}",
        f"--listen=haproxy:tcp:{other}",
        cwd=tmp_path,
    ) as hello:
        assert len(hello.where) == 4
        hello.process.send_signal(1)  # the certificates are read again
        hello.err.wait_for("reloaded: certificate", times=2)
        assert hello.stop() == 0


def _refused(tmp_path: Path, *arguments: str) -> str:
    done = run(BIN / "twistd", "-n", "--logfile=log", "sock-echo", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    [line] = done.stderr.decode().splitlines()
    return line.removeprefix("twistd: sock-echo: ")


def test_this_process_is_named_when_it_is_in_its_own_way(tmp_path: Path) -> None:
    port = _free_port()
    here = f"cannot listen on tcp:{port}: address already in use: this process itself has "
    assert _refused(tmp_path, f"--port={port}", f"--listen=tcp:{port}") == (
        f"{here}tcp:0.0.0.0:{port} open"
    )
    said = _refused(tmp_path, f"--listen=tcp6:{port}:ipv6only=no", f"--listen=tcp:{port}")
    assert said == f"{here}tcp:[::]:{port} open; ipv6only=yes would keep IPv4 and IPv6 apart"
    assert _refused(tmp_path, "--listen=unix:s", "--listen=unixgram:s") == (
        "cannot listen on unixgram:s: address already in use: this process listens there"
    )
    twice = ["--listen=unixgram:abstract=sockservices-test"] * 2
    assert _refused(tmp_path, *twice).endswith(": this process listens there")


def test_an_ipv4_address_has_no_ipv6only(tmp_path: Path) -> None:
    for description in (
        *("tcp:0:ipv6only=yes", "udp:0:interface=127.0.0.1:ipv6only=no"),
        *("ssl:0:ipv6only=yes", "haproxy:tcp:0:ipv6only=yes"),
    ):
        assert _refused(tmp_path, "--listen", description) == (
            rf"in '{description}', ipv6only: the address is not an IPv6 one, such as interface=[::]"
        )
    said = _refused(tmp_path, "--listen", "haproxy:tcp6:0:ipv6only=x")
    assert said == "in 'haproxy:tcp6:0:ipv6only=x', ipv6only: 'x' is neither yes nor no"


_HOSTS = """
127.0.0.1 localhost both
::1 localhost both
127.0.0.7 both
192.0.2.1 both elsewhere
"""


@as_root
@needs("unshare")
def test_a_name_stands_for_all_its_addresses_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(_HOSTS)
    script = 'mount --bind hosts /etc/hosts && exec "$@"'
    apart = ("unshare", "--mount", "sh", "-c", script, "sh", *TWISTD)
    port = _free_port()
    options = (f"--port={port}", "--interface=both", "--listen=udp:0:interface=localhost")
    with Running([*apart, "sock-echo", *options], tmp_path) as echo:
        where = echo.err.wait_for(r"listening on (\S.*)\n")[1].split()
        assert set(where[:-2]) == {
            *(f"tcp:127.0.0.1:{port}", f"tcp:127.0.0.7:{port}", f"tcp:[::1]:{port}"),
        }
        assert {each.rpartition(":")[0] for each in where[-2:]} == {"udp:127.0.0.1", "udp:[::1]"}
        for family in LOOPBACK:
            _echoed(family, socket.SOCK_STREAM, port)
        assert echo.stop() == 0
    with Running([*apart, "sock-echo", "--port=0", "--interface=elsewhere"], tmp_path) as echo:
        assert echo.wait() == 1
        echo.err.wait_for(
            "cannot listen on tcp:0:interface=192.0.2.1: no interface of this machine has that "
            "address\n"
        )
