"""What became of each version, as a table and as a picture of weight, failures and latency over time."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from lab_release import Outcome, Shop
from lab_watching import is_failure

WIDTH: Final = 1000
LEFT: Final = 60
PANEL: Final = 120
GAP: Final = 34
COLOURS: Final = {"Healthy": "#2e7d32", "Degraded": "#c62828"}
LATENCY_STEP_S: Final = 5.0


def write_report(shop: Shop, folder: Path) -> None:
    """`release.md` and `release.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "release.md").write_text("\n".join(table(shop.outcomes)) + "\n")
    (folder / "release.svg").write_text(picture(shop))


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Markdown, a line for each version."""
    heads = ["version", "what it is", "end", "weight at most", "from its first users to the end", "gate's requests"]
    heads += ["users' failures", "of stable", "stable's p99, of that before", "stopped by"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for one in outcomes:
        after = "no user" if one.detected_s is None else f"{one.detected_s:.0f} s"
        asked = sum(each["terms"]["requests"] for each in one.evidence if each["terms"] is not None)
        ratio = f"{one.stable_p99_s / one.calm_p99_s:.2f}" if one.calm_p99_s else "-"
        cells = [one.version.name, one.version.words, one.phase, f"{one.weight} %", after, str(asked)]
        cells += [f"{one.failed} of {one.users}", f"{one.stable_failed:.0f}", ratio, one.message or "promoted"]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return lines


def picture(shop: Shop) -> str:
    """SVG: three panels with one axis of time."""
    seen = shop.users.seen()
    start, end = seen[0][0], seen[-1][0]

    def across(at: float) -> float:
        return LEFT + (WIDTH - LEFT - 10) * (at - start) / (end - start)

    weights = [(one.at, float(one.weight)) for one in shop.watcher.moments if one.at >= start]
    stepped = [(start, 0.0), *(point for pair in pairwise(weights) for point in (pair[0], (pair[1][0], pair[0][1])))]
    panels = (
        ("canary's weight, %", [*stepped, *weights[-1:]], 100.0),
        ("users' failures, %", list(_shares(seen)), None),
        ("users' p99, ms", list(_tails(seen)), None),
    )
    parts = []
    height = GAP + len(panels) * (PANEL + GAP)
    for one in shop.outcomes:
        left, right = across(one.began), across(one.ended)
        colour = COLOURS.get(one.phase, "#555")
        parts.append(
            f'<rect x="{left:.1f}" y="{GAP}" width="{max(right - left, 1):.1f}" height="{height - GAP}" '
            f'fill="{colour}" opacity="0.09"/>'
            f'<text x="{left + 2:.1f}" y="{GAP - 8}" fill="{colour}">{escape(one.version.name)}</text>'
        )
    for number, (title, points, most) in enumerate(panels):
        parts += _panel(title, points, most, across, GAP + number * (PANEL + GAP))
    seconds = f'<text x="{WIDTH - 10}" y="{height - 4}" text-anchor="end">{end - start:.0f} s in all</text>'
    words = "A canary's weight, users' failures and their p99 over time"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{words}" '
        f'font-family="sans-serif" font-size="12"><title>{words}</title>'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>{"".join(parts)}{seconds}</svg>\n'
    )


def _panel(
    title: str, points: list[tuple[float, float]], most: float | None, across: Callable[[float], float], top: int
) -> Iterator[str]:
    highest = most or max([value for _, value in points] + [1.0])
    bottom = top + PANEL
    line = " ".join(f"{across(at):.1f},{bottom - PANEL * min(value / highest, 1.0):.1f}" for at, value in points)
    yield f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{bottom}" y2="{bottom}" stroke="#999"/>'
    yield f'<text x="{LEFT}" y="{bottom + 16}">{escape(title)}</text>'
    for share in (0.0, 1.0):
        yield f'<text x="{LEFT - 6}" y="{bottom - PANEL * share + 4}" text-anchor="end">{highest * share:.3g}</text>'
    yield f'<polyline points="{line}" fill="none" stroke="#1565c0" stroke-width="1.5"/>'


def _shares(seen: Sequence[tuple[float, float, int]]) -> Iterator[tuple[float, float]]:
    for at, rows in _grouped(seen, 1.0):
        yield at, 100.0 * sum(is_failure(status) for _, _, status in rows) / len(rows)


def _tails(seen: Sequence[tuple[float, float, int]]) -> Iterator[tuple[float, float]]:
    for at, rows in _grouped(seen, LATENCY_STEP_S):
        took = sorted(row[1] for row in rows)
        yield at, 1000.0 * took[min(len(took) - 1, int(0.99 * len(took)))]


def _grouped(
    seen: Sequence[tuple[float, float, int]], step_s: float
) -> Iterator[tuple[float, list[tuple[float, float, int]]]]:
    groups: dict[int, list[tuple[float, float, int]]] = {}
    for row in seen:
        groups.setdefault(int(row[0] / step_s), []).append(row)
    for number in sorted(groups):
        yield number * step_s, groups[number]
