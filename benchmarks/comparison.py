"""Two states of the project: what changed beyond the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from benchmarks.measuring import Sample
from benchmarks.summary import Spread, spread
from benchmarks.table import number
from benchmarks.workloads import LOWER_IS_BETTER, Workload

CHANCE = 0.01  # a change is named if noise alone would make the rounds agree so rarely


@attrs.frozen
class Change:
    """How one value changed.

    :param ratio: the value now to the value before, within a round.
    :param beyond_noise: whether so many rounds agree in the direction.
    """

    ratio: Spread
    beyond_noise: bool
    lower_is_better: bool

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``-`` if the noise may be all of it."""
        if not self.beyond_noise:
            return "-"
        return "better" if (self.ratio.median < 1) == self.lower_is_better else "worse"


def change(values: Sequence[tuple[float, float]], lower_is_better: bool) -> Change | None:
    """Compare pairs of values, before and now, one pair for each round."""
    found = [now / before for before, now in values if before and now]
    ratio = spread(found)
    if ratio is None:
        return None
    agree = max(sum(each > 1 for each in found), sum(each < 1 for each in found))
    return Change(ratio, chance(len(found), len(found) - agree) <= CHANCE, lower_is_better)


def chance(rounds: int, against: int) -> float:
    """Return how likely so few rounds, or fewer, are against the others by chance: a sign test."""
    tail = sum(math.comb(rounds, few) for few in range(against + 1))
    return min(1.0, tail / 2.0 ** (rounds - 1))


def enough(rounds: int) -> int | None:
    """Return how many rounds must agree, or ``None`` if there are too few to say anything."""
    agree = range(rounds // 2 + 1, rounds + 1)
    return next((each for each in agree if chance(rounds, rounds - each) <= CHANCE), None)


def compared(
    workload: Workload, title: str, before: Sequence[Sample], now: Sequence[Sample]
) -> tuple[str, list[str]]:
    """Compare one of ours in one workload.

    :return: its line of the table, and one line for each change beyond the noise.
    """
    where = f"`{workload.name}`, {title}"
    failed = [sample.failure for sample in (*before, *now) if sample.failure]
    pairs = [
        (old, new) for old, new in zip(before, now, strict=True) if not (old.failure or new.failure)
    ]
    changes = {
        workload.unit: change(
            [(old.figure, new.figure) for old, new in pairs], workload.figure in LOWER_IS_BETTER
        )
    }
    # Where all the CPU time is that of operations, it is less noisy than their rate.
    if workload.figure in ("rate", "mib"):
        cpu = [(old.report["server_cpu_us"], new.report["server_cpu_us"]) for old, new in pairs]
        changes[f"CPU us/{workload.operation}"] = change(cpu, lower_is_better=True)
    cells = [where, workload.unit]
    for side in (0, 1):
        median = spread([pair[side].figure for pair in pairs])
        cells.append(number(median.median if median else None))
    told = [_told(each) for each in changes.values()]
    cells += told if len(told) == 2 else [*told, "-"]
    cells.append("; ".join(dict.fromkeys(map(str, failed))).replace("|", "\\|"))
    named = [
        f"- {each.verdict}: {where}: {unit} {_told(each)}"
        for unit, each in changes.items()
        if each and each.beyond_noise
    ]
    return f"| {' | '.join(cells)} |", named


def page(head: str, lines: Sequence[str], named: Sequence[str]) -> str:
    """Format the whole comparison."""
    columns = ["", "unit", "before", "now", "change", "change of CPU time", "failures"]
    rule = ["---", "---", *["---:"] * 4, "---"]
    table = [f"| {' | '.join(columns)} |", f"| {' | '.join(rule)} |", *lines]
    summary = named or ["Nothing changed beyond the noise."]
    return "\n".join([head, *summary, "", *table, ""])


def _told(change: Change | None) -> str:
    if change is None:
        return "-"
    ratio = change.ratio
    median, low, high = (f"{value - 1:+.1%}" for value in (ratio.median, ratio.low, ratio.high))
    mark = "**" if change.beyond_noise else ""
    return f"{mark}{median}{mark} ({low} to {high})"
