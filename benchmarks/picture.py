"""All workloads on one page: ours against the best peer, as SVG for light and for dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

import attrs

from benchmarks.entries import Entry
from benchmarks.summary import Outcome, Row, Spread, advantage, best_peer
from benchmarks.table import decimals
from benchmarks.workloads import Workload

WIDTH, LEFT, RIGHT = 760, 190, 180
BAR, GAP, HEAD, FOOT = 9, 9, 58, 30
DRAWN = ("sockservices", "sockservices-fast")  # the other entries of ours are in the tables

STYLE = """
text { font: 12px sans-serif; fill: #24292f }
.title { font-weight: bold } .small { font-size: 10px }
.sockservices { fill: #b35900 } .sockservices-fast { fill: #e8a25c }
.axis { stroke: #24292f; stroke-width: 1 } .grid { stroke: #8c959f; stroke-width: 1; opacity: .3 }
.range { stroke: #24292f; stroke-width: 1.2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .axis, .range { stroke: #e6edf3 }
  .sockservices { fill: #f0883e } .sockservices-fast { fill: #9e5a26 }
}
"""


@attrs.frozen
class Panel:
    """One workload: how much better each of ours is than the best peer."""

    name: str
    peer: str
    bars: Sequence[tuple[Entry, Spread]]

    @property
    def height(self) -> int:
        """The height in pixels."""
        return len(self.bars) * BAR + GAP


def panel(workload: Workload, rows: Sequence[Row], outcomes: Mapping[str, Outcome]) -> Panel:
    """Return the bars of a workload; ``outcomes`` are by the entries' names."""
    peer = best_peer(workload, rows)
    bars = []
    for each in rows if peer else ():
        if peer and each.entry.name in DRAWN:
            ours, theirs = outcomes[each.entry.name].samples, outcomes[peer.entry.name].samples
            if (found := advantage(workload, ours, theirs)) and found.low > 0:
                bars.append((each.entry, found))
    return Panel(workload.name, peer.entry.title if peer else "", bars)


def picture(panels: Sequence[Panel]) -> str:
    """Draw the panels one below another, on one logarithmic axis that has 1 in it."""
    panels = [each for each in panels if each.bars]
    found = [spread for each in panels for _, spread in each.bars]
    scale = Scale.of(found)
    bottom = HEAD + sum(each.height for each in panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + FOOT}" '
        f'width="{WIDTH}" height="{bottom + FOOT}" role="img">',
        "<title>Ratios: bars are medians of the rounds, lines go from the lowest to the highest"
        f"</title><style>{STYLE}</style>",
        _text(
            10,
            18,
            "sockservices against the best peer; more than 1: sockservices is better",
            "title",
        ),
    ]
    shown = {each.name: each.title for drawn in panels for each, _ in drawn.bars}
    for index, (name, title) in enumerate(shown.items()):
        parts.append(
            f'<rect class="{name}" x="{10 + index * 190}" y="30" width="12" height="{BAR}"/>'
        )
        parts.append(_text(28 + index * 190, 39, title))
    for tick in scale.ticks:
        x = scale.x(tick)
        parts.append(_line(x, HEAD - 6, x, bottom, "axis" if tick == 1 else "grid"))
        parts.append(_text(x, bottom + 14, f"{tick:g}", "small", "middle"))
    top = HEAD
    for each in panels:
        parts += _draw(each, top, scale)
        top += each.height
    return "\n".join([*parts, "</svg>\n"])


@attrs.frozen
class Scale:
    """The axis, from the first to the last tick; they are 1, 2 or 5 times a power of ten."""

    ticks: Sequence[float]

    @classmethod
    def of(cls, found: Sequence[Spread]) -> Scale:
        """Return the axis that has all of these, and 1."""
        low = min([0.5, *(each.low for each in found)])
        high = max([2.0, *(each.high for each in found)])
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [times * 10.0**power for power in powers for times in (1, 2, 5)]
        first = max(tick for tick in ticks if tick <= low)
        last = min(tick for tick in ticks if tick >= high)
        return cls([tick for tick in ticks if first <= tick <= last])

    def x(self, value: float) -> float:
        """Return where a value is, in pixels."""
        first, last = math.log(self.ticks[0]), math.log(self.ticks[-1])
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(value) - first) / (last - first)


def _draw(panel: Panel, top: int, scale: Scale) -> list[str]:
    middle = top + len(panel.bars) * BAR / 2 + 4
    said = " / ".join(decimals(found.median) for _, found in panel.bars)
    parts = [
        _text(LEFT - 8, middle, panel.name, anchor="end"),
        _text(WIDTH - RIGHT + 8, middle, f"{said} × {panel.peer}", "small"),  # noqa: RUF001
    ]
    for index, (entry, found) in enumerate(panel.bars):
        y = top + index * BAR
        low, high = scale.x(found.low), scale.x(found.high)
        one, end = sorted((scale.x(1), scale.x(found.median)))
        parts.append(
            f'<rect class="{entry.name}" x="{one:.1f}" y="{y}" height="{BAR - 1}" '
            f'width="{end - one:.1f}"/>'
        )
        parts.append(_line(low, y + BAR / 2, high, y + BAR / 2, "range"))
        parts += [_line(x, y + 2, x, y + BAR - 3, "range") for x in (low, high)]
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )
