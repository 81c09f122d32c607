"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.summary import REFERENCES, Row, Spread
from benchmarks.workloads import Workload

NOTHING = "-"


def number(value: float | None) -> str:
    """Format a number with three significant digits, and all digits before the point."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def ratio(spread: Spread | None) -> str:
    """Format a median with its range."""
    if spread is None:
        return NOTHING
    middle, low, high = map(decimals, (spread.median, spread.low, spread.high))
    return f"{middle} ({low}–{high})"  # noqa: RUF001


def decimals(value: float) -> str:
    """Format a number with two decimals, but never a small one as 0.00."""
    return f"{value:.2f}" if value >= 0.1 or not value else f"{value:.2g}"


def header(facts: Mapping[str, str]) -> str:
    """Format the machine's facts as a list."""
    return "".join(f"- {name}: {value}\n" for name, value in facts.items())


def table(workload: Workload, rows: Sequence[Row]) -> str:
    """Format one workload's table, with its heading."""
    names = {each.entry.name: each.entry.title for each in rows}
    against = [name for name in (workload.base, *REFERENCES) if name in names]
    against = list(dict.fromkeys(against))
    busy = bool(workload.load) and workload.figure != "stop"
    costs = workload.figure not in ("cost", "stop")  # the one is the cost, the other has none
    lossy = workload.serves == "sink"
    columns = ["", *(f"ratio to {names[name]}" for name in against), workload.unit]
    columns += ["p99 us"] * busy
    columns += [f"CPU us/{workload.operation}"] * costs
    columns += ["lost"] * lossy
    columns += [f"calls/{workload.operation}", "server busy", "load busy"] * busy
    columns += ["remarks"]
    better = "less" if workload.lower_is_better else "more"
    lines = [
        f"## `{workload.name}`",
        "",
        f"{workload.title}. A ratio is of {workload.unit}: {better} is better.",
        "",
    ]
    lines += [_line(columns), _line(["---", *["---:"] * (len(columns) - 2), "---"])]
    for each in rows:
        name = f"**{each.entry.title}**" if each.entry.ours else each.entry.title
        get = each.medians.get
        cells = [name, *(_against(each, other) for other in against), number(get("figure"))]
        if busy:
            cells += [number(get("p99_us"))]
        if costs:
            cells += [number(get("server_cpu_us"))]
        if lossy:
            cells += [_percent(get("lost"))]
        if busy:
            cells += [number(each.calls), _percent(get("server_busy")), _percent(get("load_busy"))]
        lines.append(_line([*cells, "; ".join(each.remarks).replace("|", "\\|")]))
    return "\n".join(lines) + "\n"


def _against(row: Row, other: str) -> str:
    return "1" if row.entry.name == other and row.ratios else ratio(row.ratios.get(other))


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
