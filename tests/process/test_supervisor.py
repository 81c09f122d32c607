from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from sockservices.errors import DescriptionError
from sockservices.listening import Listener, Listening, listener
from sockservices.process.supervisor import (
    SERVED,
    ServingProcess,
    check_passable,
    follow_supervisor,
    is_supervised,
    nobody_at,
)
from tests.fakes import result_of


def _listener(description: str) -> Listener:
    return listener(MemoryReactorClock(), description, Listening())


class Reactor:
    """Notes what it is to start and where news are to come in."""

    def __init__(self, fails: bool = False) -> None:
        self.spawned: list[SimpleNamespace] = []
        self.listening: dict[str, Any] = {}
        self._fails = fails

    def listenUNIXDatagram(self, name: str, protocol: Any) -> Any:  # noqa: N802
        self.listening[name] = protocol
        return SimpleNamespace(stopListening=lambda: self.listening.pop(name))

    def spawnProcess(self, protocol: Any, executable: str, arguments: Any, **named: Any) -> None:  # noqa: N802
        if self._fails:
            raise OSError("no more processes")
        self.spawned.append(SimpleNamespace(executable=executable, arguments=arguments, **named))


class Started:
    """A process that was started on two sockets."""

    def __init__(self, *, suspended: bool = False) -> None:
        self.said: list[str] = []
        self.reactor = Reactor()
        self.process = ServingProcess(
            "/folder",
            suspended,
            lambda it: self.said.append("ready" if it is self.process else "another"),
            lambda it: self.said.append("ended" if it is self.process else "another"),
        )
        sockets = [(_listener("tcp:7"), 20), (_listener("udp:7"), 30)]
        self.process.start(self.reactor, ["twistd", "a b"], "/where", sockets)
        [self.spawned] = self.reactor.spawned

    def news(self, text: bytes) -> None:
        [protocol] = self.reactor.listening.values()
        protocol.datagramReceived(text, None)


@pytest.mark.parametrize(
    "description", ["tcp:7", "TCP6:7", "unix:/run/x", "udp:7", "unixgram:/run/x"]
)
def test_plain_sockets_can_be_passed_on(description: str) -> None:
    check_passable([_listener(description)])


@pytest.mark.parametrize("description", ["haproxy:tcp:7", "haproxy:unix:/run/x"])
def test_what_is_more_than_a_socket_cannot_and_is_named(description: str) -> None:
    with pytest.raises(DescriptionError, match=f"'{description}'"):
        check_passable([_listener("tcp:7"), _listener(description)])


def test_where_the_service_is_elsewhere_nobody_answers() -> None:
    assert isinstance(nobody_at(_listener("udp:7")), DatagramProtocol)
    streams = nobody_at(_listener("tcp:7"))
    assert isinstance(streams, Factory)
    assert streams.buildProtocol(None) is None


def test_a_process_gets_its_sockets_as_a_service_manager_passes_them() -> None:
    started = Started()
    environment = started.spawned.env
    assert environment[SERVED].split(" ") == ["systemd:index=0", "systemd-datagram:index=1"]
    assert environment["LISTEN_FDS"] == "2"
    assert environment["NOTIFY_SOCKET"] == next(iter(started.reactor.listening))
    assert environment["PATH"] == os.environ["PATH"]
    assert started.spawned.childFDs == {0: 0, 1: 1, 2: 2, 3: 20, 4: 30}
    assert started.spawned.path == "/where"
    assert started.spawned.arguments[-2:] == ["twistd", "a b"]


def test_the_process_is_told_its_own_number() -> None:
    spawned = Started().spawned
    code = "import os; print(os.getpid(), os.environ['LISTEN_PID'])"
    arguments = [*spawned.arguments[:-2], sys.executable, "-c", code]
    environment = {**spawned.env, "LISTEN_FDS": "0"}
    done = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    own, told = done.stdout.split()
    assert own == told


def test_it_is_ready_when_it_says_so_and_has_ended_when_it_has() -> None:
    started = Started()
    started.news(b"STATUS=starting")
    started.news(b"X=READY=1")
    assert started.said == []
    started.news(b"READY=1\nSTATUS=listening")
    assert started.said == ["ready"]
    started.process.processEnded(Failure(RuntimeError()))
    assert started.said == ["ready", "ended"]
    assert result_of(started.process.when_ended) == [None]
    assert started.reactor.listening == {}


def test_one_that_cannot_be_started_leaves_nothing_behind() -> None:
    reactor = Reactor(fails=True)
    process = ServingProcess("/folder", False, print, print)
    with pytest.raises(OSError, match="no more processes"):
        process.start(reactor, ["twistd"], "/", [])
    assert reactor.listening == {}


def test_a_signal_reaches_one_that_runs_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    process = Started().process
    process.signal(signal.SIGTERM)
    assert sent == []
    process.transport = SimpleNamespace(pid=None)  # type: ignore[assignment]
    process.signal(signal.SIGTERM)
    assert sent == []
    process.transport = SimpleNamespace(pid=12345)  # type: ignore[assignment]
    process.signal(signal.SIGTERM)
    assert sent == [(12345, signal.SIGTERM)]


# In the process that serves


@pytest.fixture(params=[False, True])
def suspended(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Be a process that was begun suspended, or not."""
    environment = Started(suspended=request.param).spawned.env
    for name, value in environment.items():
        if name.startswith("SOCKSERVICES_"):
            monkeypatch.setenv(name, value)
    return bool(request.param)


@pytest.fixture
def parents(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what changes who has begun this process."""
    numbers = [os.getpid()]
    monkeypatch.setattr(os, "getppid", lambda: numbers[-1])
    return numbers.append


def test_it_accepts_nothing_at_first_if_the_others_do_not(
    suspended: bool, parents: Callable[[int], None]
) -> None:
    asked: list[str] = []
    follow_supervisor(
        Clock(), suspend=lambda: asked.append("suspend"), stop=lambda: asked.append("stop")
    )
    assert asked == ["suspend"] * suspended


@pytest.mark.usefixtures("suspended")
def test_it_ends_with_its_supervisor(parents: Callable[[int], None]) -> None:
    asked: list[str] = []
    clock = Clock()
    follow_supervisor(clock, suspend=str, stop=lambda: asked.append("stop"))  # type: ignore[arg-type]
    clock.pump([1] * 5)
    assert asked == []
    parents(1)
    clock.pump([1] * 5)
    assert asked == ["stop"]
    assert clock.getDelayedCalls() == []


def test_only_the_process_that_was_begun_so_is_supervised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SOCKSERVICES_SUPERVISED", raising=False)
    assert not is_supervised()
    monkeypatch.setenv("SOCKSERVICES_SUPERVISED", str(os.getpid()))
    assert is_supervised()
    # What it starts inherits its environment.
    monkeypatch.setenv("SOCKSERVICES_SUPERVISED", str(os.getppid()))
    assert not is_supervised()
