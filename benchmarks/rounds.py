"""The rounds: every server runs once per round, in a different order each time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import attrs

from benchmarks.entries import Entry
from benchmarks.measuring import Sample, Settings, measure
from benchmarks.summary import Outcome
from benchmarks.syscalls import count
from benchmarks.workloads import Workload

COUNTED_SECONDS = 1.0  # under strace; more would not make the count per operation more precise


def run(
    workload: Workload,
    entries: Sequence[Entry],
    rounds: int,
    settings: Settings,
    tell: Callable[[str], None],
    calls: bool = True,
) -> dict[str, Outcome]:
    """Run one workload with the servers that support it.

    :param tell: called with each line of progress.
    :param calls: whether to count system calls, in a run of their own.
    :return: the outcome of each server by its name, in the order of the entries.
    """
    serving = [entry for entry in entries if workload.serves in entry.commands]
    outcomes = {entry.name: Outcome(entry.missing(workload.serves)) for entry in serving}
    present = [entry for entry in serving if not outcomes[entry.name].missing]
    for each in range(rounds):
        for entry in order(present, each):
            sample = measure(workload, entry, settings)
            outcomes[entry.name].samples.append(sample)
            tell(_progress(f"round {each + 1}/{rounds}", workload, entry, sample))
    counted = attrs.evolve(settings, seconds=min(settings.seconds, COUNTED_SECONDS))
    for entry in present:
        if calls and workload.counted:
            outcomes[entry.name].calls = count(workload, entry, counted)
            tell(f"{workload.name}: system calls of {entry.name}: {outcomes[entry.name].calls}")
    return outcomes


def order(entries: Sequence[Entry], number: int) -> list[Entry]:
    """Return the entries in the order of a round, which is the same in every run."""
    return random.Random(number).sample(list(entries), len(entries))


def _progress(where: str, workload: Workload, entry: Entry, sample: Sample) -> str:
    what = sample.failure or f"{sample.figure:,.6g} {workload.unit}"
    return f"{workload.name}: {where}: {entry.name}: {what}"
