from __future__ import annotations

import importlib.util
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor

from sockservices.errors import DescriptionError, SettingError
from sockservices.listening import Listening
from sockservices.process import reloading as module
from sockservices.process.reloading import Reloading, ReloadingService, source_folders
from sockservices.testing.in_process import LOOPBACK
from tests.fakes import logged
from tests.transports.reactors import started, turn_until


class Process:
    """Stands where a process that serves would; what is sent to it is remembered."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        from twisted.internet.defer import Deferred

        _folder, self.began_suspended, self.ready, self.ended = arguments
        self.signals: list[int] = []
        self.sockets: Any = None
        self.command: Any = None
        self.when_ended: Deferred[None] = Deferred()

    def start(self, _reactor: Any, command: Any, _folder: str, sockets: Any) -> None:
        self.command, self.sockets = command, sockets

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def is_ready(self) -> None:
        self.ready(self)

    def end(self) -> None:
        self.ended(self)
        self.when_ended.callback(None)


class Setup:
    """A service whose processes and whose watch are the test's."""

    def __init__(self, reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.processes: list[Process] = []
        self.failures: list[str] = []
        self.reactor = reactor
        self._changes: list[Any] = []
        monkeypatch.setattr(module, "ServingProcess", self._process)
        monkeypatch.setattr(reactor, "callInThread", lambda *call: self._watching.append(call))
        monkeypatch.setattr(reactor, "callFromThread", lambda run, *with_: run(*with_))
        self._watching: list[tuple[Any, ...]] = []
        self.service = ReloadingService(
            Listening(listen=[LOOPBACK, "udp:0:interface=127.0.0.1"]),
            ["twistd", "-n", "tried"],
            "/",
            reactor,
            self.failures.append,
        )

    def _process(self, *arguments: Any) -> Process:
        self.processes.append(Process(arguments))
        return self.processes[-1]

    def begin(self) -> None:
        """Start, up to the moment that all is watched."""
        self.service.startService()
        turn_until(self.reactor, lambda: self._watching)
        [(_watch, folders)] = self._watching
        self.service._watches(folders)

    def change(self) -> Process:
        """Change a file; returns the process that is started for it."""
        self.service._changed()
        return self.processes[-1]

    def stop(self) -> None:
        stopped = self.service.stopService()
        for each in self.processes:
            if not each.when_ended.called:
                each.end()
        turn_until(self.reactor, lambda: stopped.called)


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    with started(EPollReactor) as reactor:
        made = Setup(reactor, monkeypatch)
        yield made
        if made.service.running:
            made.stop()


def test_a_process_serves_on_the_sockets_that_the_service_has(setup: Setup) -> None:
    setup.begin()
    [first] = setup.processes
    assert first.command == ["twistd", "-n", "tried"]
    kinds = []
    for each, descriptor in first.sockets:
        with socket.socket(fileno=socket.dup(descriptor)) as made:
            kinds.append((each.kind, made.type, made.getsockname()[0]))
    assert kinds == [
        ("stream", socket.SOCK_STREAM, "127.0.0.1"),
        ("datagram", socket.SOCK_DGRAM, "127.0.0.1"),
    ]
    assert setup.failures == []


def test_without_a_directory_for_its_reports_it_does_not_start(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", "/nowhere")  # type: ignore[attr-defined]
    setup.service.privilegedStartService()
    setup.service.startService()
    assert setup.failures == [
        "--reload cannot create a temporary directory: No such file or directory"
    ]
    setup.stop()


def test_the_old_code_serves_until_the_new_is_loaded(setup: Setup) -> None:
    setup.begin()
    [old] = setup.processes
    old.is_ready()
    new = setup.change()
    assert new is not old
    assert old.signals == []
    new.is_ready()
    assert old.signals == [signal.SIGTERM]
    assert new.signals == []
    assert new.sockets == old.sockets


def test_a_change_that_cannot_be_loaded_costs_nothing(setup: Setup) -> None:
    setup.begin()
    [old] = setup.processes
    old.is_ready()
    with logged() as events:
        setup.change().end()
    assert [each["log_level"].name for each in events] == ["info", "error"]
    assert old.signals == []
    setup.change().is_ready()
    assert old.signals == [signal.SIGTERM]


def test_of_two_changes_only_the_later_comes_to_serve(setup: Setup) -> None:
    setup.begin()
    [old] = setup.processes
    old.is_ready()
    between = setup.change()
    new = setup.change()
    assert between.signals == [signal.SIGKILL]
    between.is_ready()  # it had said so before it was killed
    assert old.signals == []
    new.is_ready()
    assert old.signals == [signal.SIGTERM]


def test_after_the_service_has_ended_by_itself_the_next_change_starts_it_anew(
    setup: Setup,
) -> None:
    setup.begin()
    [first] = setup.processes
    first.is_ready()
    with logged() as events:
        first.end()
    assert [each["log_level"].name for each in events] == ["error"]
    assert len(setup.processes) == 1
    setup.change().is_ready()
    assert len(setup.processes) == 2


def test_suspended_it_stays_suspended_with_the_new_code(setup: Setup) -> None:
    setup.begin()
    [old] = setup.processes
    old.is_ready()
    setup.service.suspend_or_resume()
    assert old.signals == [signal.SIGUSR2]
    new = setup.change()
    assert new.began_suspended
    setup.service.suspend_or_resume()  # resumed while it starts
    assert new.signals == []
    new.is_ready()
    assert new.signals == [signal.SIGUSR2]


def test_a_process_that_starts_reads_again_what_has_changed_meanwhile(setup: Setup) -> None:
    setup.begin()
    [old] = setup.processes
    old.is_ready()
    new = setup.change()
    setup.service.reload()
    setup.service.reopen()
    assert (old.signals, new.signals) == ([signal.SIGHUP, signal.SIGUSR1], [])
    new.is_ready()
    assert new.signals == [signal.SIGHUP, signal.SIGUSR1]
    third = setup.change()
    third.is_ready()
    assert third.signals == []


def test_at_the_end_all_are_told_once_and_waited_for(setup: Setup) -> None:
    setup.begin()
    [old] = setup.processes
    old.is_ready()
    serving = setup.change()
    serving.is_ready()
    starting = setup.change()
    stopped = setup.service.stopService()
    assert [each.signals for each in (old, serving, starting)] == [[signal.SIGTERM]] * 3
    for each in (serving, starting):
        each.end()
    for _ in range(5):
        setup.reactor.iterate(0)
    assert not stopped.called
    setup.service.hurry()
    assert old.signals == [signal.SIGTERM] * 2
    old.end()
    turn_until(setup.reactor, lambda: stopped.called)
    setup.service._changed()
    assert len(setup.processes) == 3


def test_what_can_never_be_started_is_told(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(Process, "start", fail)
    setup.begin()
    assert len(setup.failures) == 1
    assert "no more processes" in setup.failures[0]


class Watching:
    """Stands where watchfiles would: tells of changes, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], None]) -> None:
        self.folders: tuple[Any, ...] = ()
        self._steps = steps
        fake = SimpleNamespace(watch=self._watch, PythonFilter=object)
        monkeypatch.setitem(sys.modules, "watchfiles", fake)

    def _watch(self, *folders: Any, stop_event: Any, **_: Any) -> Iterator[object]:
        self.folders = folders
        for step in self._steps:
            assert not stop_event.is_set()
            step()
            yield {"a change"}


def test_what_is_watched_is_told_change_by_change(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def count() -> None:
        seen.append(len(setup.processes))

    watching = Watching(monkeypatch, count, count, count)
    monkeypatch.setattr(setup.reactor, "callInThread", lambda run, *with_: run(*with_))
    with logged() as events:
        setup.service.startService()
        turn_until(setup.reactor, lambda: len(seen) == 3)
    assert watching.folders == tuple(source_folders())
    assert seen == [1, 2, 3]  # the first as soon as all is watched
    assert len(setup.processes) == 4
    assert "watch" in str(events[-1]["reason"])  # it has ended by itself


def test_where_nothing_can_be_watched_the_service_runs_all_the_same(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("too many watches")

    Watching(monkeypatch, fail)
    monkeypatch.setattr(setup.reactor, "callInThread", lambda run, *with_: run(*with_))
    with logged() as events:
        setup.service.startService()
        turn_until(setup.reactor, lambda: setup.processes)
    assert [str(each["reason"]) for each in events if "reason" in each] == ["too many watches"]
    assert len(setup.processes) == 1


def test_a_place_that_is_taken_is_told(setup: Setup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        failures: list[str] = []
        listening = Listening(listen=[f"tcp:{number}:interface=127.0.0.1"])
        service = ReloadingService(listening, ["x"], "/", setup.reactor, failures.append)
        service.privilegedStartService()
        turn_until(setup.reactor, lambda: failures)
        service.startService()
        stopped = service.stopService()
        turn_until(setup.reactor, lambda: stopped.called)
    assert len(failures) == 1
    assert str(number) in failures[0]
    assert setup.processes == []


def test_what_cannot_be_passed_on_is_refused_at_once() -> None:
    with started(EPollReactor) as reactor, pytest.raises(DescriptionError, match="haproxy:tcp:7"):
        ReloadingService(Listening(listen=["haproxy:tcp:7"]), ["x"], "/", reactor, print)


def test_to_reload_needs_what_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Reloading(reload="yes") == Reloading(reload=True)  # type: ignore[arg-type]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert not Reloading().reload
    assert not Reloading(reload=False).reload
    with pytest.raises(SettingError, match=r"reload: needs watchfiles: pip install .*\[reload\]"):
        Reloading(reload=True)


def test_the_folders_of_ones_own_modules_are_watched_and_no_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_package/below").mkdir(parents=True)
    for name in ("own_package", "own_package/below"):
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(sys.modules)
    try:
        importlib.import_module("own_package.below")
        found = source_folders()
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]
    assert tmp_path.resolve() / "own_package" in found
    assert tmp_path.resolve() / "own_package/below" not in found  # is within
    assert not [each for each in found if "site-packages" in each.parts]
    assert all(each.is_dir() for each in found)


def test_without_modules_of_ones_own_it_is_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "modules", {"os": sys.modules["os"]})
    assert source_folders() == [Path.cwd()]
