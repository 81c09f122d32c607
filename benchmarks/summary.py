"""From samples to results: ratios within a round, then the median over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import attrs

from benchmarks.entries import Entry
from benchmarks.measuring import Sample
from benchmarks.workloads import Workload

REFERENCES = ("uvloop", "go", "c")  # servers to compare with, in addition to a workload's base


@attrs.frozen
class Spread:
    """The median, the lowest and the highest of some values."""

    median: float
    low: float
    high: float


@attrs.frozen
class Row:
    """One server's row in the table of a workload.

    :param ratios: the ratio to each reference, by the reference's name.
    :param medians: the medians of the figure (``figure``) and of the reports' values, by name.
    :param calls: system calls per operation, if known.
    """

    entry: Entry
    ratios: Mapping[str, Spread] = attrs.field(factory=dict)
    medians: Mapping[str, float] = attrs.field(factory=dict)
    calls: float | None = None
    remarks: Sequence[str] = ()


@attrs.define
class Outcome:
    """All results of one server in one workload.

    :param missing: why it was not run at all, if so.
    :param samples: one sample per round.
    :param calls: system calls per operation, or why they are unknown.
    """

    missing: str | None = None
    samples: list[Sample] = attrs.field(factory=list)
    calls: float | str | None = None


def spread(values: Sequence[float]) -> Spread | None:
    """Return the median of the values with their range, or ``None`` if there are no values."""
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def ratios(samples: Sequence[Sample], base: Sequence[Sample]) -> Spread | None:
    """Return the ratios of all rounds, except rounds in which either server failed."""
    pairs = zip(samples, base, strict=False)
    return spread(
        [a.figure / b.figure for a, b in pairs if not (a.failure or b.failure or not b.figure)]
    )


def best_peer(workload: Workload, rows: Sequence[Row]) -> Row | None:
    """Return the row of the best server that is not ours, if one has a figure.

    C is not a peer, but the limit of what is possible, unless nothing else does the same work.
    """
    peers = [each for each in rows if not each.entry.ours and each.medians.get("figure")]
    if workload.rival != "c":
        peers = [each for each in peers if each.entry.name != "c"]
    choose = min if workload.lower_is_better else max
    return choose(peers, key=lambda each: each.medians["figure"], default=None)


def advantage(
    workload: Workload, ours: Sequence[Sample], theirs: Sequence[Sample]
) -> Spread | None:
    """Return by how much ours is better, as a ratio that is more than 1 if it is."""
    return ratios(theirs, ours) if workload.lower_is_better else ratios(ours, theirs)


def row(workload: Workload, entry: Entry, outcomes: Mapping[str, Outcome]) -> Row:
    """Return one server's row; ``outcomes`` are all of the workload, by the entries' names."""
    outcome = outcomes[entry.name]
    if outcome.missing:
        return Row(entry, remarks=[outcome.missing])
    compared = {
        name: ratios(outcome.samples, outcomes[name].samples)
        for name in (workload.base, *REFERENCES)
        if name in outcomes
    }
    fine = [sample for sample in outcome.samples if not sample.failure]
    failures = [sample.failure for sample in outcome.samples if sample.failure]
    remarks = [
        f"failed in {failures.count(reason)} of {len(outcome.samples)} rounds: {reason}"
        for reason in dict.fromkeys(failures)
    ]
    if isinstance(outcome.calls, str):
        remarks.append(f"system calls not counted: {outcome.calls}")
    names = {name for sample in fine for name in sample.report}
    medians = {
        name: statistics.median([s.report[name] for s in fine if name in s.report])
        for name in sorted(names)
    }
    if fine:
        medians["figure"] = statistics.median([sample.figure for sample in fine])
    return Row(
        entry,
        {name: ratio for name, ratio in compared.items() if ratio},
        medians,
        outcome.calls if isinstance(outcome.calls, float) else None,
        remarks,
    )
