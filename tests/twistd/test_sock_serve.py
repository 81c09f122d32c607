from __future__ import annotations

import sys
from pathlib import Path

import attrs
import pytest
from twisted.internet.protocol import Factory

from sockservices.connections.limits import Limits
from sockservices.connections.rates import Rate
from sockservices.host.host import SocketService
from sockservices.settings import setting
from sockservices.twistd.sock_serve import Options, makeService
from tests.fakes import factory_of
from tests.served import (
    Bare,
    built,
)

SERVED = "tests.served"


@pytest.fixture(autouse=True)
def _path_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the search path of modules, to which the options add the current folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def _service(*arguments: str) -> SocketService:
    options = Options()
    options.parseOptions(arguments)
    service = makeService(options)
    assert isinstance(service, SocketService)
    return service


def test_the_factory_gets_what_with_says() -> None:
    factory = factory_of(
        _service(f"--factory={SERVED}.Streams", "--port=0", "--with=mark=a=b", "--with=how_often=2")
    )
    assert factory.mark == "a=ba=b"


def test_a_name_is_taken_with_dashes_too() -> None:
    factory = factory_of(_service(f"--factory={SERVED}.Streams", "--port=0", "--with=how-often=3"))
    assert factory.mark == "!!!"


def test_what_is_built_already_is_served_as_it_is() -> None:
    assert factory_of(_service(f"--factory={SERVED}.built", "--port=0")) is built
    for name, mark in (("built_datagrams", "built"), ("built_datagram_factory", "!")):
        build = _service(f"--factory={SERVED}.{name}", "--port=0")._build_datagram_protocol
        assert build is not None
        assert build().mark == mark


def test_a_protocol_is_served_without_a_factory() -> None:
    factory = factory_of(_service(f"--factory={SERVED}.Bare", "--port=0"))
    assert isinstance(factory.buildProtocol(None), Bare)


def test_a_module_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in_the_current_folder.py").write_text(
        "from twisted.internet.protocol import Factory\nclass Found(Factory): pass\n"
    )
    monkeypatch.chdir(tmp_path)
    service = _service("--factory=in_the_current_folder.Found", "--port=0")
    assert type(factory_of(service)).__name__ == "Found"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--port=0"], "nothing to serve: give --factory package.module.Factory"),
        ([f"--factory={SERVED}.built"], "nothing to listen on: give --port, --socket or --listen"),
        (
            ["--factory=no_such_module_here.X", "--port=0"],
            "--factory: cannot import 'no_such_module_here.X': ",
        ),
        (
            ["--factory=os.path", "--port=0"],
            "--factory: os.path is a module; expected ",
        ),
        ([f"--factory={SERVED}.Streams", "--with=mark"], "--with: 'mark' is not NAME=VALUE"),
        ([f"--factory={SERVED}.Streams", "--with==x"], "--with: '=x' is not NAME=VALUE"),
        (
            [f"--factory={SERVED}.Streams", "--with=door=x", "--port=0"],
            f"--with: {SERVED}.Streams has no setting 'door'; it has: mark, how_often",
        ),
        (
            [f"--factory={SERVED}.Streams", "--with=how_often=x", "--port=0"],
            "--with how_often: 'x' is not a whole number",
        ),
    ],
)
def test_a_usage_error_is_one_line_and_status_2(
    arguments: list[str], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions(arguments)
    assert caught.value.code == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert f": options: {line}" in said.err
    assert said.err.count("\n") == 1


class Several(Factory):
    def __init__(self, rate: int = 1) -> None:
        self.rate = rate


@attrs.define(eq=False, slots=False)
class Words(Factory):
    words: tuple[str, ...] = setting(repeated=True, help="Words.")


def test_a_repeated_setting_takes_with_several_times() -> None:
    given = ("--with=words=a", "--with=words=b")
    assert factory_of(_service(f"--factory={__name__}.Words", "--port=0", *given)).words == (
        "a",
        "b",
    )


def test_a_variable_of_every_service_is_not_the_factorys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCK_SERVE_RATE", "5/60")
    monkeypatch.setenv("SOCK_SERVE_FACTORY", f"{__name__}.Several")
    service = _service("--port=0")
    assert factory_of(service).rate == 1
    assert service.settings[Limits] == Limits(rate=Rate(5, 60))
