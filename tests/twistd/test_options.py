from __future__ import annotations

import re
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.protocol import Factory
from twisted.python import usage

from sockservices.connections.limits import Limits
from sockservices.host.stopping import Stopping
from sockservices.service import Served
from sockservices.services.echo import EchoFactory
from sockservices.settings import setting
from sockservices.twistd.options import OneLineErrors, options_for
from tests.fakes import factory_of
from tests.twistd.tried import (
    Attrs,
    Data,
    Datagrams,
    Plain,
    make_service,
    parsed_options,
    stream_options,
)


def _built(factory: Any, *arguments: str) -> Any:
    return factory_of(make_service(parsed_options(factory, *arguments)))


def _refused(
    options: usage.Options, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> str:
    """Parse what is wrong; return the one line on standard error."""
    with pytest.raises(SystemExit) as caught:
        options.parseOptions(arguments)
    assert caught.value.code == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err.partition(": ")[2].rstrip("\n")


# A service's own options


def test_an_option_of_an_attrs_class_has_its_help_and_default() -> None:
    shown = " ".join(stream_options(Attrs).getUsage().split())
    assert "--word=TEXT A word to say. [default: a\\tb]" in shown
    assert "--max-size=NUMBER In bytes. [default: 8]" in shown
    assert "--loud Say it loudly." in shown


def test_an_option_of_a_dataclass_has_its_default_or_is_required() -> None:
    shown = " ".join(stream_options(Data).getUsage().split())
    assert "--word=TEXT [required]" in shown
    assert "--times=NUMBER [default: 2]" in shown
    assert "--loud " in shown
    assert "factory" not in shown


def test_an_option_of_a_plain_class_has_its_default() -> None:
    shown = " ".join(stream_options(Plain).getUsage().split())
    assert "--word=TEXT [default: hi]" in shown
    assert "--sure=YES|NO [default: True]" in shown


def test_the_help_has_groups_and_the_services_own_first() -> None:
    shown = stream_options(Attrs).getUsage()
    headings = re.findall(r"^(\S.*):$", shown, re.MULTILINE)
    assert headings == [
        "Options of tried",
        "Listening",
        "Limits",
        "Timeouts",
        "TLS",
        "PROXY protocol",
        "Stopping",
        "Start and end",
        "Socket activation",
        "Running",
        "Environment",
    ]
    assert max(map(len, shown.splitlines())) <= 80
    assert "TRIED_MAX_CONNECTIONS" in shown


def test_every_service_has_the_same_options_beside_its_own() -> None:
    shown = stream_options(Plain).getUsage()
    for name in ("--port=", "--interface=", "--socket=", "--mode=", "--backlog=", "--listen="):
        assert name in shown


def test_what_is_given_reaches_the_factory() -> None:
    built = _built(Attrs, "--word=x", "--max-size", "9", "--loud")
    assert (built.word, built.max_size, built.loud) == ("x", 9, True)
    built = _built(Data, "--word", "x", "--times=3", "--loud")
    assert (built.word, built.times, built.loud) == ("x", 3, True)
    built = _built(Plain, "--word=x", "--sure=no")
    assert (built.word, built.sure) == ("x", False)


def test_what_is_not_given_is_left_to_the_factory() -> None:
    built = _built(Attrs)
    assert (built.word, built.max_size, built.loud) == ("a\tb", 8, False)
    built = _built(Data, "--word=x")
    assert (built.times, built.loud, built.parts) == (2, False, [])
    built = _built(Plain)
    assert (built.word, built.sure) == ("hi", True)


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_reaches_the_factory_as_it_was_given(text: str) -> None:
    assert _built(Plain, f"--word={text}").word == text


@pytest.mark.parametrize(
    "name", ["port", "interface", "socket", "mode", "backlog", "listen", "help", "version"]
)
def test_an_option_that_every_service_has_cannot_be_declared(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    clashing = attrs.make_class(
        "Clashing", {name: setting(default="", help="")}, bases=(Factory,), eq=False, slots=False
    )
    with pytest.raises(SystemExit) as caught:
        stream_options(clashing)
    assert caught.value.code == 1
    assert capfd.readouterr().err.endswith(
        f": tried declares --{name}, which every service already has\n"
    )


# Where to listen


@pytest.mark.parametrize(
    ("arguments", "streams", "datagrams"),
    [
        (["--port=7"], ["tcp:7"], ["udp:7"]),
        (
            ["--port=0", "--interface=::1"],
            ["tcp:0:interface=[::1]"],
            ["udp:0:interface=[::1]"],
        ),
        (["--socket=/run/a:b"], [r"unix:/run/a\:b"], [r"unixgram:/run/a\:b"]),
        (
            ["--listen=tcp:1", "--port=7", "--socket=x", "--listen=udp:2"],
            ["tcp:7", "unix:x", "tcp:1", "udp:2"],
            ["udp:7", "unixgram:x", "tcp:1", "udp:2"],
        ),
    ],
)
def test_short_forms_are_descriptions(
    arguments: list[str], streams: list[str], datagrams: list[str]
) -> None:
    for first, wanted in (("stream", streams), ("datagram", datagrams)):
        options = options_for(Served("tried", EchoFactory, EchoFactory, first))  # type: ignore[arg-type]
        options.parseOptions(arguments)
        assert options.listen() == wanted


def test_the_help_says_what_port_and_socket_mean() -> None:
    assert "TCP port" in options_for(Served("t", Plain, None, "stream")).getUsage()
    shown = options_for(Served("t", None, Datagrams, "datagram")).getUsage()
    assert "UDP port" in shown
    assert "Unix datagram socket" in shown


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "nothing to listen on: give --port, --socket or --listen"),
        (["--interface=::1", "--socket=x"], "--interface goes with --port"),
        (["--port=seven"], "--port: 'seven' is not a whole number from 0 to 65535"),
        (["--port=65536"], "--port: 65536 is not a whole number from 0 to 65535"),
        (["--interface=", "--port=0"], "--interface: is empty"),
        (["--socket="], "--socket: is empty"),
        (["--mode=999"], "--mode: '999' is not a file mode: octal digits, 000 to 777, such as 660"),
        (["--backlog=0"], "--backlog: 0 is not a whole number from 1 to 2147483647"),
        (["--max-size=0"], "--max-size: 0 is not a whole number, 1 or more"),
    ],
)
def test_a_usage_error_is_one_line_and_status_2(
    arguments: list[str], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _refused(stream_options(Attrs), arguments, capfd) == f"options: {line}"


@pytest.mark.parametrize("arguments", [["--nothing"], ["stray"], ["--port"]])
def test_what_is_unknown_is_one_line_and_status_2(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert _refused(stream_options(Attrs), arguments, capfd).startswith("options: ")


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        stream_options(Plain).parseOptions(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("sockservices ")


def test_an_error_names_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    class Above(usage.Options):
        subCommands = [["tried", None, lambda: stream_options(Plain), ""]]  # noqa: RUF012

    assert _refused(Above(), ["tried"], capfd).startswith("tried: nothing to listen on")  # type: ignore[no-untyped-call]


# The environment


def test_the_environment_has_what_the_command_line_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIED_MAX_CONNECTIONS", "5")
    monkeypatch.setenv("SOCKSERVICES_MAX_CONNECTIONS", "6")
    monkeypatch.setenv("SOCKSERVICES_FLUSH", "7")
    monkeypatch.setenv("TRIED_WORD", "own")
    monkeypatch.setenv("TRIED_LOUD", "yes")
    options = parsed_options(Attrs)
    assert options.group(Limits).max_connections == 5
    assert options.group(Stopping).flush == 7
    built = factory_of(make_service(options))
    assert (built.word, built.loud) == ("own", True)
    assert parsed_options(Attrs, "--max-connections=9").group(Limits).max_connections == 9


def test_where_to_listen_can_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIED_LISTEN", r"tcp:0:interface=\:\:1 'unix:/run/my socket'")
    options = stream_options(Plain)
    options.parseOptions([])
    assert options.listen() == [r"tcp:0:interface=\:\:1", "unix:/run/my socket"]


def test_a_bad_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value, line in (
        ("SOCKSERVICES_PORT", "x", "'x' is not a whole number from 0 to 65535"),
        ("TRIED_MAX_SIZE", "0", "0 is not a whole number, 1 or more"),
        ("TRIED_ALLOW", "1.2.3.4 x", "'x' is not a network"),
    ):
        monkeypatch.setenv(name, value)
        assert _refused(stream_options(Attrs), [], capfd).startswith(f"options: {name}: {line}")
        monkeypatch.delenv(name)


def test_errors_of_any_options_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    class Explained(OneLineErrors):
        def explained(self, error: usage.UsageError) -> str:
            return f"explained: {error}"

        def postOptions(self) -> None:
            raise usage.UsageError("wrong")

    assert _refused(Explained(), [], capfd) == "options: explained: wrong"  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("served", "shown", "hidden"),
    [
        (
            Served("tried", Plain, None, "stream"),
            ["--backlog", "--max-connections", "--at-limit", "--tls-key", "--graceful-timeout"],
            ["--receive-buffer"],
        ),
        (
            Served("tried", None, Datagrams, "datagram"),
            ["--receive-buffer", "--rate", "--exempt", "--mode", "--flush", "SOCKSERVICES_RATE"],
            [
                *("--backlog", "--stock-transports", "--max-connections", "--at-limit"),
                *("--allow-user", "--idle-timeout", "--handshake-timeout", "--tcp-keepalive"),
                *("--tls-cert", "--tls-key", "TLS:", "--proxy-protocol", "--proxy-allow-from"),
                *("--graceful-timeout", "SOCKSERVICES_MAX_CONNECTIONS"),
            ],
        ),
        (
            Served("tried", Plain, Datagrams, "stream"),
            ["--backlog", "--receive-buffer", "--tls-key", "--rate"],
            [],
        ),
    ],
)
def test_the_help_has_the_options_that_the_service_can_use(
    served: Served, shown: list[str], hidden: list[str]
) -> None:
    said = options_for(served).getUsage()
    for each in shown:
        assert each in said
    for each in hidden:
        assert each not in said
