"""The test of each alert of an objective, at the times that `burn` gives in theory.

The invariants: every window pair is seen to fire within one scrape and two evaluations of theory and not before, to
fall silent within its short window, to be silent at nine tenths of its limit, and at one error among one request a
minute; the words are rendered. Events are made of the objective's own selectors.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from math import isinf
from typing import Final

from slipway_signals.slo import burn
from slipway_signals.slo.budget_alerts import SILENT_S, budget_alerts
from slipway_signals.slo.budget_rules import slice_s
from slipway_signals.slo.burn import TIERS, Tier
from slipway_signals.slo.drills import GRACE_S, STEP_S, Case, Check, counter, firing, gauge, sounding
from slipway_signals.slo.model import Counters, Gauge, Slo
from slipway_signals.slo.promrules import Alert, Timing
from slipway_signals.slo.selectors import Matcher, Selector
from slipway_signals.slo.witnesses import witness

__all__ = ["slo_cases"]

HISTORY_S: Final = 6 * 3_600
PER_STEP: Final = 30_000
"""Events in 30 s: a thousand a second, where the guard takes no time."""

QUIET: Final = Decimal("0.5")
"""Events in 30 s: one a minute."""

BRIEF_S: Final = 600
LAG_S: Final = 225
"""The budget of the month is looked at every five minutes, over rates of five: half of that for two ratios."""

Phase = tuple[float, Decimal, Decimal]
"""Seconds, events a step, share of bad."""


class _Events:
    """What one good and one bad event add to which series; judged indicators have a value instead."""

    def __init__(self, slo: Slo) -> None:
        self._slo = slo
        indicator = slo.indicator
        self.is_counted = isinstance(indicator, Counters) and slo.slices is None
        self._good: tuple[str, ...] = ()
        self._bad: tuple[str, ...] = ()
        if isinstance(indicator, Counters):
            self._good, self._bad = _series_of(indicator)

    def series(self, phases: list[Phase]) -> dict[str, str]:
        """Every series over the phases; a judged indicator is bad where the share is more than a half."""
        indicator, slo = self._slo.indicator, self._slo
        if isinstance(indicator, Counters):
            names = dict.fromkeys((*self._good, *self._bad))
            return {
                name: counter(
                    (
                        seconds,
                        events * ((1 - bad) * (name in self._good) + bad * (name in self._bad)),
                    )
                    for seconds, events, bad in phases
                )
                for name in names
            }
        if isinstance(indicator, Gauge):
            good, bad_value = _sides(indicator)
            labels = witness([indicator.selector]) or {}
            name = _named(indicator.selector.metric, labels)
            return {name: gauge((s, bad_value if bad > Decimal("0.5") else good) for s, _, bad in phases)}
        judged = {"slo": slo.name, "service": slo.service}  # a raw query is whatever it is: its answer is given
        return {
            _named("slipway:slo_bad:judged", judged): gauge((s, round(bad)) for s, _, bad in phases),
            _named("slipway:slo_total:judged", judged): gauge((s, 1) for s, _, _ in phases),
        }


def slo_cases(slo: Slo) -> Iterator[Case]:
    """All tests of one objective."""
    events = _Events(slo)
    alerts = budget_alerts(slo, Timing())
    yield _fires(slo, events)
    if events.is_counted:
        for tier in TIERS:
            yield _around_the_limit(slo, events, tier)
        yield _ending(slo, events, next(alert for alert in alerts if alert.name == "SlipwaySLOBudgetEnding"))
    else:
        yield _too_short(slo, events)
    if slo.is_guarded:
        yield _single(slo, events)
    yield _told(slo, events, alerts)
    yield _absent(slo, next(alert for alert in alerts if alert.name == "SlipwayMetricsAbsent"))


def _share(slo: Slo, events: _Events) -> Decimal:
    """Errors of a fault that every tier sees: a hundred budgets, or all."""
    return min(Decimal(1), 100 * slo.budget) if events.is_counted else Decimal(1)


def _detection_s(slo: Slo, events: _Events, tier: Tier, errors: Decimal) -> float:
    per_s = PER_STEP / STEP_S if events.is_counted else 1 / slice_s(slo)
    return burn.detection_s(
        tier,
        target=slo.target,
        window_s=slo.window_s,
        errors=float(errors),
        per_s=per_s if slo.is_guarded else float("inf"),
        history_s=HISTORY_S,
    )


def _fires(slo: Slo, events: _Events) -> Case:
    errors = _share(slo, events)
    late_s = GRACE_S + (slo.slices.window_s if slo.slices else 0)
    times = {tier: _detection_s(slo, events, tier, errors) for tier in TIERS}
    times = {tier: at_s for tier, at_s in times.items() if not isinf(at_s)}
    end_s = HISTORY_S + _whole(max(times.values()) + 600)
    checks: list[Check] = []
    for tier, at_s in times.items():
        labels = _labels(slo, tier)
        reset_s = burn.reset_s(tier, target=slo.target, window_s=slo.window_s, errors=float(errors))
        checks += [
            firing(HISTORY_S + at_s - STEP_S, labels),
            firing(HISTORY_S + at_s + late_s, labels, count=1),
            firing(end_s, labels, count=1),
            firing(end_s + reset_s + late_s, labels),
        ]
    phases = [
        (float(HISTORY_S), Decimal(PER_STEP), Decimal(0)),
        (end_s - HISTORY_S, Decimal(PER_STEP), errors),
        (max(tier.short_s for tier in times) + 600.0, Decimal(PER_STEP), Decimal(0)),
    ]
    name = f"{slo.name}: {float(errors):.4g} of all bad, every window pair fires and resolves in time"
    return Case(name=name, series=events.series(phases), checks=tuple(checks))


def _around_the_limit(slo: Slo, events: _Events, tier: Tier) -> Case:
    """A share that never changes is the same in every window, so ten minutes say what three days would."""
    least = burn.factor(tier, slo.window_s) * slo.budget
    labels = _labels(slo, tier)
    phases: list[Phase] = [(2.0 * BRIEF_S, Decimal(PER_STEP), least * Decimal("0.9"))]
    return Case(
        name=f"{slo.name}: the {tier.name} pair is silent at nine tenths of its limit",
        series=events.series(phases),
        checks=tuple(firing(at_s, labels) for at_s in (BRIEF_S / 2, BRIEF_S, 2 * BRIEF_S - STEP_S)),
    )


def _too_short(slo: Slo, events: _Events) -> Case:
    """What is judged is good or bad, never nine tenths of it: the fault ends at three quarters of the way."""
    tier = TIERS[0]
    labels = _labels(slo, tier)
    fault_s = _whole(_detection_s(slo, events, tier, Decimal(1)) * 0.75) - (slo.slices.window_s if slo.slices else 0)
    phases: list[Phase] = [
        (float(HISTORY_S), Decimal(PER_STEP), Decimal(0)),
        (max(fault_s, STEP_S), Decimal(PER_STEP), Decimal(1)),
        (1_200.0, Decimal(PER_STEP), Decimal(0)),
    ]
    return Case(
        name=f"{slo.name}: the {tier.name} pair is silent after a fault that was too short",
        series=events.series(phases),
        checks=tuple(firing(HISTORY_S + at_s, labels) for at_s in (fault_s, fault_s + 60, fault_s + 300)),
    )


def _single(slo: Slo, events: _Events) -> Case:
    before_s = 2 * 3_600.0
    phases: list[Phase] = [(before_s, QUIET, Decimal(0)), (STEP_S, 2 * QUIET, Decimal(1)), (3_600.0, QUIET, Decimal(0))]
    times = (before_s + after for after in (30, 60, 120, 300, 900, 1_800, 3_540))
    return Case(
        name=f"{slo.name}: one error among one request a minute wakes nobody (pyrra#1925)",
        series=events.series(phases),
        checks=tuple(firing(at_s, {"slo": slo.name}) for at_s in times),
    )


def _ending(slo: Slo, events: _Events, alert: Alert) -> Case:
    errors = 4 * slo.budget
    at_s = burn.ending_s(target=slo.target, errors=float(errors), history_s=HISTORY_S)
    half_an_hour_left_s = 4_980.0  # ((history + t) / 4 - t) / 1 h = 0.46 h, and the lag of the budget adds a little
    labels = {"alertname": alert.name, "slo": slo.name}
    phases: list[Phase] = [
        (float(HISTORY_S), Decimal(PER_STEP), Decimal(0)),
        (2 * 3_600.0, Decimal(PER_STEP), errors),
        (1_200.0, Decimal(PER_STEP), Decimal(0)),
    ]
    told = {'{{ $value | printf "%.1f" }}': "0.5"}
    return Case(
        name=f"{slo.name}: the budget ends within the hour",
        series=events.series(phases),
        checks=(
            firing(HISTORY_S + at_s - GRACE_S, labels),
            firing(HISTORY_S + at_s + LAG_S + GRACE_S, labels, count=1),
            firing(HISTORY_S + 2 * 3_600 + 300 + GRACE_S, labels),
        ),
        soundings=(sounding(HISTORY_S + half_an_hour_left_s, [(alert, _identity(slo), told)]),),
    )


def _told(slo: Slo, events: _Events, alerts: tuple[Alert, ...]) -> Case:
    """A share that never changes: every number in every message is known."""
    errors = _share(slo, events)
    left = f"{float(100 * (1 - errors / slo.budget)):.4g}%"
    at_s = 2.0 * BRIEF_S if events.is_counted else 3_600.0
    soundings = []
    for name in ("SlipwaySLOFastBurn", "SlipwaySLOSlowBurn", "SlipwaySLOBudgetSpent"):
        same = [alert for alert in alerts if alert.name == name]
        value = left if name == "SlipwaySLOBudgetSpent" else f"{float(100 * errors):.4g}%"
        asked = f"{{{{ with query \"slipway:slo_budget_remaining:ratio{{slo='{slo.name}'}}\" }}}}"
        told = {
            "{{ $value | humanizePercentage }}": value,
            asked: "",
            "{{ . | first | value | humanizePercentage }}": left,
            "{{ end }}": "",
        }
        soundings.append(sounding(at_s, [(alert, _identity(slo), told) for alert in same]))
    phases: list[Phase] = [(at_s + 60, Decimal(PER_STEP), errors)]
    name = f"{slo.name}: what is told"
    return Case(name=name, series=events.series(phases), soundings=tuple(soundings))


def _absent(slo: Slo, alert: Alert) -> Case:
    labels = {"alertname": alert.name, "slo": slo.name}
    up = f'up{{service="{slo.service}",instance="a"}}'
    return Case(
        name=f"{slo.name}: nothing is counted",
        series={up: gauge([(SILENT_S + 600, 1)])},
        checks=(firing(SILENT_S - STEP_S, labels), firing(SILENT_S + GRACE_S, labels, count=1)),
        soundings=(sounding(SILENT_S + GRACE_S, [(alert, {}, {"{{ $value }}": "1"})]),),
    )


def _labels(slo: Slo, tier: Tier) -> Mapping[str, str]:
    return {"alertname": tier.alert, "slo": slo.name, "tier": tier.name}


def _identity(slo: Slo) -> Mapping[str, str]:
    return {"slo": slo.name, "service": slo.service}


def _series_of(indicator: Counters) -> tuple[tuple[str, ...], tuple[str, ...]]:
    part, total = indicator.part, indicator.total
    if indicator.threshold_s is not None:
        labels = witness([total]) or {}
        bound = next(matcher.value for matcher in part.matchers if matcher.label == "le")
        count = _named(total.metric, labels)
        return (count, _named(part.metric, labels | {"le": bound})), (count,)
    if part.metric == total.metric:
        chosen = _named(total.metric, witness([part, total]) or {})
        other = _named(total.metric, witness([total], [part]) or {})
        return ((chosen,), (other,)) if indicator.counts == "good" else ((other,), (chosen,))
    chosen = _named(part.metric, witness([part]) or {})
    every = _named(total.metric, witness([total]) or {})
    return ((chosen, every), (every,)) if indicator.counts == "good" else ((every,), (chosen, every))


def _sides(indicator: Gauge) -> tuple[Decimal, Decimal]:
    """A good value and a bad one."""
    far = abs(indicator.limit) + 1
    low, high = indicator.limit - far, indicator.limit + far
    return (low, high) if indicator.operator in {"<", "<="} else (high, low)


def _named(metric: str, labels: Mapping[str, str]) -> str:
    return Selector(metric=metric, matchers=tuple(Matcher(name, "=", value) for name, value in labels.items())).text


def _whole(seconds: float) -> float:
    return -(-seconds // STEP_S) * STEP_S
