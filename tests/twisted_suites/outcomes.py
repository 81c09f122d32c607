"""What became of each test, and where two reactors differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

MISSING = "not run"


@frozen
class Outcome:
    """What became of one test.

    :param verdict: "success", "skip: no such device", ...; several, if the test reported several.
    :param traceback: the end of its traceback, for people; not compared.
    """

    verdict: str
    traceback: str = field(default="", eq=False)


Outcomes = Mapping[str, Outcome]


def gather(events: Iterable[Mapping[str, Any]]) -> dict[str, Outcome]:
    """Sum up the events that a child wrote, by test id.

    A test that began and has no other event hung, or took the process with it; the process's
    watcher adds that as an event of its own.
    """
    verdicts: dict[str, list[str]] = {}
    tracebacks: dict[str, str] = {}
    for event in events:
        if event["kind"] in ("start", "stop", "end"):
            continue
        reason = event.get("reason")
        verdict = event["kind"] + (f": {reason}" if reason else "")
        verdicts.setdefault(event["id"], []).append(verdict)
        tracebacks[event["id"]] = tracebacks.get(event["id"], "") + event.get("traceback", "")
    # Two errors of one test may be reported in either order.
    return {
        name: Outcome("; ".join(sorted(several)), tracebacks[name])
        for name, several in verdicts.items()
    }


def differences(ours: Outcomes, theirs: Outcomes) -> dict[str, tuple[Outcome, Outcome]]:
    """Map the ids whose outcomes differ to both outcomes; a test may be missing on one side."""
    missing = Outcome(MISSING)
    pairs = {
        name: (ours.get(name, missing), theirs.get(name, missing))
        for name in sorted({*ours, *theirs})
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def unintended(
    found: Mapping[str, tuple[Outcome, Outcome]], ours: Outcomes, intended: Iterable[str]
) -> dict[str, tuple[Outcome, Outcome]]:
    """Return the differences that are not intended, and the intended ones that are not there."""
    surprising = {name: pair for name, pair in found.items() if name not in intended}
    absent = [name for name in intended if name in ours and name not in found]
    return surprising | {name: (ours[name], Outcome("something else")) for name in absent}


def counts(outcomes: Outcomes) -> tuple[int, int, int, int]:
    """Count tests, successes, skips, and all others."""
    kinds = [outcome.verdict.partition(":")[0] for outcome in outcomes.values()]
    successes, skips = kinds.count("success"), kinds.count("skip")
    return len(kinds), successes, skips, len(kinds) - successes - skips
