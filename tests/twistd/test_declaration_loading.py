from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockservices.services.echo import Echo
from sockservices.twistd.declaration import LoadError, load


def test_an_object_is_found_by_its_dotted_name() -> None:
    assert load("sockservices.services.echo.Echo") is Echo
    assert load("sockservices.services.echo.Echo.dataReceived") is Echo.dataReceived


@given(st.text(st.characters()))
def test_a_name_that_leads_to_nothing_is_one_line(rest: str) -> None:
    with pytest.raises(LoadError) as caught:
        load(f"no_module_has_this_name.{rest}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["", ".", "a..b", "sockservices.services.echo.Nothing"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(LoadError, match=r"^cannot import "):
        load(name)


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "faulty_service.py").write_text("raise RuntimeError('at\\nimport')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "faulty_service.Factory"


def test_what_a_module_raises_is_told_with_its_cause(faulty: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        load(faulty)
    assert str(caught.value) == (
        f"cannot import 'faulty_service.Factory': RuntimeError: at ({tmp_path}/faulty_service.py:1)"
    )
    assert isinstance(caught.value.__cause__, RuntimeError)
