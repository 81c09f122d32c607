from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sockservices.transports.address_in_use import reason_in_use

STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
ANOTHER = "address already in use: another process listens there"
KINDS = pytest.mark.parametrize("kind", [STREAM, DATAGRAM])


@contextmanager
def _open(family: socket.AddressFamily, kind: socket.SocketKind, host: str) -> Iterator[int]:
    with socket.socket(family, kind) as made:
        made.bind((host, 0))
        if kind == STREAM:
            made.listen()
        yield made.getsockname()[1]


_HOLDER = """
import socket, sys
made = socket.socket(getattr(socket, sys.argv[1]), getattr(socket, sys.argv[2]))
made.bind(eval(sys.argv[3]))
if sys.argv[4:]: made.listen()
print(made.getsockname()[1], flush=True)
input()
"""


@contextmanager
def _open_in_another_process(
    family: socket.AddressFamily, kind: socket.SocketKind, address: object, *, listens: bool = True
) -> Iterator[str]:
    words = [family.name, kind.name, repr(address), *(["listens"] if listens else [])]
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        yield holder.stdout.readline().strip()
        holder.stdin.close()


@KINDS
@pytest.mark.parametrize("asked", ["", "127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("held", ["127.0.0.1", "0.0.0.0"])
def test_this_process_is_named_with_its_address(
    kind: socket.SocketKind, asked: str, held: str
) -> None:
    with _open(socket.AF_INET, kind, held) as port:
        scheme = "tcp" if kind == STREAM else "udp"
        assert reason_in_use(kind, (asked, port)) == (
            f"address already in use: this process itself has {scheme}:{held}:{port} open"
        )


@KINDS
def test_the_two_families_are_told_apart(kind: socket.SocketKind) -> None:
    with _open(socket.AF_INET, kind, "127.0.0.1") as port:
        assert reason_in_use(kind, ("::", port)).endswith(
            f"127.0.0.1:{port} open; ipv6only=yes would keep IPv4 and IPv6 apart"
        )
    with _open(socket.AF_INET6, kind, "::") as port:
        assert ":[::]:" in reason_in_use(kind, ("", port))
        assert reason_in_use(kind, ("", port)).endswith("would keep IPv4 and IPv6 apart")
        assert reason_in_use(kind, ("::1", port)).endswith(" open")


@KINDS
@pytest.mark.parametrize(
    ("family", "held", "asked"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "::"),
        (socket.AF_INET6, "::1", "::"),
        (socket.AF_INET6, "::", ""),
    ],
)
def test_another_process_is_named_when_it_listens(
    kind: socket.SocketKind, family: socket.AddressFamily, held: str, asked: str
) -> None:
    listens = kind == STREAM
    with _open_in_another_process(family, kind, (held, 0), listens=listens) as port:
        assert reason_in_use(kind, (asked, int(port))) == ANOTHER


@KINDS
def test_nobody_is_named_who_has_something_else(kind: socket.SocketKind) -> None:
    other = DATAGRAM if kind == STREAM else STREAM
    with _open(socket.AF_INET, other, "127.0.0.1") as port:
        assert reason_in_use(kind, ("127.0.0.1", port)) == "address already in use"
    listens = kind == STREAM
    elsewhere = ("127.0.0.2", 0)
    with _open_in_another_process(socket.AF_INET, kind, elsewhere, listens=listens) as number:
        assert reason_in_use(kind, ("127.0.0.1", int(number))) == "address already in use"


def test_a_name_is_not_looked_up() -> None:
    with _open(socket.AF_INET, STREAM, "127.0.0.1") as port:
        assert reason_in_use(STREAM, ("localhost", port)) == "address already in use"


def test_a_connection_of_another_process_is_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = (
            "import socket, sys; made = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
            "print(made.getsockname()[1], flush=True); input()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", client, str(server.getsockname()[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            port = int(process.stdout.readline())
            assert reason_in_use(STREAM, ("127.0.0.1", port)) == "address already in use"
            process.stdin.close()


@KINDS
def test_a_path_or_name_is_of_this_process_or_of_another(
    kind: socket.SocketKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, name = os.fsencode(tmp_path / "s"), b"\0sockservices-%d" % os.getpid()
    for address in (path, name):
        with socket.socket(socket.AF_UNIX, kind) as made:
            made.bind(address)
            for same in {address, b"s"} if address is path else {address}:
                assert reason_in_use(kind, same) == (
                    "address already in use: this process listens there"
                )
        with _open_in_another_process(socket.AF_UNIX, kind, address + b"2", listens=False):
            assert reason_in_use(kind, address + b"2") == ANOTHER
