"""The reference leaves out nothing of what the code has."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from zope.interface.interface import InterfaceClass

import sockservices
import sockservices.testing
from docs import generate
from sockservices.logs import FIELDS
from sockservices.reasons import REASONS, Reason
from tests.pages import ROOT
from tests.system.processes import BIN, run

REFERENCE = ROOT / "docs/reference"


@pytest.mark.parametrize(
    "service", ["sock-echo", "sock-counter", "sock-hexdump", "sock-ack", "sock-hello", "sock-serve"]
)
def test_every_option_of_the_help_is_there(service: str, tmp_path: Path) -> None:
    shown = run(BIN / "twistd", service, "--help", cwd=tmp_path).stdout.decode()
    names = re.findall(r"^ +--([a-z0-9-]+)", shown, re.MULTILINE)
    sections = generate.options().split("## ")
    page = "".join(each for each in sections if each.startswith(("Of every", f"`{service}`")))
    assert len(names) > 30
    for name in names:
        assert re.search(rf"`--{name}( …)?` \|", page), name
    assert page.count("[") == page.count("]")


def test_every_command_is_there(tmp_path: Path) -> None:
    shown = run(BIN / "sockservices", "--help", cwd=tmp_path).stdout.decode()
    names = re.findall(r"^  ([a-z]+) ", shown.partition("Commands:")[2], re.MULTILINE)
    page = generate.commands()
    assert len(names) > 4
    for name in names:
        assert f"## `sockservices {name}`" in page


_LEVELS = ("debug", "info", "warn", "error", "critical", "failure", "emit")


def test_every_event_of_the_log_is_there() -> None:
    """The generator finds direct calls of what is named ``_log``: so there is nothing else."""
    found = 0
    for path in generate.sources():
        tree = ast.parse(path.read_text())
        called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("_log"):
                assert node in called, f"{path}: {ast.unparse(node)}"
                assert node.attr in _LEVELS[:-1], f"{path}: {ast.unparse(node)}"
                found += 1
            elif isinstance(node, ast.Attribute) and node.attr in _LEVELS:
                # Of loggers by other names; click and others have methods that are called so.
                assert "log" not in ast.unparse(node.value), f"{path}: {ast.unparse(node)}"
            elif isinstance(node, ast.ClassDef):
                # Twisted gives such a logger the name of the class instead of its namespace.
                inside = [each for each in node.body if isinstance(each, ast.Assign)]
                assert not any("Logger(" in ast.unparse(each) for each in inside), path
    in_log_rarely = 1
    calls_of_log_rarely = sum(
        len(re.findall(r"\.log_rarely\(", path.read_text())) for path in generate.sources()
    )
    assert len(generate.log_events()) == found - in_log_rarely + calls_of_log_rarely
    assert "`{service} listening on {addresses}`" in generate.events()


def test_the_fields_of_the_log_are_those_that_have_a_meaning() -> None:
    events = generate.log_events()
    assert {field for event in events for field in event.fields} == set(FIELDS)
    for event in events:
        named = re.findall(r"\{(\w+)[^}]*\}", event.text)
        assert set(named) == set(event.fields), event


def test_every_reason_has_a_meaning() -> None:
    assert set(REASONS) == set(get_args(Reason))


def test_every_public_name_is_there() -> None:
    pages = "".join((REFERENCE / name).read_text() for name in ("api.md", "counted.md"))
    documented = set(re.findall(r"auto(?:class|function|exception):: (\S+)", pages))
    names = {f"sockservices.{name}" for name in sockservices.__all__}
    names |= {f"sockservices.testing.{name}" for name in sockservices.testing.__all__}
    # The interfaces are generated, all of them.
    interfaces = {name for name in names if isinstance(_found(name), InterfaceClass)}
    assert names - documented == interfaces


def _found(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules[module], attribute)
