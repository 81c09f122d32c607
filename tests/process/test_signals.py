from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory
from twisted.logger import formatEvent
from zope.interface import implementer

from sockservices.host.host import SocketService
from sockservices.host.stopping import Stopping
from sockservices.process import signals as module
from sockservices.process.signals import control, handle_signals
from sockservices.service import ILifespan
from sockservices.testing.in_process import LOOPBACK
from tests.fakes import logged, until, with_reactor

reactor: Any = _reactor


class Reactor:
    """Keeps what is for when it runs and for its end; runs at once what is for now."""

    def __init__(self) -> None:
        self.when_running: list[Callable[[], None]] = []
        self.at_shutdown: list[Callable[[], None]] = []

    def run(self, signals: Signals | None = None) -> None:
        """Begin to run, with Twisted's handlers if there are signals."""
        if signals is not None:
            signals.let_twisted_handle()
        for function in self.when_running:
            function()

    def callWhenRunning(self, function: Callable[..., None]) -> None:  # noqa: N802
        self.when_running.append(function)

    def callFromThread(self, function: Callable[..., None]) -> None:  # noqa: N802
        function()

    def addSystemEventTrigger(  # noqa: N802
        self, phase: str, event: str, function: Callable[[], None]
    ) -> None:
        assert (phase, event) == ("before", "shutdown")
        self.at_shutdown.append(function)


class Ended:
    """Remembers what would end the process, which is that of the tests."""

    def __init__(self, at_most: Callable[[], float], pid_file: str) -> None:
        self.at_most = at_most
        self.pid_file = pid_file
        self.told: list[str] = []

    def begin(self) -> None:
        self.told.append("begin")

    def hurry(self) -> None:
        self.told.append("hurry")


class Signals:
    """The handlers of a process: the usual ones, until they are others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stopped = 0
        self.handlers: dict[int, Any] = {
            signal.SIGTERM: signal.SIG_DFL,
            signal.SIGINT: signal.default_int_handler,
            signal.SIGHUP: signal.SIG_DFL,
            signal.SIGUSR1: signal.SIG_DFL,
            signal.SIGUSR2: signal.SIG_DFL,
        }
        own = {"getsignal": self.handlers.get, "signal": self._set}
        monkeypatch.setattr(module, "signal", SimpleNamespace(**vars(signal) | own))
        monkeypatch.setattr(module, "stop_process", self._stop)
        monkeypatch.setattr(module, "ForcedEnd", self._forced_end)

    def _set(self, number: int, handler: Any) -> Any:
        before, self.handlers[number] = self.handlers[number], handler
        return before

    def let_twisted_handle(self) -> None:
        """Do as Twisted's reactors when they begin to run."""
        if self.handlers[signal.SIGINT] == signal.default_int_handler:
            self.handlers[signal.SIGINT] = self._twisteds
        self.handlers[signal.SIGTERM] = self._twisteds

    def _twisteds(self, *_: object) -> None:
        raise AssertionError("Twisted's own handler is called")

    def _forced_end(self, at_most: Callable[[], float], pid_file: str) -> Ended:
        self.forced_end = Ended(at_most, pid_file)
        return self.forced_end

    def _stop(self) -> None:
        self.stopped += 1

    def send(self, number: signal.Signals) -> None:
        self.handlers[number](number, None)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Signals:
    return Signals(monkeypatch)


@pytest.fixture
def asked(signals: Signals) -> list[str]:
    """Return what signals have asked for."""
    asked: list[str] = []
    reactor = Reactor()
    handle_signals(
        reactor,
        hurry=lambda: asked.append("hurry"),
        reload=lambda: asked.append("reload"),
        reopen=lambda: asked.append("reopen"),
        suspend_or_resume=lambda: asked.append("suspend or resume"),
    )
    reactor.run(signals)
    return asked


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_first_to_stop_does_it_in_order_and_the_second_at_once(
    signals: Signals, asked: list[str], first: signal.Signals, second: signal.Signals
) -> None:
    signals.send(first)
    assert (signals.stopped, asked) == (1, [])
    signals.send(second)
    assert (signals.stopped, asked) == (1, ["hurry"])


def test_the_others_ask_for_what_they_are_for(signals: Signals, asked: list[str]) -> None:
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1, signal.SIGHUP):
        signals.send(number)
    assert asked == ["reload", "suspend or resume", "reopen", "reload"]
    assert signals.stopped == 0


def test_before_the_reactor_runs_they_ask_already(signals: Signals) -> None:
    asked: list[str] = []
    handle_signals(
        Reactor(),
        hurry=partial(asked.append, "hurry"),
        reload=partial(asked.append, "reload"),
        reopen=partial(asked.append, "reopen"),
        suspend_or_resume=partial(asked.append, "suspend"),
    )
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        signals.send(number)
    assert asked == ["reload", "reopen", "suspend"]
    assert signals.stopped == 1


def _handled(signals: Signals, twisted: bool) -> dict[int, Any]:
    reactor = Reactor()
    handle_signals(reactor, hurry=str, reload=str, reopen=str, suspend_or_resume=str)  # type: ignore[arg-type]
    reactor.run(signals if twisted else None)
    return signals.handlers


@pytest.mark.parametrize("twisted", [False, True])
def test_what_was_ignored_stays_ignored(signals: Signals, twisted: bool) -> None:
    for number in signals.handlers:
        signals.handlers[number] = signal.SIG_IGN
    handlers = dict(_handled(signals, twisted))
    end = handlers.pop(signal.SIGTERM)  # which Twisted handles even then
    assert (end == signal.SIG_IGN) is not twisted
    assert set(handlers.values()) == {signal.SIG_IGN}


def test_where_twisted_handles_no_end_neither_do_we(signals: Signals) -> None:
    """A reactor may run without handlers (``installSignalHandlers=False``)."""
    before = dict(signals.handlers)
    after = _handled(signals, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        assert after[number] == before[number]


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Return what a service manager has heard since it was last asked, but for the time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def heard() -> list[str]:
            lines: list[str] = []
            while True:
                try:
                    lines += listening.recv(1 << 16).decode().split("\n")
                except BlockingIOError:
                    return [each for each in lines if not each.startswith("MONOTONIC_USEC=")]

        yield heard


async def _controlled(signals: Signals) -> tuple[SocketService, Reactor]:
    factory = Factory()
    factory.noisy = False
    times = Stopping(graceful_timeout=7, flush=0.5)
    host = SocketService(factory, [LOOPBACK], times, name="tried")
    fake = Reactor()
    control(fake, host, "its.pid")
    host.startService()
    await host.when_listening()
    fake.run(signals)
    return host, fake


@with_reactor
async def test_the_manager_hears_when_it_listens_is_suspended_and_resumes(
    signals: Signals, manager: Callable[[], list[str]]
) -> None:
    host, _fake = await _controlled(signals)
    listens = f"STATUS=listening on {host.descriptions[0]}"
    assert manager() == ["READY=1", listens]
    signals.send(signal.SIGUSR2)
    assert host.is_suspended
    assert manager() == ["STATUS=suspended"]
    signals.send(signal.SIGUSR2)
    assert not host.is_suspended
    assert manager() == [listens]
    await host.stopService()


@with_reactor
async def test_sigusr1_asks_for_the_totals(signals: Signals) -> None:
    host, _fake = await _controlled(signals)
    host.ledger.refuse(LOOPBACK, IPv4Address("TCP", "127.0.0.1", 1), "rate")
    with logged() as events:
        signals.send(signal.SIGUSR1)
    assert "since the start: refused: rate 1" in [formatEvent(each) for each in events]
    await host.stopService()


@with_reactor
async def test_the_manager_hears_that_it_reloads_and_has(
    signals: Signals, manager: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _fake = await _controlled(signals)
    reloads: list[list[str]] = []
    done: list[Deferred[None]] = []

    def reload() -> Deferred[None]:
        reloads.append(manager())
        done.append(Deferred())
        return done[-1]

    monkeypatch.setattr(host, "reload", reload)
    listens = f"STATUS=listening on {host.descriptions[0]}"
    manager()
    for _ in range(3):
        signals.send(signal.SIGHUP)
    assert reloads == [["RELOADING=1"]] * 3
    for each in done[:2]:
        each.callback(None)
    assert manager() == []
    done[2].callback(None)
    assert manager() == ["READY=1", listens]
    await host.stopService()


@implementer(ILifespan)
class _Slow(Factory):
    """A factory that starts when it is told to."""

    noisy = False

    def __init__(self) -> None:
        self.started: Deferred[None] = Deferred()

    def start(self) -> Deferred[None]:
        return self.started

    def reload(self) -> None: ...

    def end(self) -> None: ...


@with_reactor
async def test_a_reload_during_the_start_makes_nothing_ready(
    signals: Signals, manager: Callable[[], list[str]]
) -> None:
    factory = _Slow()
    host = SocketService(factory, [LOOPBACK])
    fake = Reactor()
    control(fake, host)
    host.startService()
    fake.run(signals)
    signals.send(signal.SIGHUP)
    factory.started.callback(None)
    await host.when_listening()
    assert manager() == []  # the reload is over, but that it listens is told in the next turn
    fake.when_running[-1]()
    assert manager() == ["READY=1", f"STATUS=listening on {host.descriptions[0]}"]
    signals.send(signal.SIGHUP)
    assert manager()[:2] == ["RELOADING=1", "READY=1"]
    await host.stopService()


@with_reactor
async def test_the_manager_hears_of_a_listener_that_is_lost_and_listens_again(
    signals: Signals, manager: Callable[[], list[str]]
) -> None:
    host, _fake = await _controlled(signals)
    manager()
    with socket.socket(fileno=os.dup(host._ports.open[0].fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
    await until(lambda: host.lost)
    assert manager() == [f"STATUS=not ready: lost {LOOPBACK}, listening on nothing"]
    await until(lambda: not host.lost)
    assert manager() == [f"STATUS=listening on {host.descriptions[0]}"]
    await host.stopService()


@with_reactor
async def test_from_its_stop_on_the_manager_hears_of_nothing_else(
    signals: Signals, manager: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, fake = await _controlled(signals)
    reloads: list[str] = []
    begun: Deferred[None] = Deferred()

    def reload() -> Deferred[None]:
        reloads.append("reload")
        return succeed(None) if len(reloads) > 1 else begun

    monkeypatch.setattr(host, "reload", reload)
    signals.send(signal.SIGHUP)
    manager()
    [stopping] = fake.at_shutdown
    stopping()
    told = manager()
    begun.callback(None)
    assert told[0] == "STOPPING=1"
    assert "0 connections" in told[1]
    signals.send(signal.SIGHUP)
    signals.send(signal.SIGUSR2)
    assert reloads == ["reload"] * 2
    assert not host.is_suspended
    assert manager() == []
    await host.stopService()


@with_reactor
async def test_one_that_cannot_listen_is_never_ready(
    signals: Signals, manager: Callable[[], list[str]]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        lines: list[str] = []
        where = [f"tcp:{number}:interface=127.0.0.1"]
        host = SocketService(Factory(), where, on_failure=lines.append)
        fake = Reactor()
        control(fake, host)
        host.startService()
        fake.run(signals)
    assert len(lines) == 1
    assert manager() == []
    await host.stopService()


@with_reactor
async def test_a_stop_has_its_time_whatever_began_it(signals: Signals) -> None:
    host, fake = await _controlled(signals)
    end = signals.forced_end
    assert (end.at_most(), end.pid_file, end.told) == (7.5, "its.pid", [])
    [stopping] = fake.at_shutdown
    stopping()
    assert end.told == ["begin"]
    await host.stopService()


@with_reactor
async def test_a_second_signal_leaves_less_time(signals: Signals) -> None:
    host, _fake = await _controlled(signals)
    end = signals.forced_end
    signals.send(signal.SIGTERM)
    assert end.told == ["begin"]
    signals.send(signal.SIGINT)
    assert end.told == ["begin", "hurry"]
    signals.send(signal.SIGTERM)
    assert end.told == ["begin", "hurry", "hurry"]
    await host.stopService()
