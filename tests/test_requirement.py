from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from sockservices import requirement as module
from sockservices.requirement import pip_install, requirement


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what sets the record that pip has made of an installation."""

    def record(text: str | None) -> None:
        class Distribution:
            def read_text(self, name: str) -> str | None:
                assert name == "direct_url.json"
                return text

        monkeypatch.setattr(module, "distribution", lambda _name: Distribution())

    return record


@pytest.mark.parametrize("text", [None, "", "{", "{}"])
def test_a_release_is_found_by_its_name(recorded: Any, text: str | None) -> None:
    recorded(text)
    assert (requirement(), requirement("tls")) == ("sockservices", "'sockservices[tls]'")
    assert pip_install("tls") == "pip install 'sockservices[tls]'"


def test_a_clone_is_found_where_it_is(recorded: Any, tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    recorded(json.dumps({"url": clone.as_uri(), "dir_info": {"editable": True}}))
    assert requirement() == f"'{clone}'"
    assert requirement("tls") == f"'{clone}[tls]'"
    clone.rmdir()
    assert requirement("tls") == "'sockservices[tls]'"


def test_a_repository_is_found_by_its_url_and_commit(recorded: Any) -> None:
    vcs = {"vcs": "git", "commit_id": "c0ffee", "requested_revision": "main"}
    recorded(json.dumps({"url": "https://example.org/x.git", "vcs_info": vcs}))
    assert requirement() == "'sockservices @ git+https://example.org/x.git@c0ffee'"
    assert requirement("tls") == "'sockservices[tls] @ git+https://example.org/x.git@c0ffee'"


def test_an_archive_is_found_by_its_url(recorded: Any) -> None:
    recorded(json.dumps({"url": "https://example.org/x.whl", "archive_info": {}}))
    assert requirement() == "'sockservices @ https://example.org/x.whl'"


def test_what_was_never_installed_has_only_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "distribution", none)
    assert requirement() == "sockservices"
