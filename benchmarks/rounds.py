"""The order of it all: every server once a round, in another order each round."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import attrs

from benchmarks.entries import Entry
from benchmarks.measuring import Sample, Settings, measure
from benchmarks.summary import Outcome
from benchmarks.syscalls import count
from benchmarks.workloads import Workload

COUNTED_SECONDS = 1.0  # under strace; the count an operation does not get better with more


def run(
    workload: Workload,
    entries: Sequence[Entry],
    rounds: int,
    settings: Settings,
    tell: Callable[[str], None],
) -> dict[str, Outcome]:
    """Run one workload with the servers that serve it.

    :param tell: takes a line of progress.
    :return: what became of each server, by its name, in the entries' order.
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
        # Memory and start are not about single operations.
        if workload.figure in ("rate", "mib"):
            outcomes[entry.name].calls = count(workload, entry, counted)
            tell(f"{workload.name}: system calls of {entry.name}: {outcomes[entry.name].calls}")
    return outcomes


def order(entries: Sequence[Entry], number: int) -> list[Entry]:
    """Return the entries as the round of this number takes them: the same in every run."""
    return random.Random(number).sample(list(entries), len(entries))


def _progress(where: str, workload: Workload, entry: Entry, sample: Sample) -> str:
    what = sample.failure or f"{sample.figure:,.6g} {workload.unit}"
    return f"{workload.name}: {where}: {entry.name}: {what}"
