"""Run Twisted's own test suites on two reactors and compare the outcomes, test by test.

``python -m tests.twisted_suites`` compares ``eager`` with ``epoll``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import click

from tests.twisted_suites.outcomes import Outcome, Outcomes, counts, differences, unintended
from tests.twisted_suites.running import run
from tests.twisted_suites.suites import INTENDED, LEFT_OUT, SUITES, chosen

REPETITIONS = 3
"""How often a test that differs is run again, alone, on each reactor."""

MOST_REPEATED = 20
"""With more differences in a suite something is wrong for all of them: none is run again."""

TRACEBACK_LINES = 12


def still_differs(
    pool: ThreadPoolExecutor, name: str, modules: Sequence[str], reactors: tuple[str, str]
) -> bool:
    """Run one test alone, several times on each reactor, and say whether it still differs.

    :param modules: the suite's modules; the one that holds the test is loaded.
    """
    home = [module for module in modules if name == module or name.startswith(module + ".")]
    if not home:
        return True
    again = pool.map(lambda reactor: run(reactor, home, [name]), reactors * REPETITIONS)
    verdicts = {outcomes.get(name, Outcome("not run")).verdict for outcomes in again}
    return len(verdicts) > 1


def row(cells: Sequence[object]) -> None:
    """Print a line of the table."""
    click.echo(f"{cells[0]!s:<24}{cells[1]!s:<12}" + "".join(f"{c!s:>11}" for c in cells[2:]))


def explain(name: str, reactors: tuple[str, str], pair: tuple[Outcome, Outcome]) -> None:
    """Print one difference."""
    click.echo(f"\n{name}")
    for reactor, outcome in zip(reactors, pair, strict=True):
        click.echo(f"    {reactor}: {outcome.verdict}")
        for line in outcome.traceback.splitlines()[-TRACEBACK_LINES:]:
            click.echo(f"        {line}")


@click.command(help=__doc__)
@click.option("--reactor", default="eager", show_default=True, help="Short name or dotted class.")
@click.option("--against", default="epoll", show_default=True, help="Short name or dotted class.")
@click.option(
    "--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes at a time."
)
@click.argument("suites", nargs=-1)
def main(reactor: str, against: str, jobs: int, suites: tuple[str, ...]) -> None:
    """Compare two reactors; see the module."""
    began = time.monotonic()
    try:
        work = chosen(suites)
    except ImportError as error:
        raise click.UsageError(f"{error}; the suites are: {'; '.join(SUITES)}") from error
    reactors = (reactor, against)
    intended = INTENDED if reactors == ("eager", "epoll") else {}
    steady: dict[str, tuple[Outcome, Outcome]] = {}
    unsteady: dict[str, tuple[Outcome, Outcome]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        runs = {
            suite: [pool.submit(run, name, modules) for name in reactors]
            for suite, modules in work.items()
        }
        row(("suite", "reactor", "tests", "successes", "skips", "others", "differ"))
        for suite, pair in runs.items():
            ours, theirs = (future.result() for future in pair)
            found = unintended(differences(ours, theirs), ours, intended)
            report(suite, reactors, (ours, theirs), len(found))
            for name, outcomes in found.items():
                alike_alone = len(found) <= MOST_REPEATED and not still_differs(
                    pool, name, work[suite], reactors
                )
                (unsteady if alike_alone else steady)[name] = outcomes
            if not ours or not theirs:
                steady[suite] = (Outcome(f"{len(ours)} tests"), Outcome(f"{len(theirs)} tests"))
    for title, group in (("Unsteady: the same when run alone", unsteady), ("Different", steady)):
        if group:
            click.echo(f"\n{title}: {len(group)}")
        for name, outcomes in group.items():
            explain(name, reactors, outcomes)
    for module, reason in LEFT_OUT.items():
        click.echo(f"\nNot run: {module}: {reason}" if not suites else "", nl=not suites)
    for name, reason in intended.items():
        click.echo(f"\nIntended: {name}: {reason}" if not suites else "", nl=not suites)
    click.echo(
        f"\n{len(steady)} differences, {len(unsteady)} unsteady, {time.monotonic() - began:.0f} s"
    )
    sys.exit(1 if steady else 0)


def report(
    suite: str, reactors: tuple[str, str], both: tuple[Outcomes, Outcomes], differ: int
) -> None:
    """Print a suite's two lines of the table."""
    short = [name.rpartition(".")[2] for name in reactors]
    row((suite, short[0], *counts(both[0]), differ))
    row(("", short[1], *counts(both[1])))


if __name__ == "__main__":
    main(prog_name="python -m tests.twisted_suites")
