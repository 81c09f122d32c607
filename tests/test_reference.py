"""The reference leaves out nothing of what the code has."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from zope.interface.interface import InterfaceClass

import sockservices
import sockservices.testing
from docs import generate
from sockservices.connections.ledger import REASONS
from sockservices.connections.parts import Part
from sockservices.logs import FIELDS
from sockservices.settings import Settings, settings_of
from sockservices.twistd.options import GROUPS
from tests.pages import ROOT
from tests.system.processes import BIN, run

REFERENCE = ROOT / "docs/reference"
_GROUPS = tuple(group.heading for group in GROUPS)


@pytest.mark.parametrize(
    "service", ["sock-echo", "sock-counter", "sock-hexdump", "sock-ack", "sock-hello", "sock-serve"]
)
def test_every_option_of_the_help_is_there(service: str, tmp_path: Path) -> None:
    shown = run(BIN / "twistd", service, "--help", cwd=tmp_path).stdout.decode()
    names = re.findall(r"^ {2}--([a-z0-9-]+)", shown, re.MULTILINE)
    sections = generate.options().split("## ")
    page = "".join(each for each in sections if each.startswith((*_GROUPS, f"`{service}`")))
    assert len(names) > 30
    for name in names:
        if name not in ("help", "version"):
            assert re.search(rf"`--{name}(=\S+)?` \|", page), name
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
    assert len(generate.log_events()) == found
    assert "`{service} listening on {addresses}`" in generate.events()


def test_the_fields_of_the_log_are_those_that_have_a_meaning() -> None:
    events = generate.log_events()
    assert {field for event in events for field in event.fields} == set(FIELDS)
    for event in events:
        named = re.findall(r"\{(\w+)[^}]*\}", event.text)
        assert set(named) == set(event.fields), event


_TELLS_WHY = ("end", "refuse", "reset", "_refuse")


def _reasons_in(tree: ast.AST) -> set[str]:
    """Find the texts that are returned or passed on as a reason."""
    found: list[ast.expr | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found += node.args if node.func.attr in _TELLS_WHY else []
        elif isinstance(node, ast.FunctionDef) and "Reason" in ast.unparse(node.returns or node):
            found += [each.value for each in ast.walk(node) if isinstance(each, ast.Return)]
    return {reason for part in found if part is not None for reason in _texts(part)}


def _texts(part: ast.expr) -> list[str]:
    """Return a text, or those of which one is chosen."""
    if isinstance(part, ast.IfExp):
        return [*_texts(part.body), *_texts(part.orelse)]
    if isinstance(part, ast.BoolOp):
        return [text for each in part.values for text in _texts(each)]
    return [part.value] if isinstance(part, ast.Constant) and isinstance(part.value, str) else []


def test_every_reason_that_is_given_has_a_meaning() -> None:
    rooms = [*generate.sources()]
    given = {
        reason
        for path in rooms
        if path.parent.name in ("connections", "host")
        for reason in _reasons_in(ast.parse(path.read_text()))
    }
    assert len(given) > 10
    assert given <= set(REASONS)


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


def test_every_attribute_of_a_public_class_has_words() -> None:
    names = [f"sockservices.{name}" for name in sockservices.__all__]
    names += [f"sockservices.testing.{name}" for name in sockservices.testing.__all__]
    classes = [each for each in map(_found, names) if inspect.isclass(each)]
    # The attributes of our services are their options: each has a text there.
    classes = [each for each in classes if not each.__module__.startswith("sockservices.services")]
    assert len(classes) > 10
    for each in classes:
        texts = "".join(inspect.getdoc(base) or "" for base in each.__mro__)
        parameters = set(re.findall(r"^ *(\w+): ", texts, re.MULTILINE))
        found, described = _attributes(ast.parse(inspect.getsource(each)).body[0])
        if issubclass(each, Settings):
            # A setting has its help, and the rest is in the base.
            described |= {setting.argument for setting in settings_of(each) if setting.help}
            described |= {name for name in found if name in vars(Part) | vars(Settings)}
            described.add("heading")
        missing = {name for name in found - described - parameters if not name.startswith("_")}
        assert not missing, f"{each.__name__}: {missing}"


_NAMED = (ast.Name, ast.Attribute)


def _attributes(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Find methods of a class, and what is assigned to it or ``self``; and which have words."""
    names: set[str] = set()
    described: set[str] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for statement, after in itertools.pairwise([*body, ast.Pass()]):
            found: list[str] = []
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and node is tree:
                found = [statement.name]
                has_words = ast.get_docstring(statement) is not None
            elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
                targets = (
                    statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                )
                found = [ast.unparse(each) for each in targets if isinstance(each, _NAMED)]
                if node is not tree:  # in a method
                    found = [name[5:] for name in found if name.startswith("self.")]
                has_words = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            names |= set(found)
            described |= set(found) if found and has_words else set()
    return names, described
