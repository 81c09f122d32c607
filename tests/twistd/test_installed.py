from __future__ import annotations

import importlib.metadata
import re
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any

import pytest

from sockservices import SocketService, SocketServiceMaker
from sockservices.twistd.declaration import LoadError
from sockservices.twistd.installed import (
    GROUP,
    Options,
    declaration,
    makeService,
    service_entry_points,
)
from sockservices.twistd.options import HostOptions
from tests.fakes import factory_of, logged

OURS = ["ack", "counter", "echo", "hello", "hexdump"]


class Packages:
    """Packages that are installed in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, package: str, entry_points: str | bytes, metadata: bytes | None = None) -> None:
        info = self.folder / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_bytes(
            metadata or f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode()
        )
        raw = entry_points if isinstance(entry_points, bytes) else entry_points.encode()
        (info / "entry_points.txt").write_bytes(f"[{GROUP}]\n".encode() + raw)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    (tmp_path / "strangers_services.py").write_text(
        "from sockservices import SocketServiceMaker\n"
        "maker = SocketServiceMaker('own-name', 'A stranger.',"
        " stream='sockservices.services.hello.HelloFactory')\n"
        "other = maker.__class__('other', 'Another.', stream='a')\n"
        "nothing = 7\n"
    )
    (tmp_path / "broken_services.py").write_text("raise RuntimeError('first\\nsecond')\n")
    (tmp_path / "leaving_services.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    return Packages(tmp_path)


def _options() -> Any:
    make: Any = Options
    return make()


def _names() -> list[str]:
    return [each.name for each in service_entry_points()]


def test_ours_are_there_in_order() -> None:
    assert [name for name in _names() if name in OURS] == OURS
    assert _names() == sorted(_names())


def test_a_strangers_service_is_found(packages: Packages) -> None:
    packages.add("stranger", "zebra = strangers_services:maker\n")
    assert "zebra" in _names()


def test_of_two_with_one_name_ours_counts_and_the_other_is_logged(packages: Packages) -> None:
    packages.add("stranger", "echo = strangers_services:maker\n")
    with logged() as events:
        found = {each.name: each.value for each in service_entry_points()}
    assert found["echo"] == "twisted.plugins.sockservices:sock_echo"
    assert [(each["name"], each["value"]) for each in events] == [
        ("echo", "strangers_services:maker")
    ]


@pytest.mark.parametrize("raw", [b"\xff\xfe = \xff\n", b"[[[\nno sense\n"])
def test_a_package_whose_metadata_cannot_be_read_hides_no_other(
    packages: Packages, raw: bytes
) -> None:
    packages.add("spoilt", raw, metadata=b"\xff\xff\xff")
    packages.add("stranger", "zebra = strangers_services:maker\n")
    assert {"zebra", *OURS} <= set(_names())


def test_a_declaration_is_imported() -> None:
    found = declaration(EntryPoint("echo", "twisted.plugins.sockservices:sock_echo", GROUP))
    assert isinstance(found, SocketServiceMaker)
    assert found.tapname == "sock-echo"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("broken_services:maker", "cannot import broken_services:maker: RuntimeError: first"),
        ("leaving_services:maker", "cannot import leaving_services:maker: SystemExit: 3"),
        (
            "strangers_services:nothing",
            "strangers_services:nothing is not a SocketServiceMaker but 7",
        ),
        ("strangers_services:missing", "cannot import strangers_services:missing: AttributeError"),
        ("no_such_module_here:maker", "cannot import no_such_module_here:maker: ModuleNotFound"),
    ],
)
@pytest.mark.usefixtures("packages")
def test_what_is_no_declaration_is_one_line(value: str, line: str) -> None:
    with pytest.raises(LoadError) as caught:
        declaration(EntryPoint("x", value, GROUP))
    assert str(caught.value).startswith(line)
    assert len(str(caught.value).splitlines()) == 1


def test_each_service_is_a_subcommand(packages: Packages) -> None:
    packages.add("stranger", "zebra = strangers_services:maker\n")
    packages.add("faulty", "broken = broken_services:maker\n")
    commands = {command[0]: command for command in _options().subCommands}
    assert set(OURS) <= set(commands)
    assert commands["zebra"][3] == "A stranger."
    assert commands["broken"][3].startswith("(broken: cannot import broken_services:maker")


def test_a_subcommand_makes_its_service(packages: Packages) -> None:
    packages.add("stranger", "zebra = strangers_services:maker\n")
    options = _options()
    options.parseOptions(["zebra", "--port=0", "--message=hi"])
    assert isinstance(options.subOptions, HostOptions)
    service = makeService(options)
    assert isinstance(service, SocketService)
    assert factory_of(service).message == "hi"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "No service given; available: "),
        (["nothing"], "nothing; available: "),
    ],
)
def test_a_usage_error_names_the_services(
    arguments: list[str], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        _options().parseOptions(arguments)
    assert caught.value.code == 2
    said = capfd.readouterr().err
    assert line in said
    assert all(name in said.partition(line)[2] for name in OURS)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["ecko"], "; did you mean echo?\n"),
        (["echo", "--prot"], ": echo: option --prot not recognized; did you mean --port?\n"),
        (["--versoin"], ": options: option --versoin not recognized; did you mean --version?\n"),
    ],
)
def test_what_may_be_meant_is_suggested(
    arguments: list[str], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        _options().parseOptions(arguments)
    assert caught.value.code == 2
    assert capfd.readouterr().err.endswith(line)


def test_a_broken_service_is_one_line_and_status_1(
    packages: Packages, capfd: pytest.CaptureFixture[str]
) -> None:
    packages.add("faulty", "broken = broken_services:maker\n")
    with pytest.raises(SystemExit) as caught:
        _options().parseOptions(["broken", "--port=0"])
    assert caught.value.code == 1
    said = capfd.readouterr().err
    assert re.search(
        r": sock broken: cannot import broken_services:maker: RuntimeError: first "
        r"\(/.*/broken_services.py:1\)\n$",
        said,
    )
    assert said.count("\n") == 1


def test_without_any_service_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    nobody: list[Distribution] = []
    monkeypatch.setattr("sockservices.twistd.installed.distributions", lambda: nobody)
    with pytest.raises(SystemExit):
        _options().parseOptions([])
    assert capfd.readouterr().err.endswith("available: none installed\n")
    assert importlib.metadata.version("sockservices")
