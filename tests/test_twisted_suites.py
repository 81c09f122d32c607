"""The comparison of Twisted's suites: what it takes for a difference, and that it finds one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.epollreactor import EPollReactor

from tests.twisted_suites.child import EPOLL, neutral
from tests.twisted_suites.outcomes import Outcome, counts, differences, gather, unintended
from tests.twisted_suites.running import run
from tests.twisted_suites.suites import chosen

ROOT = Path(__file__).parents[1]


class ForgetfulReactor(EPollReactor):
    """Calls everything that is due later at once."""

    def callLater(self, delay: float, *args: Any, **kw: Any) -> DelayedCall:
        return super().callLater(0, *args, **kw)


def event(kind: str, **details: Any) -> dict[str, Any]:
    return {"id": "a.b", "kind": kind, **details}


def test_a_reactor_is_replaced_in_ids_and_reasons() -> None:
    names = ["some.place.EagerReactor", EPOLL]
    assert neutral("t.test_x.A_EagerReactorTests.test_y", names) == "t.test_x.A_REACTORTests.test_y"
    assert neutral("t.test_x.A_EPollReactorTests.test_y", names) == "t.test_x.A_REACTORTests.test_y"
    assert neutral("some.place.EagerReactor does not", names) == "REACTOR does not"
    assert neutral("'EPollReactor' cannot", names) == "'REACTOR' cannot"
    assert neutral("t.test_epollreactor.MyEPollReactors.test_y", names).endswith(
        "MyEPollReactors.test_y"
    )


def test_events_become_one_outcome() -> None:
    events = [
        event("start"),
        event("error", reason="E", traceback="x"),
        event("failure"),
        event("stop"),
    ]
    assert gather(events) == {"a.b": Outcome("error: E; failure")}
    assert gather([event("start"), {"kind": "end"}]) == {}


def test_the_same_outcomes_do_not_differ_whatever_the_traceback() -> None:
    assert (
        differences({"a": Outcome("error: E", "line 1")}, {"a": Outcome("error: E", "line 2")})
        == {}
    )


def test_a_missing_test_is_a_difference_on_either_side() -> None:
    one = {"a": Outcome("success")}
    assert differences(one, {}) == {"a": (Outcome("success"), Outcome("not run"))}
    assert differences({}, one) == {"a": (Outcome("not run"), Outcome("success"))}


def test_another_verdict_or_reason_is_a_difference() -> None:
    skip, other = Outcome("skip: no TLS"), Outcome("skip: no UDP")
    assert differences({"a": skip, "b": skip}, {"a": skip, "b": other}) == {"b": (skip, other)}
    assert counts({"a": skip, "b": Outcome("success"), "c": Outcome("hang")}) == (3, 1, 1, 1)


def test_a_difference_may_be_intended_and_then_has_to_be_there() -> None:
    ours = {"a": Outcome("failure"), "b": Outcome("failure"), "c": Outcome("success")}
    theirs = dict.fromkeys(ours, Outcome("success"))
    found = differences(ours, theirs)
    assert unintended(found, ours, ["a", "not run"]) == {"b": found["b"]}
    assert unintended(found, ours, ["a", "b"]) == {}
    assert set(unintended(found, ours, ["a", "b", "c"])) == {"c"}


def test_suites_are_of_modules_that_are_there() -> None:
    work = chosen(())
    assert "twisted.internet.test.test_tcp" in work["internet"]
    assert "twisted.protocols.haproxy.test.test_parser" in work["protocols"]
    assert "twisted.conch.test.test_keys" not in work["conch"]
    assert chosen(("twisted.conch.test.test_keys",)) == {
        "twisted.conch.test.test_keys": ["twisted.conch.test.test_keys"]
    }


def test_a_test_that_hangs_or_ends_the_process_costs_only_itself(
    tmp_path: Path, monkeypatch: Any
) -> None:
    tmp_path.joinpath("test_ending.py").write_text(
        "import os, time, unittest\n"
        "class T(unittest.TestCase):\n"
        "    def test_a(self): os._exit(3)\n"
        "    def test_b(self): time.sleep(60)\n"
        "    def test_c(self): pass\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcomes = run("epoll", ["test_ending"], quiet=8)
    assert {name[-1]: outcome.verdict for name, outcome in outcomes.items()} == {
        "a": "end of the process with status 3",
        "b": "hang",
        "c": "success",
    }


def test_a_broken_reactor_is_caught() -> None:
    broken = f"{__name__}.{ForgetfulReactor.__name__}"
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.twisted_suites",
            "--reactor",
            broken,
            "twisted.internet.test.test_time",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "test_time.TimeTestsBuilder_REACTORTests.test_" in result.stdout
