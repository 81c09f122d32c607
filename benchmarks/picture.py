"""A bar chart of the ratios, as SVG that is readable on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

import attrs

from benchmarks.summary import Row, Spread
from benchmarks.table import decimals
from benchmarks.workloads import Workload

WIDTH, LEFT, RIGHT = 760, 220, 60
BAR, GAP, HEAD, FOOT = 14, 6, 46, 34

STYLE = """
text { font: 12px sans-serif; fill: #24292f }
.title { font-weight: bold } .small { font-size: 10px }
.ours { fill: #b35900 } .other { fill: #6e8aa8 } .axis { stroke: #8c959f; stroke-width: 1 }
.grid { stroke: #8c959f; stroke-width: 1; opacity: .3 }
.range { stroke: #24292f; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .range { stroke: #e6edf3 }
  .ours { fill: #f0883e } .other { fill: #587797 }
}
"""


@attrs.frozen
class Panel:
    """The bars of one workload: the rows that have a ratio to its base."""

    workload: Workload
    base: str
    rows: Sequence[tuple[Row, Spread]]

    @property
    def height(self) -> int:
        """The height in pixels."""
        return HEAD + len(self.rows) * (BAR + GAP) + FOOT


def panel(workload: Workload, rows: Sequence[Row]) -> Panel:
    """Return the workload's panel, best server first."""
    base = next((each.entry.title for each in rows if each.entry.name == workload.base), "")
    compared = [(each, each.ratios.get(workload.base)) for each in rows]
    drawn = [(each, found) for each, found in compared if found]
    drawn.sort(key=lambda pair: pair[1].median, reverse=not workload.lower_is_better)
    return Panel(workload, base, drawn)


def picture(panels: Sequence[Panel]) -> str:
    """Draw the panels one below another, each with its own axis that starts at zero."""
    panels = [each for each in panels if each.rows]
    height = sum(each.height for each in panels) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img">',
        "<title>Ratios: bars are medians of the rounds, lines go from the lowest to the highest"
        f"</title><style>{STYLE}</style>",
    ]
    top = 0
    for each in panels:
        parts += _draw(each, top)
        top += each.height
    return "\n".join([*parts, "</svg>\n"])


def _draw(panel: Panel, top: int) -> list[str]:
    step = tick_step(max(found.high for _, found in panel.rows))
    ticks = math.ceil(max(found.high for _, found in panel.rows) / step)
    scale = (WIDTH - LEFT - RIGHT) / (ticks * step)
    better = "less" if panel.workload.lower_is_better else "more"
    what = f"{panel.workload.unit}, {panel.base} = 1, {better} is better"
    first, last = top + HEAD - GAP, top + panel.height - FOOT
    parts = [_text(10, top + 24, panel.workload.name, "title"), _text(LEFT, top + 24, what, "")]
    for tick in range(ticks + 1):
        x, kind = LEFT + tick * step * scale, "grid" if tick else "axis"
        parts.append(_line(x, first, x, last, kind))
        parts.append(_text(x, last + 14, f"{tick * step:g}", "small", "middle"))
    for index, (row, found) in enumerate(panel.rows):
        y = top + HEAD + index * (BAR + GAP)
        low, high = LEFT + found.low * scale, LEFT + found.high * scale
        kind = "ours" if row.entry.ours else "other"
        parts.append(_text(LEFT - 8, y + BAR - 3, row.entry.title, "", "end"))
        parts.append(
            f'<rect class="{kind}" x="{LEFT}" y="{y}" height="{BAR}" '
            f'width="{found.median * scale:.1f}"/>'
        )
        parts.append(_line(low, y + BAR / 2, high, y + BAR / 2, "range"))
        parts += [_line(x, y + 3, x, y + BAR - 3, "range") for x in (low, high)]
        parts.append(_text(high + 6, y + BAR - 3, decimals(found.median), "small"))
    return parts


def tick_step(highest: float) -> float:
    """Return 1, 2 or 5 times a power of ten, so that at most eight ticks reach the highest."""
    power: float = 10.0 ** math.floor(math.log10(max(highest, 1e-9) / 8))
    return next(power * times for times in (1, 2, 5, 10) if highest / (power * times) <= 8)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
