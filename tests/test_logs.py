from __future__ import annotations

import io
import sys

import pytest
from twisted.logger import LogLevel

from sockservices.logs import to_stderr


def test_the_log_can_go_to_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    observer = to_stderr()
    observer({"log_format": "said", "log_level": LogLevel.info, "log_time": 0.0})
    assert written.getvalue().endswith("said\n")
