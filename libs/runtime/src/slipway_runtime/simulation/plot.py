"""Draws a simulated run as SVG: answers over time beside arrivals, latencies, and the sizes of batches.

No library: three small panels of lines and bars, readable in light and dark, with a text alternative.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from slipway_runtime.simulation.run import Outcome
from slipway_runtime.simulation.traces import Arrival

__all__ = ["draw", "histogram"]

WIDTH: Final = 720
PANEL: Final = 150
LEFT: Final = 64
SLICES: Final = 120
STYLE: Final = (
    "svg{background:#fff;color:#1b1f24;font:12px system-ui,sans-serif}"
    "@media(prefers-color-scheme:dark){svg{background:#14171b;color:#e6e9ed}}"
    "text{fill:currentColor}.axis{stroke:currentColor;opacity:.25}"
    ".a{stroke:#8a94a0;fill:none;stroke-width:1.5}.b{stroke:#1f7ae0;fill:none;stroke-width:2}.c{fill:#1f7ae0}"
)


def draw(title: str, arrivals: Sequence[Arrival], outcome: Outcome) -> str:
    """The run as an SVG document."""
    seconds = max([outcome.seconds, *outcome.answered_at[-1:], 1e-9])
    offered = _rates([arrival.at for arrival in arrivals], seconds)
    answered = _rates(outcome.answered_at, seconds)
    latencies = sorted(latency * 1e3 for latency in outcome.latencies_s)
    marks = (
        [latencies[min(len(latencies) - 1, int(share / 100 * len(latencies)))] for share in range(101)]
        if latencies
        else [0.0]
    )
    bars = histogram(outcome)
    parts = [
        _panel(
            0,
            "requests a second: arriving (grey), answered (blue)",
            _line(offered, "a", _top(offered, answered)) + _line(answered, "b", _top(offered, answered)),
            _top(offered, answered),
            f"{seconds:.1f} s",
        ),
        _panel(1, "latency in ms, by share of requests", _line(marks, "b", _top(marks)), _top(marks), "100 %"),
        _panel(
            2,
            "batches, by rows",
            _bars(bars),
            max([count for _, count in bars], default=1),
            "",
        ),
    ]
    height = 3 * (PANEL + 50) + 40
    label = escape(f"{title}: {outcome.in_time} of {outcome.offered} in time")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'
        f"<style>{STYLE}</style><text x='{LEFT}' y='22' font-size='15'>{label}</text>{''.join(parts)}</svg>\n"
    )


def histogram(outcome: Outcome) -> list[tuple[str, int]]:
    """Batches by size, in powers of two: ("1", …), ("2", …), ("3-4", …), ("5-8", …)."""
    counts: dict[int, int] = {}
    for rows, count in outcome.batches.items():
        power = math.ceil(math.log2(rows))
        counts[power] = counts.get(power, 0) + count
    named = []
    for power in sorted(counts):
        low, high = (1 << power - 1) + 1 if power else 1, 1 << power
        named.append((str(high) if low >= high else f"{low}-{high}", counts[power]))
    return named


def _rates(times: Sequence[float], seconds: float) -> list[float]:
    counts = [0] * SLICES
    for at in times:
        counts[min(SLICES - 1, int(at / seconds * SLICES))] += 1
    return [count * SLICES / seconds for count in counts]


def _top(*series: Sequence[float]) -> float:
    return max((max(values) for values in series if values), default=1.0) or 1.0


def _line(values: Sequence[float], kind: str, top: float) -> str:
    width = WIDTH - LEFT - 20
    points = " ".join(
        f"{LEFT + width * place / max(1, len(values) - 1):.1f},{PANEL * (1 - value / top):.1f}"
        for place, value in enumerate(values)
    )
    return f'<polyline class="{kind}" points="{points}"/>'


def _bars(bars: Sequence[tuple[str, int]]) -> str:
    width = (WIDTH - LEFT - 20) / max(1, len(bars))
    top = max((count for _, count in bars), default=1)
    return "".join(
        f'<rect class="c" x="{LEFT + place * width + 4:.1f}" width="{max(2.0, width - 8):.1f}" '
        f'y="{PANEL * (1 - count / top):.1f}" height="{PANEL * count / top:.1f}"/>'
        f'<text x="{LEFT + (place + 0.5) * width:.1f}" y="{PANEL + 16}" text-anchor="middle">{name}: {count:,}</text>'
        for place, (name, count) in enumerate(bars)
    )


def _panel(place: int, title: str, inside: str, top: float, right: str) -> str:
    return (
        f'<g transform="translate(0 {50 + place * (PANEL + 50)})"><text x="{LEFT}" y="-8">{escape(title)}</text>'
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - 20}" y1="{PANEL}" y2="{PANEL}"/>'
        f'<text x="{LEFT - 8}" y="10" text-anchor="end">{_number(top)}</text>'
        f'<text x="{LEFT - 8}" y="{PANEL}" text-anchor="end">0</text>'
        f'<text x="{WIDTH - 20}" y="{PANEL + 16}" text-anchor="end">{right}</text>{inside}</g>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
