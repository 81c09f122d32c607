"""The tests mirror the package, file by file: what is tested where can be told from its name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OF_THE_REPOSITORY = {
    *("test_benchmarks", "test_documentation", "test_public_face", "test_reference"),
    *("test_site_links", "test_structure", "test_twisted_suites"),
}
"""Files of tests of what is no module: the repository itself."""


def modules() -> set[str]:
    """Return the modules of the package, as ``host/ports``."""
    found = (path.relative_to(ROOT / "sockservices") for path in _files("sockservices", "*.py"))
    return {
        path.with_suffix("").as_posix()
        for path in found
        if path.name != "__init__.py" and path.parts[:2] != ("cli", "project")
    }


def unit_tests() -> set[str]:
    """Return the files of unit tests, as ``host/test_ports``."""
    found = (path.relative_to(ROOT / "tests") for path in _files("tests", "test_*.py"))
    return {path.with_suffix("").as_posix() for path in found if path.parts[0] != "system"}


def _files(folder: str, pattern: str) -> Iterable[Path]:
    return (ROOT / folder).rglob(pattern)


def without_a_test(modules: Iterable[str], tests: Iterable[str]) -> list[str]:
    """Return the tests that there should be, as they should be named."""
    return sorted({_test_of(module) for module in modules} - set(tests))


def without_a_module(modules: Iterable[str], tests: Iterable[str]) -> list[str]:
    """Return the tests that are neither of a module, nor of an aspect of it."""
    wanted = {_test_of(module) for module in modules}
    return sorted(
        test
        for test in set(tests) - OF_THE_REPOSITORY
        if not any(test == each or test.startswith(f"{each}_") for each in wanted)
    )


def _test_of(module: str) -> str:
    room, slash, name = module.rpartition("/")
    return f"{room}{slash}test_{name}"


def test_each_module_has_its_file_of_tests() -> None:
    missing = without_a_test(modules(), unit_tests())
    assert not missing, f"not there: {', '.join(f'tests/{each}.py' for each in missing)}"


def test_each_file_of_tests_is_of_a_module() -> None:
    strays = without_a_module(modules(), unit_tests())
    assert not strays, (
        f"of no module: {', '.join(f'tests/{each}.py' for each in strays)}; what tests "
        "sockservices/ROOM/NAME.py is tests/ROOM/test_NAME.py or tests/ROOM/test_NAME_ASPECT.py"
    )


def test_what_tests_the_repository_is_there() -> None:
    assert unit_tests() >= OF_THE_REPOSITORY


@pytest.mark.parametrize(
    ("tests", "missing", "strays"),
    [
        ({"host/test_ports", "test_exit"}, [], []),
        ({"host/test_ports", "host/test_ports_late", "test_exit", "test_structure"}, [], []),
        ({"host/test_ports"}, ["test_exit"], []),
        ({"host/test_ports_late", "test_exit"}, ["host/test_ports"], []),
        ({"test_ports", "test_exit"}, ["host/test_ports"], ["test_ports"]),
        ({"host/test_ports", "host/test_exit", "test_exit"}, [], ["host/test_exit"]),
        ({"host/test_ports", "host/test_portslate", "test_exit"}, [], ["host/test_portslate"]),
    ],
)
def test_a_file_in_the_wrong_place_is_noticed(
    tests: set[str], missing: list[str], strays: list[str]
) -> None:
    modules = {"host/ports", "exit"}
    assert without_a_test(modules, tests) == missing
    assert without_a_module(modules, tests) == strays
