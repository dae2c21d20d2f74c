"""The curve of a capacity search as one HTML file: latency over load, the promise, the limit and the knee.

No library and nothing from elsewhere: one SVG drawn here, a table with the same figures beneath it, readable in light
and dark, in print and without a picture. Both axes are logarithmic: a curve that doubles is a straight line.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from slipway_signals.gate.capacity import Capacity, Step

__all__ = ["render_capacity"]

WIDTH: Final = 720
HEIGHT: Final = 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 40
STYLE: Final = (
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;"
    "padding:0 1rem;background:#fff;color:#1b1f24}svg{width:100%;height:auto}text{fill:currentColor;font-size:12px}"
    ".axis{stroke:currentColor;opacity:.3}.p50{stroke:#5b6672;fill:none;stroke-width:1.5}"
    ".p99{stroke:#1160b8;fill:none;stroke-width:2.5}.promise{stroke:#b3261e;stroke-dasharray:6 4}"
    ".limit{stroke:currentColor;stroke-dasharray:2 3}.dot{fill:#1160b8}.broke{fill:#b3261e}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:right;padding:.2rem .5rem;"
    "border-bottom:1px solid #8886}"
    "td:last-child,th:last-child{text-align:left}"
    "@media(prefers-color-scheme:dark){body{background:#14171b;color:#e6e9ed}.p99{stroke:#7ab8ff}.p50{stroke:#9aa5b1}"
    ".dot{fill:#7ab8ff}.promise{stroke:#ff8a80}.broke{fill:#ff8a80}}"
)


def render_capacity(found: Capacity, subject: str) -> str:
    """The page.

    Args:
        found: what the search found.
        subject: what was asked, for the heading.
    """
    promise = f"p{100 * found.search.quantile:g} within {found.search.threshold_s * 1e3:g} ms"
    answer = "No rate held" if found.rate is None else f"{found.rate:,.0f} requests a second"
    knee = "" if found.knee is None else f" The knee is at {found.knee:,.0f}: beyond it latency rises faster than load."
    rows = "".join(_row(step) for step in sorted(found.steps, key=lambda step: step.rate))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Capacity of {escape(subject)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><main>'
        f"<h1>{answer}</h1><p>{escape(subject)}, {promise}, {found.search.success:.2%} answered. "
        f"{escape(found.ended.capitalize())}.{knee}</p>{_curve(found)}"
        "<table><thead><tr><th scope='col'>rate</th><th scope='col'>p50</th><th scope='col'>p95</th>"
        "<th scope='col'>p99</th><th scope='col'>failed</th><th scope='col'>verdict</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></main></body></html>\n"
    )


def _row(step: Step) -> str:
    times = "".join(f"<td>{_ms(time_s)}</td>" for time_s in (step.p50_s, step.p95_s, step.p99_s))
    return f"<tr><td>{step.rate:,.0f}</td>{times}<td>{step.failed:.2%}</td><td>{escape(step.why)}</td></tr>"


def _curve(found: Capacity) -> str:
    """The last try of each rate; rates that nobody was answered at are not on it."""
    last = {step.rate: step for step in found.steps if step.p50_s is not None and step.at_quantile_s is not None}
    steps = [last[rate] for rate in sorted(last)]
    if len(steps) < 2:
        return "<p>Too few rates were tried for a curve.</p>"
    values = [step.p50_s or 0.0 for step in steps] + [step.at_quantile_s or 0.0 for step in steps]
    low, high = min([*values, found.search.threshold_s]), max([*values, found.search.threshold_s])
    first, final = steps[0].rate, steps[-1].rate

    def x(rate: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(rate / first) / math.log(final / first)

    def y(time_s: float) -> float:
        share = math.log(max(time_s, 1e-6) / max(low, 1e-6)) / max(1e-9, math.log(high / max(low, 1e-6)))
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    def line(values_s: Sequence[float], name: str) -> str:
        points = " ".join(f"{x(step.rate):.1f},{y(time_s):.1f}" for step, time_s in zip(steps, values_s, strict=True))
        return f'<polyline class="{name}" points="{points}"/>'

    promise_y = y(found.search.threshold_s)
    parts = [
        f'<line class="axis" x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{WIDTH - RIGHT}" y2="{HEIGHT - BOTTOM}"/>',
        f'<line class="promise" x1="{LEFT}" y1="{promise_y:.1f}" x2="{WIDTH - RIGHT}" y2="{promise_y:.1f}"/>',
        f'<text x="{LEFT + 4}" y="{promise_y - 5:.1f}">promised: {found.search.threshold_s * 1e3:g} ms</text>',
        line([step.p50_s or 0.0 for step in steps], "p50"),
        line([step.at_quantile_s or 0.0 for step in steps], "p99"),
    ]
    for step in steps:
        colour = "dot" if step.held else "broke"
        parts.append(
            f'<circle class="{colour}" cx="{x(step.rate):.1f}" cy="{y(step.at_quantile_s or 0.0):.1f}" r="4"/>'
        )
    for name, rate, place in (("limit", found.rate, TOP + 12), ("knee", found.knee, TOP + 28)):
        if rate is not None:
            parts.append(
                f'<line class="limit" x1="{x(rate):.1f}" y1="{TOP}" x2="{x(rate):.1f}" y2="{HEIGHT - BOTTOM}"/>'
            )
            parts.append(f'<text x="{x(rate) - 4:.1f}" y="{place}" text-anchor="end">{name} {rate:,.0f}</text>')
    parts += [
        f'<text x="{LEFT - 6}" y="{y(time_s):.1f}" text-anchor="end">{_ms(time_s)}</text>' for time_s in (low, high)
    ]
    parts += [
        f'<text x="{x(rate):.1f}" y="{HEIGHT - 18}" text-anchor="{side}">{rate:,.0f}</text>'
        for rate, side in ((first, "start"), (final, "end"))
    ]
    label = f"Latency over load from {first:,.0f} to {final:,.0f} requests a second; the table has the figures."
    words = "requests a second; grey: p50, blue: what is promised"
    axis = f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">{words}</text>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}{axis}</svg>'


def _ms(time_s: float | None) -> str:
    return "–" if time_s is None else f"{time_s * 1e3:.1f} ms"
