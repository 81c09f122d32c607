from __future__ import annotations

import subprocess
import sys
from typing import Any

import attrs
import pytest
from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin, getPlugins
from zope.interface.verify import verifyObject

from sockservices import EchoFactory, SocketService, SocketServiceMaker
from sockservices.twistd.options import HostOptions
from tests.fakes import factory_of
from twisted.plugins import sockservices as ours

ECHO = "sockservices.services.echo.EchoFactory"
OURS = [each for each in vars(ours).values() if isinstance(each, SocketServiceMaker)]


def test_a_declaration_is_a_plugin_of_twistd() -> None:
    maker = SocketServiceMaker("tried", "For a test.", stream=ECHO)
    verifyObject(IServiceMaker, maker)
    verifyObject(IPlugin, maker)
    assert (maker.tapname, maker.description) == ("tried", "For a test.")


@pytest.mark.parametrize(
    ("named", "kinds"),
    [
        ({"stream": "a"}, ("stream",)),
        ({"datagram": "a"}, ("datagram",)),
        ({"stream": "a", "datagram": "b"}, ("stream", "datagram")),
        ({"stream": "a", "datagram": "b", "first": "datagram"}, ("datagram", "stream")),
        ({"stream": "a", "first": "datagram"}, ("stream",)),
    ],
)
def test_the_kind_that_port_means_comes_first(
    named: dict[str, Any], kinds: tuple[str, ...]
) -> None:
    assert SocketServiceMaker("tried", "For a test.", **named).kinds == kinds


def test_a_declaration_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="tried names neither a stream factory nor a datagram"):
        SocketServiceMaker("tried", "For a test.")
    with pytest.raises(ValueError, match="first"):
        SocketServiceMaker("tried", "For a test.", stream="a", first="second")  # type: ignore[arg-type]


def test_a_declaration_never_changes() -> None:
    maker = SocketServiceMaker("tried", "For a test.", stream=ECHO)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        maker.tapname = "other"  # type: ignore[misc]


def test_options_and_service_come_from_what_is_named() -> None:
    maker = SocketServiceMaker("tried", "For a test.", stream=ECHO, datagram=ECHO)
    options = maker.options()
    assert isinstance(options, HostOptions)
    options.parseOptions(["--port=0", "--listen=udp:0", "--once"])
    service = maker.makeService(options)
    assert isinstance(service, SocketService)
    assert isinstance(factory_of(service), EchoFactory)
    assert factory_of(service).once


def test_a_name_that_leads_to_nothing_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    maker = SocketServiceMaker("tried", "For a test.", stream="no_such_module_here.Factory")
    with pytest.raises(SystemExit) as caught:
        maker.options()
    assert caught.value.code == 1
    said = capfd.readouterr().err
    assert ": tried: cannot import 'no_such_module_here.Factory': " in said
    assert said.count("\n") == 1


def test_our_declarations_are_found() -> None:
    found = {
        maker.tapname
        for maker in getPlugins(IServiceMaker)
        if isinstance(maker, SocketServiceMaker)
    }
    assert {maker.tapname for maker in OURS} <= found
    assert len(OURS) == 5


@pytest.mark.parametrize("maker", OURS, ids=lambda maker: str(maker.tapname))
def test_each_of_our_declarations_names_what_there_is(maker: SocketServiceMaker) -> None:
    usage = maker.options().getUsage()
    for own in maker.served().settings():
        assert f"--{own.name}" in usage
        assert own.help
    assert maker.served().first == maker.kinds[0]


def test_reading_the_declarations_imports_no_service_and_no_reactor() -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, twisted.plugins.sockservices\n"
            "print(sorted(name for name in sys.modules if name == 'twisted.internet.reactor'"
            " or name.startswith(('sockservices.services', 'sockservices.host.host'))))",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert ended.stdout == "[]\n"
