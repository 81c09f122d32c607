from __future__ import annotations

import sys
from pathlib import Path

import pytest
from twisted.logger import ILogObserver
from twisted.python.reflect import namedAny

from sockservices.twistd.log_observer import observer_for

_EVENT = {"log_format": "said", "log_time": 0.0}


def test_a_log_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    observer = namedAny(observer_for(str(path)))()
    assert ILogObserver.providedBy(observer)
    observer(_EVENT)
    assert path.read_text().startswith("before\n")
    assert path.read_text().endswith(" said\n")


def test_without_a_file_the_log_goes_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    namedAny(observer_for(None))()(_EVENT)
    assert capfd.readouterr().out.endswith(" said\n")


def test_a_closed_standard_output_takes_no_log(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    namedAny(observer_for(None))()(_EVENT)
    assert capfd.readouterr().out == ""
