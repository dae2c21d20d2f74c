"""Numbers of evidence as a person reads them, the same on the page, in the summary and in JUnit.

It draws nothing. The invariant: a value and its margin are written on one scale with one unit, with a sign where they
are differences.
"""

from typing import Final

from slipway_signals.gate.verdict import Criterion, Judged, Verdict

__all__ = [
    "SIGNS",
    "bounds_text",
    "change_text",
    "count_text",
    "duration_text",
    "latency_text",
    "margin_text",
    "p_text",
    "short_digest",
]

SIGNS: Final[dict[Verdict, str]] = {"pass": "●", "fail": "▲", "inconclusive": "○"}
"""Each verdict has a shape, so that colour is never all that says it."""
UNKNOWN: Final = "–"
UNSIGNED: Final = frozenset({"limit", "distribution"})
"""Kinds whose estimate is a size, and no change."""


def change_text(criterion: Criterion, value: float | None) -> str:
    """An estimate or bound, as the reasons of a decision say it: `+4.1 %` of ratios, `+0.12 points` of shares."""
    return UNKNOWN if value is None else f"{_amount(criterion, value)} {_unit(criterion)}"


def margin_text(criterion: Criterion) -> str:
    """The margin, on the scale of the estimate."""
    return change_text(criterion, criterion.margin)


def bounds_text(criterion: Criterion, judged: Judged) -> str:
    """`−0.5 … +7.9 %`; a bound that the data do not give yet is `?`."""
    if judged.lower is None and judged.upper is None:
        return "not known"
    low, high = ("?" if one is None else _amount(criterion, one) for one in (judged.lower, judged.upper))
    return f"{low} … {high} {_unit(criterion)}"


def p_text(p: float) -> str:
    """A p-value: `0.032`, `< 0.0001`."""
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def latency_text(value_us: float) -> str:
    """`430 µs`, `12.3 ms`, `1.25 s`."""
    for unit, factor in (("µs", 1.0), ("ms", 1e3), ("s", 1e6)):
        scaled = value_us / factor
        if scaled < 999.5 or unit == "s":
            return f"{scaled:.3g} {unit}"
    raise ValueError("this is a bug in slipway: no unit fits")


def duration_text(seconds: float) -> str:
    """`42 s`, `3.5 min`, `2.0 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5_970 else f"{seconds / 3600:.1f} h"


def count_text(count: float) -> str:
    """`12,345`."""
    return f"{count:,.0f}"


def short_digest(digest: str) -> str:
    """`sha256:ab12cd34ef56`; other text as it is."""
    algorithm, colon, rest = digest.partition(":")
    return f"{algorithm}:{rest[:12]}" if colon and len(rest) > 12 else digest


def _unit(criterion: Criterion) -> str:
    return "%" if criterion.unit == "ratio" or criterion.kind in UNSIGNED else "points"


def _amount(criterion: Criterion, value: float) -> str:
    """Three digits that matter, never in the form 1e-05."""
    amount = 100 * (value - criterion.neutral)
    sign = "" if criterion.kind in UNSIGNED else "+"
    text = f"{amount:{sign},.0f}" if abs(amount) >= 1_000 else f"{amount:{sign}.3g}"
    return "0" if abs(amount) < 0.0005 else text.replace("-", "\N{MINUS SIGN}")
