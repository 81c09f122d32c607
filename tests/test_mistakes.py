from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import twisted
from sockservices.mistakes import described, place_of, traceback_of

MODULES = {
    "mistaken_key": "import os\nNAME = 'PORT'\nPORT = {}[NAME]\n",
    "mistaken_call": "import json\n\njson.loads('')\n",
    "mistaken_import": "import os\nimport mistaken_key\n",
    "mistaken_syntax": "import mistaken_half\n",
    "mistaken_half": "x = 1\n\n\n\ndef half(:\n",
    "mistaken_missing": "\n\nimport no_such_module_here\n",
    "mistaken_library": "import a_library\n",
    "mistaken_use": "import a_good_library\n\na_good_library.call()\n",
}
LIBRARIES = {
    "a_library": "import no_such_module_here\n",
    "a_good_library": "\ndef call():\n    raise ValueError\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    libraries = tmp_path / "site-packages"
    libraries.mkdir()
    for directory, files in [(tmp_path, MODULES), (libraries, LIBRARIES)]:
        monkeypatch.syspath_prepend(directory)
        for name, text in files.items():
            (directory / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in (*MODULES, *LIBRARIES):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("mistaken_key", "KeyError: 'PORT' (mistaken_key.py:3)"),
        ("mistaken_import", "KeyError: 'PORT' (mistaken_key.py:3)"),
        (
            "mistaken_call",
            "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (mistaken_call.py:3)",
        ),
        ("mistaken_syntax", "SyntaxError: invalid syntax (mistaken_half.py:5)"),
        (
            "mistaken_missing",
            "ModuleNotFoundError: No module named 'no_such_module_here' (mistaken_missing.py:3)",
        ),
        (
            "mistaken_library",
            "ModuleNotFoundError: No module named 'no_such_module_here' "
            "(site-packages/a_library.py:1)",
        ),
        ("mistaken_use", "ValueError (mistaken_use.py:3)"),
        ("mistaken_nowhere", "ModuleNotFoundError: No module named 'mistaken_nowhere'"),
    ],
)
def test_the_line_names_the_place_of_the_mistake(folder: Path, name: str, line: str) -> None:
    assert described(_imported(name)) == line


def _imported(name: str) -> Exception:
    """Return what importing a module raises, called by a function that looks like Twisted's."""
    file = str(Path(str(twisted.__file__)).with_name("x.py"))
    namespace: dict[str, Any] = {}
    exec(compile("def call(function, name): function(name)", file, "exec"), namespace)
    importlib.invalidate_caches()
    return _raised(namespace["call"], importlib.import_module, name)


def _raised(function: Callable[..., object], *arguments: object) -> Exception:
    """Return what a function raises, without the call from here in its traceback."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any
        function(*arguments)
    assert caught.value.__traceback__ is not None
    return caught.value.with_traceback(caught.value.__traceback__.tb_next)


def test_of_a_mistake_in_an_installed_package_the_call_into_it_is_named(folder: Path) -> None:
    import a_good_library  # type: ignore[import-not-found]

    assert (
        described(_raised(a_good_library.call)) == "ValueError (site-packages/a_good_library.py:3)"
    )


def test_a_place_elsewhere_is_a_whole_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = _imported("mistaken_key")
    monkeypatch.chdir("/usr")
    assert place_of(error) == f"{folder}/mistaken_key.py:3"
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    assert place_of(error) == f"{folder}/mistaken_key.py:3"


def test_a_validators_error_is_its_text_alone() -> None:
    @attrs.define
    class Checked:
        number: int = attrs.field(validator=attrs.validators.instance_of(int))

    error = _raised(Checked, "x")
    assert described(error).startswith("TypeError: 'number' must be <class 'int'> (got 'x'")
    assert described(error).endswith(">).")


def test_a_traceback_begins_with_the_authors_code(folder: Path) -> None:
    outer = RuntimeError("x")
    outer.__cause__ = _imported("mistaken_import")
    text = traceback_of(outer)
    assert text is not None
    lines = text.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{folder}/mistaken_import.py", line 2, in <module>'
    assert lines[-1] == "KeyError: 'PORT'"


def test_an_error_of_nobodys_code_has_no_traceback() -> None:
    assert traceback_of(ValueError("x")) is None
    assert place_of(OSError(os.strerror(2))) is None
    assert described(ValueError("a\nb")) == "ValueError: a"
