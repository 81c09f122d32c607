"""The command line: what to run, for how long, and where to write the report."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import click

from benchmarks.building import HERE, load_generator
from benchmarks.entries import ENTRIES
from benchmarks.failures import MachineError
from benchmarks.machine import facts
from benchmarks.measuring import Settings
from benchmarks.picture import panel, picture
from benchmarks.rounds import run
from benchmarks.servers import cores, prepare
from benchmarks.summary import Outcome, row
from benchmarks.table import header, table
from benchmarks.workloads import WORKLOADS

WORKLOAD_NAMES = [workload.name for workload in WORKLOADS]
HEAD = """\
# Benchmark results

![Bars: medians of the ratios. Lines: from the lowest to the highest.](latest.svg)

A ratio is the median of the rounds, with the lowest and the highest in brackets. For what the
columns mean, and what not to conclude from them, see `benchmarks/README.md`.
"""
ENTRY_NAMES = [entry.name for entry in ENTRIES]


@click.command()
@click.option(
    "--rounds", type=click.IntRange(1), help="Run this many rounds.  [default: 5, or 2 if quick]"
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="Measure each server for this long in each round.  [default: 2, or 0.3 if quick]",
)
@click.option(
    "--idle",
    type=click.IntRange(1),
    help="Open this many idle connections.  [default: 10000, or 500]",
)
@click.option("--quick", is_flag=True, help="Use shorter defaults, to see it work, not to compare.")
@click.option(
    "--workload",
    "workloads",
    multiple=True,
    type=click.Choice(WORKLOAD_NAMES),
    help="Run only this workload.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Choice(ENTRY_NAMES),
    help="Run only this server; for ratios, name the base server too.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE / "results",
    help="Write latest.md, latest.json and latest.svg here.  [default: benchmarks/results]",
)
def main(
    rounds: int | None,
    seconds: float | None,
    idle: int | None,
    quick: bool,
    workloads: tuple[str, ...],
    peers: tuple[str, ...],
    output: Path,
) -> None:
    """Compare sockservices with other servers; write tables, a picture and the raw data."""
    # So that SIGTERM also stops the server and the load.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rounds = rounds or (2 if quick else 5)
    try:
        machine = facts()
        settings = Settings(
            load_generator(),
            cores()[0],
            seconds or (0.3 if quick else 2.0),
            0.1 if quick else 0.5,
            idle or (500 if quick else 10_000),
        )
        prepare()
    except MachineError as reason:
        raise click.ClickException(str(reason)) from reason
    machine["run"] = f"{rounds} rounds of {settings.seconds:g} s for each server"
    entries = [entry for entry in ENTRIES if not peers or entry.name in peers]
    chosen = [workload for workload in WORKLOADS if not workloads or workload.name in workloads]
    tables, panels, raw = [], [], {}
    for workload in chosen:
        outcomes = run(workload, entries, rounds, settings, lambda line: click.echo(line, err=True))
        rows = [row(workload, entry, outcomes) for entry in entries if entry.name in outcomes]
        tables.append(table(workload, workload.title.format(idle=f"{settings.idle:,}"), rows))
        panels.append(panel(workload, rows))
        raw[workload.name] = _plain(outcomes)
        # After each workload, so that an interrupted run keeps its results.
        text = "\n".join([HEAD, header(machine), *tables])
        _write(output, "latest.md", text)
        _write(output, "latest.svg", picture(panels))
        _write(output, "latest.json", json.dumps({"machine": machine, "workloads": raw}, indent=1))
    click.echo(text)


def _plain(outcomes: Mapping[str, Outcome]) -> dict[str, object]:
    return {name: attrs.asdict(outcome) for name, outcome in outcomes.items()}


def _write(directory: Path, name: str, text: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(text)
