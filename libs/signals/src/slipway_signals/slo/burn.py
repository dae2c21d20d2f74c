"""Burn rates: how fast a budget is used, which windows see it, and after how long.

Arithmetic only; the rules are written in `budget_rules`. A burn rate of 1 uses the budget up exactly at the end of the
window. The invariant: the factors follow from the share of the budget that a tier may cost, so any window length has
its own, and a tier that can never fire is refused when it is compiled.
Source: The Site Reliability Workbook, chapter 5, table 5-8 (2 % in 1 h, 5 % in 6 h, 10 % in 1 d and in 3 d of 30 d).
"""

import math
from decimal import Decimal
from typing import Final, Literal

from msgspec import Struct

from slipway_signals.slo.durations import duration_text

__all__ = ["TIERS", "Tier", "Z", "detection_s", "ending_s", "factor", "problem_of", "reset_s"]

Z: Final = Decimal("0.98")
"""Half of the normal quantile 1.96: Anscombe's lower bound of a Poisson count k is (√k − z/2)²."""

PRECISION: Final = Decimal("0.0001")


class Tier(Struct, frozen=True, kw_only=True):
    """A pair of windows that watch one burn rate."""

    name: Literal["fast", "steady", "slow", "creeping"]
    alert: Literal["SlipwaySLOFastBurn", "SlipwaySLOSlowBurn"]
    severity: Literal["page", "ticket"]
    long_s: int
    short_s: int
    cost: Decimal
    """Share of the budget that is gone when it fires."""


TIERS: Final = (
    Tier(name="fast", alert="SlipwaySLOFastBurn", severity="page", long_s=3_600, short_s=300, cost=Decimal("0.02")),
    Tier(
        name="steady", alert="SlipwaySLOFastBurn", severity="page", long_s=21_600, short_s=1_800, cost=Decimal("0.05")
    ),
    Tier(name="slow", alert="SlipwaySLOSlowBurn", severity="ticket", long_s=86_400, short_s=7_200, cost=Decimal("0.1")),
    Tier(
        name="creeping",
        alert="SlipwaySLOSlowBurn",
        severity="ticket",
        long_s=259_200,
        short_s=21_600,
        cost=Decimal("0.1"),
    ),
)


def factor(tier: Tier, window_s: int) -> Decimal:
    """Burn rate at which the tier fires: 14.4, 6, 3 and 1 for 30 days."""
    return (tier.cost * window_s / tier.long_s).quantize(PRECISION).normalize()


def problem_of(target: Decimal, window_s: int) -> str | None:
    """Why some tier could never fire at this target, or None: errors cannot be more than all."""
    for tier in TIERS:
        share = factor(tier, window_s) * (1 - target)
        if share >= 1:
            least = (1 - 1 / factor(tier, window_s)).quantize(Decimal("0.001"))
            return (
                f"the {duration_text(tier.long_s)} alert would need {float(share):.0%} errors, which cannot be: "
                f"expected a target above {least} for a window of {duration_text(window_s)}"
            )
    return None


def detection_s(
    tier: Tier,
    *,
    target: Decimal,
    window_s: int,
    errors: float,
    per_s: float = math.inf,
    history_s: float = math.inf,
) -> float:
    """Seconds from the onset of an error share until the tier's condition holds; infinite when it never does.

    Args:
        tier: The pair of windows.
        target: Of the objective.
        window_s: Of the objective.
        errors: Share of bad events from the onset on, 0 to 1; before it there were none.
        per_s: Events a second, before and after; infinite leaves the low-traffic guard out.
        history_s: How long events were counted before the onset; a new service has less than the window.
    """
    least = float(factor(tier, window_s) * (1 - target))

    def holds(after_s: float) -> bool:
        seen_s = min(tier.long_s, history_s + after_s)
        bad_s = errors * min(after_s, seen_s)
        if math.isinf(per_s):
            return bad_s > least * seen_s
        proven = max(0.0, math.sqrt(bad_s * per_s) - float(Z)) ** 2
        return proven > least * seen_s * per_s

    if not holds(tier.long_s):
        return math.inf
    low, high = 0.0, float(tier.long_s)
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def ending_s(*, target: Decimal, errors: float, history_s: float) -> float:
    """Seconds from the onset until the budget that is left would last an hour; infinite when it never would.

    The rate of the last hour is what counts, so the errors must last less than an hour until then.
    """
    budget = float(1 - target)
    if errors <= budget:
        return math.inf
    seconds = budget * history_s / (2 * errors - budget)
    gone = budget * history_s / (errors - budget)
    return seconds if 0 < seconds < min(3_600.0, gone) else math.inf


def reset_s(tier: Tier, *, target: Decimal, window_s: int, errors: float) -> float:
    """Seconds from the end of the errors until the short window lets go."""
    least = float(factor(tier, window_s) * (1 - target))
    return 0.0 if errors <= least else tier.short_s * (1 - least / errors)
