"""Run Twisted's own test suites on several reactors and compare the outcomes, test by test.

``python -m tests.twisted_suites`` compares ``eager``, ``epoll`` with eager streams, and ``eager``
with the accelerator, which must be installed, with ``epoll``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import click

from sockservices.transports.accelerator import accelerator
from tests.twisted_suites.outcomes import Outcome, Outcomes, counts, differences, unintended
from tests.twisted_suites.running import ACCELERATED, run
from tests.twisted_suites.suites import INTENDED, LEFT_OUT, SUITES, chosen

REPETITIONS = 3
"""How often a test that differs is run again, alone, on each reactor."""

MOST_REPEATED = 20
"""With more differences in a suite something is wrong for all of them: none is run again."""

TRACEBACK_LINES = 12

OURS = ("eager", "tests.twisted_suites.nested.NestedReactor", f"eager{ACCELERATED}")


# A test or suite, the two reactors, and what came of it on each.
Difference: TypeAlias = tuple[str, tuple[str, str], tuple[Outcome, Outcome]]


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
@click.option(
    "--reactor",
    "ours",
    multiple=True,
    default=OURS,
    show_default=True,
    help=f"Short name or dotted class, with the accelerator if {ACCELERATED!r} follows; "
    "may be repeated.",
)
@click.option("--against", default="epoll", show_default=True, help="Short name or dotted class.")
@click.option(
    "--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes at a time."
)
@click.argument("suites", nargs=-1)
def main(ours: tuple[str, ...], against: str, jobs: int, suites: tuple[str, ...]) -> None:
    """Compare reactors; see the module."""
    began = time.monotonic()
    try:
        work = chosen(suites)
    except ImportError as error:
        raise click.UsageError(f"{error}; the suites are: {'; '.join(SUITES)}") from error
    if any(name.endswith(ACCELERATED) for name in ours) and accelerator is None:
        raise click.UsageError(f"{ACCELERATED} needs the accelerator: pip install ./fast")
    intended = INTENDED if against == "epoll" and set(ours) <= set(OURS) else {}
    steady: list[Difference] = []
    unsteady: list[Difference] = []
    with ThreadPoolExecutor(jobs) as pool:
        runs = {
            suite: {name: pool.submit(run, name, modules) for name in (*ours, against)}
            for suite, modules in work.items()
        }
        row(("suite", "reactor", "tests", "successes", "skips", "others", "differ"))
        for suite, futures in runs.items():
            theirs = futures[against].result()
            report(suite, against, theirs)
            for reactor in ours:
                outcomes, reactors = futures[reactor].result(), (reactor, against)
                found = unintended(differences(outcomes, theirs), outcomes, intended)
                report("", reactor, outcomes, len(found))
                for name, pair in found.items():
                    alike_alone = len(found) <= MOST_REPEATED and not still_differs(
                        pool, name, work[suite], reactors
                    )
                    (unsteady if alike_alone else steady).append((name, reactors, pair))
                if not outcomes or not theirs:
                    pair = Outcome(f"{len(outcomes)} tests"), Outcome(f"{len(theirs)} tests")
                    steady.append((suite, reactors, pair))
    for title, group in (("Unsteady: the same when run alone", unsteady), ("Different", steady)):
        if group:
            click.echo(f"\n{title}: {len(group)}")
        for difference in group:
            explain(*difference)
    for module, reason in LEFT_OUT.items():
        click.echo(f"\nNot run: {module}: {reason}" if not suites else "", nl=not suites)
    for name, reason in intended.items():
        click.echo(f"\nIntended: {name}: {reason}" if not suites else "", nl=not suites)
    click.echo(
        f"\n{len(steady)} differences, {len(unsteady)} unsteady, {time.monotonic() - began:.0f} s"
    )
    sys.exit(1 if steady else 0)


def report(suite: str, reactor: str, outcomes: Outcomes, differ: object = "") -> None:
    """Print a line of the table."""
    row((suite, reactor.rpartition(".")[2], *counts(outcomes), differ))


if __name__ == "__main__":
    main(prog_name="python -m tests.twisted_suites")
