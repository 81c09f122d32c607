from __future__ import annotations

from typing import Any

import pytest
from twisted.scripts._twistd_unix import ServerOptions

from sockservices.connections.limits import Limits
from sockservices.exit import fail_process, stop_process
from sockservices.host.host import SocketService
from sockservices.host.stopping import Stopping
from sockservices.process.reloading import ReloadingService
from sockservices.process.supervisor import SERVED
from sockservices.service import Served
from sockservices.services.echo import EchoFactory
from sockservices.twistd import run
from sockservices.twistd.options import HostOptions, options_for
from tests.fakes import factory_of
from tests.twistd.tried import (
    Attrs,
    Data,
    DatagramFactory,
    Datagrams,
    Plain,
    make_service,
    parsed_options,
    stream_options,
)


def test_a_required_option_that_is_missing_is_one_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        make_service(parsed_options(Data))
    assert caught.value.code == 1
    assert capfd.readouterr().err.endswith(": options: Data needs --word\n")


def test_each_kind_gets_the_options_that_it_declares() -> None:
    for datagram in (Datagrams, DatagramFactory):
        served = Served("tried", Plain, datagram, "stream")
        assert {each.name for each in served.settings()} == {"word", "mark", "sure"}
        options = options_for(served)
        options.parseOptions(["--port=0", "--word=x", "--mark=?", "--sure=no"])
        service = make_service(options)
        stream = factory_of(service)
        build = service._build_datagram_protocol
        assert (stream.word, stream.sure) == ("x", False)
        assert build is not None
        assert build().mark == "?"


def test_each_datagram_listener_gets_a_protocol_of_its_own() -> None:
    options = options_for(Served("tried", None, Datagrams, "datagram"))
    options.parseOptions(["--listen=udp:0", "--listen=udp:0", "--mark=?"])
    build = make_service(options)._build_datagram_protocol
    assert build is not None
    first, second, third = build(), build(), build()
    assert len({first, second, third}) == 3
    assert {each.mark for each in (first, second, third)} == {"?"}


def test_one_factory_for_both_kinds_is_built_once() -> None:
    options = options_for(Served("tried", EchoFactory, EchoFactory, "stream"))
    options.parseOptions(["--port=0", "--listen=udp:0", "--once"])
    service = make_service(options)
    assert service._build_datagram_protocol is not None
    assert service._build_datagram_protocol()._options is factory_of(service)


@pytest.mark.parametrize("arguments", [["--listen=tcp:x"], ["--listen=udp:0"], ["--listen="]])
def test_a_description_that_is_wrong_is_one_line_and_status_1(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    options = stream_options(Attrs)
    with pytest.raises(SystemExit) as caught:
        options.parseOptions(arguments)
        make_service(options)
    assert caught.value.code == 1
    assert capfd.readouterr().err.count("\n") == 1


# In the background


class _Report:
    """Stands where the report would, which waits for a fork of this process."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def listening(self) -> None:
        self.said.append("listening")

    def failed(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.parametrize(
    ("given", "background"), [(None, True), ("nodaemon", False), ("debug", False)]
)
def test_twistd_goes_to_the_background_unless_it_is_told_not_to(
    given: str | None, background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[_Report] = []

    def report() -> _Report:
        reports.append(_Report())
        return reports[-1]

    monkeypatch.setattr(run, "ForegroundReport", report)
    monkeypatch.setattr(
        ServerOptions, "subCommands", [["tried", None, lambda: stream_options(Plain), ""]]
    )
    top = ServerOptions()
    top.parseOptions(["tried", "--port=0"])
    if given is not None:
        top[given] = True
    service = make_service(top.subOptions)
    assert len(reports) == background
    assert service._on_failure == (reports[0].failed if background else fail_process)
    if background:
        service.when_listening().addErrback(lambda _failure: None)
        service.stopService()
        assert reports[0].said == []


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the signal handlers and limits of this process, and its command line, out of it."""
    for name in ("control", "handle_signals", "raise_limit"):
        monkeypatch.setattr(run, name, lambda *_arguments, **_named: None)
    monkeypatch.setattr(run, "command_again", lambda _options: ["again"])


@pytest.mark.usefixtures("in_this_process")
def test_the_host_has_the_settings_that_were_given() -> None:
    options = stream_options(Plain)
    options.parseOptions(["--listen=tcp:7", "--port=8", "--max-connections=3", "--flush=4"])
    service = make_service(options)
    assert isinstance(service, SocketService)
    assert service.name == "tried"
    assert [each.description for each in service._listeners] == ["tcp:8", "tcp:7"]
    assert service.settings[Limits] == options.group(Limits) == Limits(max_connections=3)
    assert service.settings[Stopping] == Stopping(flush=4)


@pytest.mark.usefixtures("in_this_process")
def test_to_reload_there_is_a_supervisor_in_its_place() -> None:
    options = parsed_options(Plain, "--reload", "--listen=tcp6:0")
    service = make_service(options)
    assert isinstance(service, ReloadingService)
    assert [each.description for each in service.listeners] == ["tcp:0", "tcp6:0"]


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("listen", ["udp:0", "ssl:0:privateKey=x"])
def test_a_supervisor_takes_only_what_its_processes_can_serve(
    listen: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options = parsed_options(Plain, "--reload", f"--listen={listen}")
    with pytest.raises(SystemExit) as caught:
        make_service(options)
    assert caught.value.code == 1
    said = capfd.readouterr().err
    assert listen in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("in_this_process")
def test_one_that_a_supervisor_has_begun_serves_itself_and_follows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    followed: list[dict[str, Any]] = []
    monkeypatch.setattr(run, "follow_supervisor", lambda _reactor, **how: followed.append(how))
    monkeypatch.setattr(HostOptions, "is_supervised", True)
    monkeypatch.setenv(SERVED, "tcp:9 tcp6:10")
    service = make_service(parsed_options(Plain, "--reload"))
    assert isinstance(service, SocketService)
    assert [each.description for each in service._listeners] == ["tcp:9", "tcp6:10"]
    [how] = followed
    assert how == {"suspend": service.suspend, "stop": stop_process}
