from __future__ import annotations

import io
import sys

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent

from sockservices.logs import RareLog, to_stderr
from tests.fakes import logged


def test_of_each_event_one_in_a_minute_is_logged_under_the_services_name() -> None:
    clock = Clock()
    rare_log = RareLog(Logger("sock-echo"), clock.seconds)
    with logged() as events:
        for number in range(3):
            rare_log.warn("full: {number}", number=number)
            rare_log.info("bad: {number}", number=number)
        clock.advance(59)
        rare_log.warn("full: {number}", number=3)
        clock.advance(1)
        rare_log.warn("full: {number}", number=4)
    rest = " (others in the next minute are only counted)"
    assert [formatEvent(each) for each in events] == [
        f"full: 0{rest}",
        f"bad: 0{rest}",
        f"full: 4{rest}",
    ]
    assert {each["log_namespace"] for each in events} == {"sock-echo"}
    assert [each["log_level"] for each in events] == [LogLevel.warn, LogLevel.info, LogLevel.warn]


def test_the_log_can_go_to_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    observer = to_stderr()
    observer({"log_format": "said", "log_level": LogLevel.info, "log_time": 0.0})
    assert written.getvalue().endswith("said\n")
