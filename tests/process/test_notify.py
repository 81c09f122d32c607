from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock, LoopingCall

from sockservices.process.notify import Manager


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
    manager = Manager({"NOTIFY_SOCKET": name})
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
    manager = Manager({"NOTIFY_SOCKET": name})
    monkeypatch.setattr("sockservices.process.notify.os.getpid", lambda: 17)
    manager.ready("x")
    assert listening.recv(1000) == b"READY=1\nMAINPID=17\nSTATUS=x"


def test_the_watchdog_hears_twice_in_its_time_that_the_reactor_turns(
    heard: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, listening = heard
    clock = Clock()
    monkeypatch.setattr(
        "sockservices.process.notify.LoopingCall",
        lambda *arguments: _on(clock, LoopingCall(*arguments)),
    )
    manager = Manager({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000000"})
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


def _on(clock: Clock, call: LoopingCall) -> LoopingCall:
    call.clock = clock
    return call


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
    Manager({"NOTIFY_SOCKET": name, **environment}).ready("")
    assert listening.recv(1000) == b"READY=1\nSTATUS="
    with pytest.raises(BlockingIOError):
        listening.recv(1000)


def test_without_a_manager_or_with_a_deaf_one_nothing_happens(tmp_path: Path) -> None:
    Manager({}).ready("")
    Manager({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready("")


def test_a_manager_whose_queue_is_full_hears_it_when_it_has_room(tmp_path: Path) -> None:
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
        manager = Manager({"NOTIFY_SOCKET": name})
        manager.status("lost")  # which nobody waits for
        reader = threading.Timer(0.05, listening.recv, [1000])
        reader.start()
        manager.ready("")
        reader.join()
        heard = b""
        while heard in (b"", b"x"):
            heard = listening.recv(1000)
        assert heard == b"READY=1\nSTATUS="
