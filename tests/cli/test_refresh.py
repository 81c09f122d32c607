from __future__ import annotations

from pathlib import Path

import pytest

import twisted.plugins
from sockservices.cli.refresh import refresh
from tests.cli.running import run

CACHE = "dropin.cache"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Have plugins in two folders of one's own; there, one is found when it is looked for."""
    made = [tmp_path / "one", tmp_path / "two"]
    for each in made:
        each.mkdir()
        (each / "plugin.py").touch()
        (each / CACHE).write_text("old")
    monkeypatch.setattr(twisted.plugins, "__path__", [*map(str, made), str(tmp_path / "none")])

    def build(_interface: object) -> list[str]:
        for each in made:
            assert not (each / CACHE).exists()
            (each / CACHE).write_text("new")
        return ["a", "b", "c"]

    monkeypatch.setattr("sockservices.cli.refresh.getPlugins", build)
    return made


def test_each_cache_is_built_anew(folders: list[Path]) -> None:
    status, printed, said = run(refresh)
    assert (status, said) == (0, "")
    assert "3 " in printed
    for each in folders:
        assert str(each) in printed
        assert (each / CACHE).read_text() == "new"


def test_where_there_was_none_one_is_built(folders: list[Path]) -> None:
    (folders[0] / CACHE).unlink()
    assert run(refresh)[0] == 0
    assert (folders[0] / CACHE).read_text() == "new"


def test_one_that_cannot_be_removed_is_named(folders: list[Path]) -> None:
    (folders[1] / CACHE).unlink()
    (folders[1] / CACHE).mkdir()
    status, printed, said = run(refresh)
    assert (status, printed) == (1, "")
    assert str(folders[1] / CACHE) in said


def test_one_that_cannot_be_written_is_named(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_none(_interface: object) -> list[str]:
        (folders[0] / CACHE).write_text("new")
        return []

    monkeypatch.setattr("sockservices.cli.refresh.getPlugins", build_none)
    status, _printed, said = run(refresh)
    assert status == 1
    assert str(folders[1]) in said
    assert str(folders[0]) not in said


def test_a_folder_without_plugins_needs_no_cache(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("plugin.py", CACHE):
        (folders[1] / name).unlink()

    def build(_interface: object) -> list[str]:
        (folders[0] / CACHE).write_text("new")
        return []

    monkeypatch.setattr("sockservices.cli.refresh.getPlugins", build)
    assert run(refresh)[0] == 0
