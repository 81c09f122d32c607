from __future__ import annotations

from pathlib import Path

import pytest

from sockservices.logs import to_sink, to_stderr
from sockservices.sink import Sink


def test_the_log_can_go_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    observer = to_stderr()
    observer({"log_format": "said {what}", "what": "Grüße", "log_time": 0.0})
    assert capfd.readouterr().err.endswith(" said Grüße\n")


def test_text_that_is_not_utf_8_is_logged_all_the_same(tmp_path: Path) -> None:
    observer = to_sink(Sink(str(tmp_path / "log")))
    observer({"log_format": "said \udcff", "log_time": 0.0})
    assert (tmp_path / "log").read_text().endswith(" said \\udcff\n")
