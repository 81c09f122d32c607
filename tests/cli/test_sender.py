from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sockservices.cli import sender as module
from sockservices.cli.sender import Destination, QueueFullError, Sender, first_sent


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    """Return a UDP socket on the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(30)
        yield made


def _nobody() -> Destination:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        return socket.AF_INET, closed.getsockname()


def _at(receiver: socket.socket) -> Destination:
    return socket.AF_INET, receiver.getsockname()


_UNREACHABLE: Destination = (socket.AF_INET6, ("fe80::1", 9, 0, 0))  # a link-local one, no zone


@pytest.mark.parametrize("refusing", [_nobody(), _UNREACHABLE])
@pytest.mark.parametrize("wait", [None, 30.0])
def test_the_first_that_does_not_refuse_gets_all(
    receiver: socket.socket, refusing: Destination, wait: float | None
) -> None:
    def answer() -> None:
        for _ in range(2):
            data, peer = receiver.recvfrom(100)
            receiver.sendto(data.upper(), peer)

    answering = threading.Thread(target=answer)
    answering.start()
    sender, reply = first_sent([refusing, _at(receiver), _nobody()], b"one", wait)
    second = sender.send(b"two")
    answering.join()
    sender.close()
    assert (reply, second) == ((None, None) if wait is None else (b"ONE", b"TWO"))


def test_where_all_refuse_the_last_says_so() -> None:
    with pytest.raises(ConnectionRefusedError):
        first_sent([_nobody(), _nobody()], b"x", 30)


def test_one_that_keeps_silent_may_have_it_so_nobody_else_gets_it(receiver: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.setblocking(False)
        with pytest.raises(TimeoutError):
            first_sent([_at(receiver), _at(other)], b"x", 0.01)
        assert receiver.recv(100) == b"x"
        with pytest.raises(BlockingIOError):
            other.recv(100)


@pytest.mark.parametrize("wait", [None, 0.01])
def test_a_full_queue_is_not_waited_for_for_ever(
    tmp_path: Path, wait: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(path)
        sender = Sender((socket.AF_UNIX, path), wait)
        with pytest.raises(QueueFullError):
            for _ in range(10_000):
                with suppress(TimeoutError):  # no reply
                    sender.send(b"x")
        sender.close()


def test_replies_to_a_group_come_from_other_addresses(receiver: socket.socket) -> None:
    group: Any = (*socket.getaddrinfo("239.255.77.7", receiver.getsockname()[1])[0][4],)
    sender = Sender((socket.AF_INET, group), 30)
    sender._socket.setsockopt(
        socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member:
        member.bind(group)
        member.setsockopt(
            socket.IPPROTO_IP,
            socket.IP_ADD_MEMBERSHIP,
            socket.inet_aton(group[0]) + socket.inet_aton("127.0.0.1"),
        )

        def answer() -> None:
            data, peer = member.recvfrom(100)
            receiver.sendto(data.upper(), peer)

        answering = threading.Thread(target=answer)
        answering.start()
        assert sender.send(b"who") == b"WHO"
        answering.join()
    sender.close()
