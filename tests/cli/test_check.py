from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from sockservices import testing
from sockservices.cli.check import check
from sockservices.services.hello import HelloFactory
from sockservices.testing import ContractError, rules
from sockservices.twistd.declaration import SocketServiceMaker
from tests.cli.running import run

HERE = "tests.cli.test_check"


class Streams(Factory):
    def __init__(self, *, word: str = "x", port: int = 0) -> None:
        """Has options without help, and one that every service has."""


class Needing(Factory):
    noisy = False
    protocol = Protocol

    def __init__(self, *, word: str) -> None:
        Needing.words.add(word)

    words: set[str] = set()  # noqa: RUF012


class Datagrams(DatagramProtocol): ...


seven = 7


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what declares a service under the name ``tried``."""

    def declare(description: str = "For a test.", **named: str) -> SocketServiceMaker:
        maker = SocketServiceMaker("tried", description, **named)  # type: ignore[arg-type]
        monkeypatch.setattr("sockservices.cli.check.found", lambda _name: maker)
        return maker

    return declare


class Contract:
    """Stands where a contract would; short, and broken where a test says so."""

    breaks: Exception | None = None
    held: list[Any] = []  # noqa: RUF012

    def test_the_door_is_shut(self) -> None:
        made: Any = self
        Contract.held.append(made.factory())
        os.write(1, b"noise of the service")
        if Contract.breaks is not None:
            raise Contract.breaks

    def test_the_light_is_out(self) -> None: ...


@pytest.fixture(autouse=True)
def _contracts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have contracts that take no time."""
    for name in ("StreamServiceContract", "DatagramServiceContract"):
        monkeypatch.setattr(testing, name, Contract, raising=False)
    monkeypatch.setattr(Contract, "held", [])
    monkeypatch.setattr(Contract, "breaks", None)
    yield
    Needing.words.clear()


def test_a_service_without_faults_is_told_so(declared: Any) -> None:
    declared(stream="sockservices.services.hello.HelloFactory")
    status, printed, said = run(check, "tried")
    assert (status, said) == (0, "")
    assert printed.count("\n") == 1
    assert printed.startswith("tried: ")
    assert [type(each) for each in Contract.held] == [HelloFactory]


def test_each_kind_is_held_to_its_contract(declared: Any) -> None:
    declared(stream=f"{HERE}.Needing", datagram=f"{HERE}.Datagrams")
    run(check, "tried", "--with", "word=x")
    assert {type(each) for each in Contract.held} == {Needing, Datagrams}


def test_a_rule_that_is_broken_is_told_and_the_noise_is_not(
    declared: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    declared(stream="sockservices.services.hello.HelloFactory")
    Contract.breaks = ContractError(rules.ONCE, "it came 2 times", "b'x'")
    status, printed, said = run(check, "tried")
    assert status == 1
    assert "stream: the door is shut" in printed
    assert rules.ONCE.text in printed
    assert "it came 2 times" in printed
    assert "light" not in printed
    assert "1 fault" in said
    assert "noise" not in capfd.readouterr().out


def test_what_a_contract_cannot_get_through_is_a_fault_as_well(declared: Any) -> None:
    declared(stream="sockservices.services.hello.HelloFactory")
    Contract.breaks = ValueError("broken\nin two")
    status, printed, _said = run(check, "tried")
    assert status == 1
    assert "ValueError: broken (tests/cli/test_check.py:" in printed


def test_faults_of_a_declaration_are_told_one_by_one(declared: Any) -> None:
    declared("", stream=f"{HERE}.Streams")
    status, printed, said = run(check, "tried")
    assert status == 1
    lines = printed.splitlines()
    assert all(each.startswith("declaration: ") for each in lines)
    assert [
        sum(word in each for each in lines) for word in ("description", "--word", "--port")
    ] == [*(1, 1, 2)]
    assert f"{len(lines)} faults" in said


@pytest.mark.parametrize(
    "named",
    [
        {"stream": "no_such_module_here.Factory"},
        {"stream": f"{HERE}.seven"},
        {"stream": f"{HERE}.Datagrams"},
        {"datagram": f"{HERE}.Needing"},
        {"stream": "sockservices.services.hello.HelloFactory", "datagram": f"{HERE}.seven"},
    ],
)
def test_where_there_is_no_service_no_contract_is_looked_at(
    declared: Any, named: dict[str, str]
) -> None:
    declared(**named)
    status, printed, said = run(check, "tried")
    assert status == 1
    assert list(named.values())[-1] in printed
    assert "tried" in said
    assert Contract.held == []


def test_what_it_needs_to_be_built_can_be_given(declared: Any) -> None:
    declared(stream=f"{HERE}.Needing")
    status, _printed, said = run(check, "tried")
    assert status == 1
    assert "--with" in said
    assert "word" in said
    assert Contract.held == []
    run(check, "tried", "--with", "word=a=b")
    assert Needing.words == {"a=b"}
    assert [type(each) for each in Contract.held] == [Needing]


@pytest.mark.parametrize("pair", ["word", "=x"])
def test_what_is_no_pair_is_a_usage_error(declared: Any, pair: str) -> None:
    declared(stream=f"{HERE}.Needing")
    status, _printed, said = run(check, "tried", "--with", pair)
    assert status == 2
    assert f"'{pair}'" in said


def test_a_service_that_is_not_there_is_told() -> None:
    status, printed, said = run(check, "no-such-service")
    assert (status, printed) == (1, "")
    assert "no-such-service" in said


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", None),
        ("import hasty_service", "hasty_service"),
        ("import twisted.internet.reactor", "twisted.internet.reactor"),
        ("import heavy", "of heavy"),
        ("raise RuntimeError('by itself')", "by itself"),
    ],
)
def test_what_a_declaration_imports_with_every_command_is_told(
    declared: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    fault: str | None,
) -> None:
    (tmp_path / "hasty_service.py").write_text(
        "from twisted.internet.protocol import Factory\nclass Hasty(Factory): pass\n"
    )
    (tmp_path / "hasty_declaration.py").write_text(text)
    (tmp_path / "heavy").mkdir()
    parts = [f"part{number}" for number in range(30)]
    for each in parts:
        (tmp_path / f"heavy/{each}.py").touch()
    (tmp_path / "heavy/__init__.py").write_text(f"from heavy import {', '.join(parts)}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    here = ModuleType("hasty_declaration")
    here.maker = declared(stream="hasty_service.Hasty")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hasty_declaration", here)
    _status, printed, _said = run(check, "tried")
    monkeypatch.delitem(sys.modules, "hasty_service", raising=False)
    early = [each for each in printed.splitlines() if "import" in each]
    assert len(early) == (fault is not None)
    assert all(str(fault) in each for each in early)
