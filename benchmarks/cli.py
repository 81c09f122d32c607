"""The command line: what to run, for how long, and where to write the report."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import attrs
import click

from benchmarks.building import HERE, load_generator, no_tls
from benchmarks.entries import ENTRIES
from benchmarks.failures import MachineError
from benchmarks.machine import facts
from benchmarks.measuring import Settings
from benchmarks.reports import Plan, report, report_against
from benchmarks.runtimes import OWN, Runtime, labelled
from benchmarks.servers import cores, prepare
from benchmarks.workloads import WORKLOADS, Workload


@click.command()
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help="Run this many rounds.  [default: 5, or 2 if quick; 12, or 8 if quick, with --against]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="Measure each server for this long in each round.  "
    "[default: 2, or 0.5 with --against, or 0.3 if quick]",
)
@click.option(
    "--idle",
    type=click.IntRange(1),
    help="Open this many idle connections.  [default: 10000, or 2000 if quick]",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Run every workload for a short time, with sockservices and the usually best peer only.",
)
@click.option(
    "--against",
    metavar="REF",
    help="Compare with this commit of the repository instead of peers, and say what changed.",
)
@click.option(
    "--python",
    "pythons",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Run everything also on this Python, in whose environment sockservices is installed.",
)
@click.option(
    "--workload",
    "workloads",
    multiple=True,
    type=click.Choice([workload.name for workload in WORKLOADS]),
    help="Run only this workload.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Choice([entry.name for entry in ENTRIES]),
    help="Run only this server; for ratios, name the base server too.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=HERE / "results",
    help="Write latest.md, latest.json and latest.svg, or against.md, here.  "
    "[default: benchmarks/results]",
)
def main(
    rounds: int | None,
    seconds: float | None,
    idle: int | None,
    quick: bool,
    against: str | None,
    pythons: tuple[Path, ...],
    workloads: tuple[str, ...],
    peers: tuple[str, ...],
    output: Path,
) -> None:
    """Compare sockservices with other servers; write tables, a picture and the raw data."""
    # So that SIGTERM also stops the server and the load.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    usual_rounds, usual_seconds = (12, 0.5) if against else (5, 2.0)
    if quick:
        usual_rounds, usual_seconds = (8 if against else 2), 0.3
    try:
        runtimes = _runtimes(pythons)
        machine = facts()
        plan = Plan(
            _chosen(workloads),
            runtimes,
            peers,
            rounds or usual_rounds,
            quick,
            Settings(
                load_generator(),
                cores()[0],
                seconds or usual_seconds,
                0.1 if quick or against else 0.5,
                idle or (2000 if quick else 10_000),
            ),
            output,
            lambda line: click.echo(line, err=True),
        )
        prepare()
        if pythons:
            machine["Python"] = ", ".join(runtime.label for runtime in runtimes)
        machine["run"] = f"{plan.rounds} rounds of {plan.settings.seconds:g} s for each server"
        text = report_against(plan, machine, against) if against else report(plan, machine)
    except MachineError as reason:
        raise click.ClickException(str(reason)) from reason
    click.echo(text)


def _runtimes(pythons: tuple[Path, ...]) -> list[Runtime]:
    if not pythons:
        return [OWN]
    runtimes = [labelled(OWN), *(labelled(Runtime(python.absolute())) for python in pythons)]
    if len({runtime.label for runtime in runtimes}) < len(runtimes):
        # Two environments of one version.
        runtimes = [
            attrs.evolve(each, label=f"{each.label} in {each.python.parent}") for each in runtimes
        ]
    return runtimes


def _chosen(names: tuple[str, ...]) -> list[Workload]:
    chosen = [workload for workload in WORKLOADS if not names or workload.name in names]
    reason = no_tls()
    left_out = [workload.name for workload in chosen if workload.serves == "tls"]
    if reason and left_out:
        click.echo(f"left out: {', '.join(left_out)}: {reason}", err=True)
        return [workload for workload in chosen if workload.serves != "tls"]
    return chosen
