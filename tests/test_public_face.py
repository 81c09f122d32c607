from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from zope.interface import Interface

import sockservices

_NAMES = ast.parse(Path(sockservices.__file__).with_suffix(".pyi").read_text())
_MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(sockservices.__path__, "sockservices.")
]


def _homes() -> dict[str, str]:
    """The public names, each with the module that it is imported from."""
    found = {}
    for node in _NAMES.body:
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            assert isinstance(node, ast.ImportFrom)
            assert alias.asname == alias.name, "only 'import x as x' makes a name public"
            found[alias.name] = f"sockservices.{node.module}"
    return found


@pytest.mark.parametrize("name", sockservices.__all__)
def test_a_public_name_can_be_imported_and_has_a_docstring(name: str) -> None:
    found = getattr(sockservices, name)
    assert inspect.getdoc(found)


def test_every_public_name_is_listed_once_and_in_order() -> None:
    assert sockservices.__all__ == sorted(set(sockservices.__all__))


def test_a_public_name_is_the_object_of_its_home() -> None:
    assert sockservices.__all__ == sorted(_homes())
    for name, home in _homes().items():
        assert getattr(sockservices, name) is getattr(importlib.import_module(home), name)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="No sockservices attribute Nothing"):
        _ = sockservices.Nothing  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        exec("from sockservices import Nothing")


def test_importing_the_package_imports_nothing_else() -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "before = set(sys.modules)\n"  # a file *.pth may have made the package zope
            "import sockservices\n"
            "print([name for name in set(sys.modules) - before"
            " if name.startswith(('twisted', 'attr', 'zope', 'sockservices.'))])",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert ended.stdout == "[]\n"


def _public_parts(module: ModuleType) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = [(module.__name__, module)]
    for name, found in vars(module).items():
        if name.startswith("_") or getattr(found, "__module__", None) != module.__name__:
            continue
        if isinstance(found, type) or inspect.isfunction(found) or _is_interface(found):
            parts.append((f"{module.__name__}.{name}", found))
        if isinstance(found, type):
            parts += [
                (f"{module.__name__}.{name}.{member}", part)
                for member, part in vars(found).items()
                if not member.startswith("_")
                and (inspect.isfunction(part) or isinstance(part, property))
                and inspect.getsourcefile(_function(part)) == module.__file__
            ]
    return parts


def _function(part: Any) -> Any:
    return part.fget if isinstance(part, property) else part


def _is_interface(found: object) -> bool:
    return isinstance(found, type(Interface))


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: str(module.__name__))
def test_everything_public_has_a_docstring(module: ModuleType) -> None:
    without = [name for name, part in _public_parts(module) if not (part.__doc__ or "").strip()]
    assert [name for name in without if not _is_inherited(name)] == []


def _is_inherited(name: str) -> bool:
    """Whether a method's words are those of its own base class or interface in a private class."""
    return any(part.startswith("_") for part in name.split(".")[1:])


def test_the_names_of_our_plugins_never_change() -> None:
    """Twisted's cache holds them; one that is missing breaks every ``twistd``."""
    from twisted.plugin import IPlugin

    from twisted.plugins import sockservices as dropin

    names = {name for name, value in vars(dropin).items() if IPlugin.providedBy(value)}
    assert names >= {
        "sock",
        "sock_ack",
        "sock_counter",
        "sock_echo",
        "sock_hello",
        "sock_hexdump",
        "sock_serve",
    }
