"""The page of a drift report that a person reads first: one HTML file, no script, nothing from the network.

It computes nothing (`comparison` does). The invariants: the page opens from a disk, on a phone, in print and in the
dark; every word that came from data is escaped; nothing is said by colour alone.
"""

from collections.abc import Iterator
from html import escape

from slipway_signals.drift.comparison import Compared, Comparison

__all__ = ["render_page"]

STYLE = """
:root { color-scheme: light dark; --line: #8884; --ref: #9aa0a6; --now: #1a73e8; --bad: #b3261e; --ok: #1e7d32 }
@media (prefers-color-scheme: dark) { :root { --now: #8ab4f8; --bad: #f2b8b5; --ok: #81c995 } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.4rem; margin: 0 0 .25rem } h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem }
p { margin: .25rem 0 } .quiet { opacity: .75 }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; margin: .5rem 0 }
article h3 { font-size: 1rem; margin: 0; display: flex; flex-wrap: wrap; gap: 0 .75rem; justify-content: space-between }
.moved { color: var(--bad) } .still { color: var(--ok) }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .25rem .75rem; margin: .5rem 0 }
dt { font-size: .8rem; opacity: .75 } dd { margin: 0; font-variant-numeric: tabular-nums }
svg { width: 100%; height: 7rem; display: block } .ref { fill: var(--ref) } .now { fill: var(--now) }
details summary { cursor: pointer; padding: .5rem 0 }
table { border-collapse: collapse; width: 100%; font-size: .85rem }
th, td { text-align: right; padding: .15rem .4rem; border-bottom: 1px solid var(--line) }
th:first-child { text-align: left }
.key span { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .8em }
"""


def render_page(comparison: Comparison, *, title: str, when: str, evidently: str | None = None) -> str:
    """The page.

    Args:
        comparison: The figures.
        title: Its heading.
        when: What the current window is, in words.
        evidently: Relative link to Evidently's own page, if there is one.
    """
    return "\n".join(_lines(comparison, title, when, evidently)) + "\n"


def _lines(found: Comparison, title: str, when: str, evidently: str | None) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
    yield f"<h1>{escape(title)}</h1>"
    rows = f"{found.rows:,} rows against {found.reference_rows:,} of the training sample"
    yield f'<p class="quiet">{escape(when)}: {rows}</p>'
    yield f"<p><strong>{escape(_verdict(found))}</strong></p>"
    yield '<p class="key quiet"><span class="r" style="background:var(--ref)"></span>training sample'
    yield '<span style="background:var(--now)"></span>current</p>'
    if found.prediction is not None:
        yield "<h2>Predictions</h2>"
        yield from _article(found.prediction)
    yield "<h2>Inputs, the furthest first</h2>"
    for feature in found.features:
        yield from _article(feature)
    if found.absent:
        yield f"<p>Not in the table: {escape(', '.join(found.absent))}</p>"
    if evidently is not None:
        yield f'<p><a href="{escape(evidently, quote=True)}">Evidently’s own report</a>, for a wide screen</p>'
    yield '<p class="quiet">PSI over the reference’s own quantile bins; significant means more than chance at this'
    yield "number of rows, bins and inputs; material means large enough to matter. Moved is what is both.</p>"
    yield "</body></html>"


def _verdict(found: Comparison) -> str:
    moved = [one.name for one in found.features if _is_moved(one)]
    inputs = f"{len(moved)} of {len(found.features)} inputs moved" + (f": {', '.join(moved[:5])}" if moved else "")
    if found.prediction is None:
        return inputs
    answers = "have moved" if _is_moved(found.prediction) else "are spread as in training"
    return f"The predictions {answers}; {inputs}"


def _is_moved(one: Compared) -> bool:
    return one.is_significant and one.is_material


def _article(one: Compared) -> Iterator[str]:
    word, style = ("moved", "moved") if _is_moved(one) else ("as in training", "still")
    yield f'<article><h3><span>{escape(one.name)}</span><span class="{style}">{word}</span></h3>'
    figures = [("PSI", f"{one.psi:.3f}"), ("KS distance", "–" if one.ks is None else f"{one.ks:.3f}")]
    figures += [("by chance", "below 0.0001" if one.tail < 1e-4 else f"{one.tail:.4f}")]
    figures += [("missing, out of range, unseen", f"{one.defects:.1%} (was {one.reference_defects:.1%})")]
    yield "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures) + "</dl>"
    yield _bars(one)
    yield "<details><summary>Shares</summary><table><tr><th>bin</th><th>training</th><th>current</th></tr>"
    for label, reference, current in zip(_labels(one), one.reference, one.current, strict=True):
        yield f"<tr><th>{escape(label)}</th><td>{reference:.2%}</td><td>{current:.2%}</td></tr>"
    yield "</table></details></article>"


def _labels(one: Compared) -> tuple[str, ...]:
    """Bins of a number with their bounds."""
    if len(one.bounds) < 2:
        return one.bins
    spans = [f"{low:.4g} – {high:.4g}" for low, high in zip(one.bounds[:-1], one.bounds[1:], strict=True)]
    return (f"below {one.bounds[0]:.4g}", *spans, f"above {one.bounds[-1]:.4g}", "missing")


def _bars(one: Compared) -> str:
    """Two bars a bin, the reference's and the current one."""
    largest = max(*one.reference, *one.current, 1e-9)
    step = 100.0 / len(one.bins)
    bars = []
    for at, pair in enumerate(zip(one.reference, one.current, strict=True)):
        for side, (share, style) in enumerate(zip(pair, ("ref", "now"), strict=True)):
            height = 100.0 * share / largest
            x, width = at * step + step * (0.1 + 0.4 * side), step * 0.38
            bars.append(
                f'<rect class="{style}" x="{x:.2f}" y="{100 - height:.2f}" width="{width:.2f}" height="{height:.2f}"/>'
            )
    label = escape(f"Shares of {one.name} in training and now, by bin", quote=True)
    return (
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{label}">{"".join(bars)}</svg>'
    )
