from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sockservices.cli.new import new
from tests.cli.running import run


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _files(folder: Path) -> set[str]:
    found = (each for each in folder.rglob("*") if each.is_file())
    return {each.relative_to(folder).as_posix() for each in found}


COMMON = {".gitignore", "README.md", "pyproject.toml", ".github/workflows/test.yml"}


@pytest.mark.parametrize(
    ("options", "declaration"),
    [
        ([], "twisted/plugins/my_chat_service.py"),
        (["--datagram"], "twisted/plugins/my_chat_service.py"),
        (["--entry-point"], "my_chat/declaration.py"),
        (["--datagram", "--entry-point"], "my_chat/declaration.py"),
    ],
)
def test_a_project_has_its_service_its_tests_and_its_declaration(
    folder: Path, options: list[str], declaration: str
) -> None:
    status, _printed, said = run(new, "my_chat", *options)
    assert (status, said) == (0, "")
    project = folder / "my_chat"
    own = {"my_chat/__init__.py", "tests/test_my_chat.py", declaration}
    assert _files(project) == COMMON | own
    assert list(folder.iterdir()) == [project]
    for name in own:
        compile((project / name).read_text(), name, "exec")
    kind = "datagram" if "--datagram" in options else "stream"
    assert f"{kind}=" in (project / declaration).read_text()


def test_no_gap_is_left_in_its_texts(folder: Path) -> None:
    for name, *options in (("a",), ("b", "--datagram"), ("c", "--entry-point")):
        run(new, name, *options)
    for each in folder.rglob("*"):
        assert "@@" not in each.name
        if each.is_file():
            assert not re.search(r"@@", each.read_text()), each


@pytest.mark.parametrize(
    ("options", "command"), [([], "-n my_chat"), (["--entry-point"], "-n sock my_chat")]
)
def test_what_to_do_next_is_printed(options: list[str], command: str) -> None:
    _status, printed, _said = run(new, "my_chat", *options)
    assert "cd my_chat\n" in printed
    assert f"{command} " in printed


@pytest.mark.parametrize(
    "name",
    [
        *("", "My", "my-chat", "1st", "my__chat", "chat_", "_chat", "ch\u00e4t", "x" * 61, "a/b"),
        *("class", "match", "tests", "build", "echo", "json", "twisted", "no\nname"),
    ],
)
def test_what_is_no_name_or_is_taken_is_refused_and_nothing_is_made(
    folder: Path, name: str
) -> None:
    status, printed, said = run(new, "--", name)
    assert (status, printed) == (1, "")
    assert said.rstrip("\n").count("\n") == 0
    assert list(folder.iterdir()) == []


def test_a_name_may_be_as_long_as_this(folder: Path) -> None:
    assert run(new, "x" * 60)[0] == 0
    assert (folder / ("x" * 60)).is_dir()


def test_what_is_there_already_is_left_as_it_is(folder: Path) -> None:
    (folder / "mine").write_text("mine")
    (folder / "pointing").symlink_to("nowhere")
    for name in ("mine", "pointing"):
        status, _printed, said = run(new, name)
        assert status == 1
        assert name in said
    assert (folder / "mine").read_text() == "mine"
    assert {each.name for each in folder.iterdir()} == {"mine", "pointing"}


def test_one_that_cannot_be_finished_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_text", full)
    status, printed, said = run(new, "my_chat")
    assert (status, printed) == (1, "")
    assert "my_chat: No space left on device" in said
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("needed", "notes"),
    [
        ("sockservices", 0),
        ("/home/me/sockservices", 2),
        ("'sockservices @ git+https://example.org/x@c0ffee'", 0),
    ],
)
def test_before_a_release_its_steps_install_what_it_was_made_from(
    folder: Path, needed: str, notes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sockservices.cli.new.requirement", lambda: needed)
    _status, printed, _said = run(new, "my_chat")
    readme = (folder / "my_chat/README.md").read_text()
    workflow = (folder / "my_chat/.github/workflows/test.yml").read_text()
    install = "pip install -e '.[test]'\n"
    if needed != "sockservices":
        install = f"pip install {needed} -e '.[test]'\n"
    for text in (printed, readme, workflow):
        assert install in text
    assert (readme + workflow).count("sockservices has no release yet") == notes
    assert ("`/home/me/sockservices` by the path" in readme) == bool(notes)
