"""The two reports: ours and the peers, and this state of the project and an earlier one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from benchmarks import checkouts, comparison
from benchmarks.entries import ENTRIES, Entry
from benchmarks.measuring import Settings
from benchmarks.picture import panel, picture
from benchmarks.rounds import run
from benchmarks.runtimes import Runtime
from benchmarks.summary import Outcome, row
from benchmarks.table import header, table
from benchmarks.workloads import Workload

OURS = ("sockservices", "sockservices-eager")
# Who stands in where a workload's rival is not installed.
RIVALS = ("uvloop", "asyncio", "twisted", "c")
HEAD = """\
# Benchmark results

![Bars: medians of the ratios. Lines: from the lowest to the highest.](latest.svg)

A ratio is the median of the rounds, with the lowest and the highest in brackets. For what the
columns mean, and what not to conclude from them, see `benchmarks/README.md`.
"""
AGAINST = """\
# Changes since {ref}

Medians of the ratios within a round, now to before, with the lowest and the highest. A change is
beyond the noise, and bold, if the rounds agree on its direction so well that chance would do it in
at most one of 100 cases (a sign test): {enough}.
"""


@attrs.frozen
class Plan:
    """What to run, and how.

    :param runtimes: the Pythons, each of which has its own tables.
    :param peers: the names of the entries to run, or none for the usual.
    :param quick: whether the usual are only ours and the best peer, and calls are not counted.
    :param tell: called with each line of progress.
    """

    workloads: Sequence[Workload]
    runtimes: Sequence[Runtime]
    peers: Sequence[str]
    rounds: int
    quick: bool
    settings: Settings
    output: Path
    tell: Callable[[str], None]

    def each(self) -> Iterator[tuple[Workload, Runtime]]:
        """Return the workloads, on each Python; its label is in the workload's name."""
        for workload in self.workloads:
            for runtime in self.runtimes:
                name = f"{workload.name}, {runtime.label}" if runtime.label else workload.name
                title = workload.title.format(idle=f"{self.settings.idle:,}")
                yield attrs.evolve(workload, name=name, title=title), runtime

    def entries(self, workload: Workload, runtime: Runtime) -> list[Entry]:
        """Return the servers to run in a workload."""
        there = [attrs.evolve(entry, runtime=runtime) for entry in ENTRIES]
        names = self.peers or [entry.name for entry in there]
        if self.quick and not self.peers:
            names = [OURS[0], *_rival(workload, there)]
        return [entry for entry in there if entry.name in names]

    def write(self, name: str, text: str) -> None:
        """Write a file of the report."""
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / name).write_text(text)


def report(plan: Plan, machine: Mapping[str, str]) -> str:
    """Compare ours with the peers; return the report as Markdown, after writing it."""
    tables, panels, raw, text = [], [], {}, ""
    for workload, runtime in plan.each():
        entries = plan.entries(workload, runtime)
        outcomes = run(
            workload, entries, plan.rounds, plan.settings, plan.tell, calls=not plan.quick
        )
        rows = [row(workload, entry, outcomes) for entry in entries if entry.name in outcomes]
        tables.append(table(workload, rows))
        panels.append(panel(workload, rows, outcomes))
        raw[workload.name] = _plain(outcomes)
        # After each workload, so that an interrupted run keeps its results.
        text = "\n".join([HEAD, header(machine), *tables])
        plan.write("latest.md", text)
        plan.write("latest.svg", picture(panels))
        plan.write(
            "latest.json", json.dumps({"machine": machine, "workloads": raw}, indent=1, default=str)
        )
    return text


def report_against(plan: Plan, machine: Mapping[str, str], ref: str) -> str:
    """Compare ours with ours at a commit; return the report as Markdown, after writing it.

    :raises MachineError: there is no such commit.
    """
    names = plan.peers or (OURS[:1] if plan.quick else OURS)
    ours = [entry for entry in ENTRIES if entry.ours and entry.name in names]
    commit = checkouts.commit_of(ref)[:10]
    known = ref if commit.startswith(ref) else f"{ref} ({commit})"
    agree = comparison.enough(plan.rounds)
    enough = f"{agree} of {plan.rounds}" if agree else f"{plan.rounds} rounds are too few for that"
    head = AGAINST.format(ref=known, enough=enough) + "\n" + header(machine)
    lines: list[str] = []
    named: list[str] = []
    text = ""
    for runtime in plan.runtimes:
        with checkouts.both(ref, runtime) as (before, now):
            for workload, _ in attrs.evolve(plan, runtimes=[runtime]).each():
                old = [
                    attrs.evolve(entry, name=f"{entry.name}, {ref}", runtime=before)
                    for entry in ours
                ]
                new = [attrs.evolve(entry, runtime=now) for entry in ours]
                outcomes = run(
                    workload, [*old, *new], plan.rounds, plan.settings, plan.tell, calls=False
                )
                for one, other in zip(old, new, strict=True):
                    if other.name in outcomes:
                        samples = outcomes[one.name].samples, outcomes[other.name].samples
                        line, changed = comparison.compared(workload, other.name, *samples)
                        lines.append(line)
                        named += changed
                text = comparison.page(head, lines, named)
                plan.write("against.md", text)
    return text


def _rival(workload: Workload, entries: Sequence[Entry]) -> list[str]:
    able = {
        entry.name
        for entry in entries
        if workload.serves in entry.commands and not entry.missing(workload.serves)
    }
    return [name for name in (workload.rival, *RIVALS) if name in able][:1]


def _plain(outcomes: Mapping[str, Outcome]) -> dict[str, object]:
    return {name: attrs.asdict(outcome) for name, outcome in outcomes.items()}
