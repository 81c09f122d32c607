from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from sockservices.process.notify import Manager
from tests.transports.file_descriptors import no_descriptor_left


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A name for NOTIFY_SOCKET, and the socket that hears what is told there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        if request.param == "path":
            name = str(tmp_path / "notify")
            listening.bind(name)
        else:
            name = f"@sockservices-test-{os.getpid()}"
            listening.bind("\0" + name[1:])
        listening.setblocking(False)
        yield name, listening


def test_the_manager_hears_how_it_does(heard: tuple[str, socket.socket]) -> None:
    name, listening = heard
    manager = Manager(Clock(), {"NOTIFY_SOCKET": name})
    manager.ready("listening on tcp:7")
    assert listening.recv(1000) == b"READY=1\nSTATUS=listening on tcp:7"
    manager.status("suspended")
    assert listening.recv(1000) == b"STATUS=suspended"
    manager.reloading()
    first, _, second = listening.recv(1000).decode().partition("\n")
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert second.partition("=")[2].isdigit()
    manager.stopping("2 remain")
    assert listening.recv(1000) == b"STOPPING=1\nSTATUS=2 remain"


def test_the_manager_hears_which_process_has_taken_over(
    heard: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, listening = heard
    manager = Manager(Clock(), {"NOTIFY_SOCKET": name})
    monkeypatch.setattr("sockservices.process.notify.os.getpid", lambda: 17)
    manager.ready("x")
    assert listening.recv(1000) == b"READY=1\nMAINPID=17\nSTATUS=x"


def test_the_watchdog_hears_twice_in_its_time_that_the_reactor_turns(
    heard: tuple[str, socket.socket],
) -> None:
    name, listening = heard
    clock = Clock()
    manager = Manager(clock, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000000"})
    manager.ready("")
    manager.ready("")
    assert listening.recv(1000) == b"READY=1\nSTATUS="
    assert listening.recv(1000) == b"WATCHDOG=1"
    assert listening.recv(1000) == b"READY=1\nSTATUS="
    clock.advance(0.9)
    with pytest.raises(BlockingIOError):
        listening.recv(1000)
    clock.advance(0.1)
    assert listening.recv(1000) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    "environment",
    [
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {},
    ],
)
def test_without_a_watchdog_nothing_is_said_to_it(
    heard: tuple[str, socket.socket], environment: dict[str, str]
) -> None:
    name, listening = heard
    Manager(Clock(), {"NOTIFY_SOCKET": name, **environment}).ready("")
    assert listening.recv(1000) == b"READY=1\nSTATUS="
    with pytest.raises(BlockingIOError):
        listening.recv(1000)


def test_without_a_manager_or_with_a_deaf_one_nothing_happens(tmp_path: Path) -> None:
    Manager(Clock(), {}).ready("")
    Manager(Clock(), {"NOTIFY_SOCKET": str(tmp_path / "none")}).ready("")


def test_without_free_file_descriptors_the_manager_and_the_watchdog_hear_it_all_the_same(
    heard: tuple[str, socket.socket],
) -> None:
    name, listening = heard
    clock = Clock()
    manager = Manager(clock, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000000"})
    manager.ready("")
    assert _heard(listening) == [b"READY=1", b"WATCHDOG=1"]
    with no_descriptor_left():
        clock.advance(1)
        manager.stopping("")
    assert _heard(listening) == [b"WATCHDOG=1", b"STOPPING=1"]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A name for NOTIFY_SOCKET, and the socket there, whose queue is full of ``x``."""
    name = str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filling,
    ):
        listening.bind(name)
        filling.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                filling.sendto(b"x", name)
        listening.setblocking(False)
        yield name, listening


def _heard(listening: socket.socket) -> list[bytes]:
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(listening.recv(1000).partition(b"\n")[0])
    return [each for each in found if each != b"x"]


def test_a_manager_whose_queue_is_full_hears_all_in_order_when_it_has_room(
    full: tuple[str, socket.socket],
) -> None:
    name, listening = full
    clock = Clock()
    manager = Manager(clock, {"NOTIFY_SOCKET": name})
    manager.reloading()
    manager.ready("")
    clock.advance(10)
    manager.status("suspended")
    assert _heard(listening) == []
    manager.stopping("")
    assert _heard(listening) == []
    clock.advance(10)
    expected = [b"RELOADING=1", b"READY=1", b"STATUS=suspended", b"STOPPING=1"]
    assert _heard(listening) == expected
    clock.advance(10)
    assert _heard(listening) == []
    manager.status("again")
    assert _heard(listening) == [b"STATUS=again"]


def test_for_a_manager_that_never_reads_only_the_latest_is_kept(
    full: tuple[str, socket.socket],
) -> None:
    name, listening = full
    clock = Clock()
    manager = Manager(clock, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000000"})
    manager.ready("")
    for number in range(100):
        manager.status(str(number))
        clock.advance(10)
    assert _heard(listening) == []
    heard = []
    for _ in range(3):  # the queue holds fewer: net.unix.max_dgram_qlen in unix(7)
        clock.advance(0.1)
        heard += _heard(listening)
    assert heard == [f"STATUS={number}".encode() for number in range(84, 100)]
    clock.advance(1)
    assert _heard(listening) == [b"WATCHDOG=1"]


def test_a_manager_that_goes_away_meanwhile_is_forgotten(full: tuple[str, socket.socket]) -> None:
    name, listening = full
    clock = Clock()
    manager = Manager(clock, {"NOTIFY_SOCKET": name})
    manager.ready("")
    os.unlink(name)
    clock.advance(10)
    assert not clock.getDelayedCalls()
    assert _heard(listening) == []
