"""What an objective means in minutes: how long until each window pair fires, what it costs, when it lets go.

Arithmetic of `burn`, as data; the command line draws it.
"""

from collections.abc import Sequence
from math import inf, isinf
from typing import Final

from msgspec import Struct

from slipway_signals.slo.budget_rules import slice_s
from slipway_signals.slo.burn import TIERS, detection_s, factor, reset_s
from slipway_signals.slo.durations import duration_text
from slipway_signals.slo.model import Counters, Slo

__all__ = ["ERRORS", "Explained", "Row", "explain"]

ERRORS: Final = (1.0, 0.1, 0.05, 0.02, 0.01)
"""Shares of bad events that the table shows."""


class Row(Struct, frozen=True, kw_only=True):
    """One window pair."""

    tier: str
    alert: str
    severity: str
    long: str
    short: str
    burn_rate: float
    errors: float
    """Share of bad events from which it can fire."""

    budget_left: float
    """Share of the budget that is left when it fires, if it was whole before."""

    detection_minutes: tuple[float | None, ...]
    """For each of the error shares; None: it does not fire."""

    reset_minutes: float
    """After an end of the worst of these error shares."""


class Explained(Struct, frozen=True, kw_only=True):
    """One objective."""

    name: str
    title: str
    target: float
    window: str
    budget_minutes: float
    """Minutes of nothing but errors, at even traffic."""

    errors: tuple[float, ...]
    rows: tuple[Row, ...]
    per_minute: float | None
    """Events a minute that the times are for; None: so many that the low-traffic guard takes no time."""


def explain(slo: Slo, *, per_minute: float | None = None, errors: Sequence[float] = ERRORS) -> Explained:
    """The table of an objective.

    Args:
        slo: The objective.
        per_minute: Events a minute; None leaves the low-traffic guard out. What is judged has its own rate.
        errors: Shares of bad events, 0 to 1, each a column.
    """
    is_counted = isinstance(slo.indicator, Counters) and slo.slices is None
    if not is_counted:
        per_minute, errors = 60 / slice_s(slo), (1.0,)
    per_s = inf if per_minute is None or not slo.is_guarded else per_minute / 60
    rows = []
    for tier in TIERS:
        burn = factor(tier, slo.window_s)
        times = [
            detection_s(tier, target=slo.target, window_s=slo.window_s, errors=share, per_s=per_s) for share in errors
        ]
        rows.append(
            Row(
                tier=tier.name,
                alert=tier.alert,
                severity="ticket" if slo.severity == "ticket" else tier.severity,
                long=duration_text(tier.long_s),
                short=duration_text(tier.short_s),
                burn_rate=float(burn),
                errors=float(burn * slo.budget),
                budget_left=1 - float(tier.cost),
                detection_minutes=tuple(None if isinf(time) else round(time / 60, 1) for time in times),
                reset_minutes=round(
                    reset_s(tier, target=slo.target, window_s=slo.window_s, errors=max(errors)) / 60, 1
                ),
            )
        )
    return Explained(
        name=slo.name,
        title=slo.title,
        target=float(slo.target),
        window=duration_text(slo.window_s),
        budget_minutes=round(float(slo.budget) * slo.window_s / 60, 1),
        errors=tuple(errors),
        rows=tuple(rows),
        per_minute=per_minute,
    )
