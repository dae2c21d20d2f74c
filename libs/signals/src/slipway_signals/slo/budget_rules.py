"""The recorded series of one objective: bad and total events, their ratio, what is left of the budget.

Two stages: events a second are recorded first, as sums, and divided last, where `> 0` drops what has no events. So the
ratio weighs events and not minutes, and an idle hour is neither good nor NaN (sloth#231, sloth#241). Windows up to six
hours ask the counters; days add up what was recorded at every evaluation, and the month what was recorded every five
minutes, so that no query reads a month of buckets (pyrra#1440). Days add rates over one minute: those over five would
tell of an outage two and a half minutes late. Alerts are in `budget_alerts`.
Source: observability notes of the Prometheus manual on recording rules (`level:metric:operations`).
"""

from typing import Final

from slipway_signals.slo.burn import TIERS, Z
from slipway_signals.slo.durations import duration_text
from slipway_signals.slo.model import Counters, Gauge, Indicator, Raw, Slo
from slipway_signals.slo.promrules import INTERVAL_S, Record, Timing

__all__ = ["COUNTED_S", "SLICE_S", "budget_records", "lower_bound", "series", "windows_s"]

COUNTED_S: Final = 21_600
"""Windows up to this one are asked from the counters themselves."""

SUMMED_S: Final = 259_200
"""Windows up to this one are sums over every evaluation."""

FINE_S: Final = 60
"""What those add up are rates over this; scrapes must come at least twice in it."""

COARSE_S: Final = 300
"""Longer windows are sums over rates of this length, one after the other."""

SLICE_S: Final = 60
"""What counts as one event of an indicator that is judged and not counted."""


def windows_s(slo: Slo) -> tuple[int, ...]:
    """Every window whose ratio a rule of this objective needs, ascending."""
    return tuple(sorted({COARSE_S, *(t.long_s for t in TIERS), *(t.short_s for t in TIERS), slo.window_s}))


def series(name: str, slo: Slo) -> str:
    """A recorded series of this objective."""
    return f'slipway:slo_{name}{{slo="{slo.name}"}}'


def budget_records(slo: Slo, timing: Timing) -> tuple[Record, ...]:
    """All of them, in the order in which they need each other."""
    budget = f"{slo.budget:f}"
    found: list[Record] = []
    if not _is_counted(slo):
        found += _judged(slo, timing)
    for window_s in ((FINE_S,) if _is_counted(slo) else ()) + windows_s(slo):
        found += _sums(slo, window_s, timing)
    for window_s in windows_s(slo):
        window = duration_text(window_s)
        found.append(
            _record(
                slo,
                f"errors:ratio_rate{window}",
                f"{series(f'bad:rate{window}', slo)} / ({series(f'total:rate{window}', slo)} > 0)",
            )
        )
    if slo.is_guarded:
        found += [_lower_bound(slo, window_s, timing) for window_s in guarded_windows_s(slo)]
    whole = duration_text(slo.window_s)
    left = f"1 - {series(f'errors:ratio_rate{whole}', slo)} / {budget}"
    found += [
        Record(name="slipway:slo_info", expr="vector(1)", labels=_info(slo)),
        _record(slo, "objective:ratio", f"vector({slo.target:f})"),
        _record(slo, "error_budget:ratio", f"vector({budget})"),
        *_threshold(slo),
        _record(slo, "window:days", f"vector({slo.window_s / 86_400:g})"),
        _record(slo, "budget_remaining:ratio", left),
        _record(slo, "burn_rate:ratio_rate5m", f"{series('errors:ratio_rate5m', slo)} / {budget}"),
        _record(slo, "budget_ends:hours", _ends(slo, timing)),
    ]
    return tuple(found)


def guarded_windows_s(slo: Slo) -> tuple[int, ...]:
    """The windows whose events must prove themselves."""
    return tuple(sorted({*(tier.long_s for tier in TIERS), slo.window_s}))


def lower_bound(slo: Slo, window_s: int) -> str:
    """The series that a condition on `window_s` also asks: the ratio that so few events prove."""
    return series(f"errors_lcb:ratio_rate{duration_text(window_s)}", slo)


def _record(slo: Slo, name: str, expr: str) -> Record:
    return Record(name=f"slipway:slo_{name}", expr=expr, labels={"slo": slo.name, "service": slo.service})


def _sums(slo: Slo, window_s: int, timing: Timing) -> list[Record]:
    """Bad and total events a second over one window."""
    name, window, length = duration_text(window_s), timing.text(window_s), timing.seconds(window_s)
    step = timing.seconds(INTERVAL_S)
    if window_s > SUMMED_S:
        coarse = duration_text(COARSE_S)
        share = f"* {timing.seconds(COARSE_S)} / {length}"
        inner = f"rate{coarse}", f"[{window}:{timing.text(COARSE_S)}]"
    elif not _is_counted(slo):
        share = f"* {step} / ({timing.seconds(slice_s(slo))} * {length})"
        inner = "judged", f"[{window}]"
    elif window_s > COUNTED_S:
        share = f"* {step} / {length}"
        inner = f"rate{duration_text(FINE_S)}", f"[{window}]"
    else:
        bad, total = _counted(slo.indicator, window)
        return [_record(slo, f"bad:rate{name}", bad), _record(slo, f"total:rate{name}", total)]
    return [
        _record(slo, f"{what}:rate{name}", f"sum_over_time({series(f'{what}:{inner[0]}', slo)}{inner[1]}) {share}")
        for what in ("bad", "total")
    ]


def _is_counted(slo: Slo) -> bool:
    """Whether the budget is spent by events that are counted, and not by evaluations that are judged."""
    return isinstance(slo.indicator, Counters) and slo.slices is None


def slice_s(slo: Slo) -> int:
    """Length of what counts as one event of a judged indicator."""
    return slo.slices.window_s if slo.slices else SLICE_S


def _counted(indicator: Indicator, window: str) -> tuple[str, str]:
    if not isinstance(indicator, Counters):
        raise TypeError("this is a bug in slipway: only counters have a rate")
    total = f"sum(rate({indicator.total.text}[{window}]))"
    part = f"sum(rate({indicator.part.text}[{window}]))"
    if indicator.threshold_s is None:  # the series of a first error is born with it: until then there are none
        part = f"({part} or 0 * {total})"
    # A bucket is born with its count. Where it is missing, the server does not know the threshold yet: no answer, and
    # not "all too late". A scrape between two buckets may show more good than all.
    return (part if indicator.counts == "bad" else f"clamp_min({total} - {part}, 0)"), total


def _judged(slo: Slo, timing: Timing) -> list[Record]:
    """1 for each evaluation that found the indicator bad, and 1 for each that found it at all."""
    indicator = slo.indicator
    match indicator:
        case Counters():
            bad, total = _counted(indicator, timing.text(slice_s(slo)))
            allowed = 1 - slo.slices.target if slo.slices else 0
            judged, seen = f"({bad}) > bool {allowed:f} * {total}", f"{total} >= bool 0"
        case Gauge():
            worst = "max" if indicator.operator in {"<", "<="} else "min"
            wrong = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}[indicator.operator]
            judged = f"{worst}({indicator.selector.text}) {wrong} bool {indicator.limit:f}"
            seen = f"count({indicator.selector.text}) >= bool 1"
        case Raw():
            share = f"sum({indicator.query})"
            judged = f"1 - {share}" if indicator.counts == "good" else share
            judged = f"clamp({judged}, 0, 1) >= 0"  # NaN is no answer
            seen = f"({judged}) >= bool 0"
    return [_record(slo, "bad:judged", judged), _record(slo, "total:judged", seen)]


def _lower_bound(slo: Slo, window_s: int, timing: Timing) -> Record:
    """Anscombe's lower bound of a Poisson count, as a ratio: one error of sixty proves nothing."""
    window, length = duration_text(window_s), timing.seconds(window_s)
    bad, total = series(f"bad:rate{window}", slo), series(f"total:rate{window}", slo)
    expr = f"clamp_min(sqrt({bad} * {length}) - {Z}, 0) ^ 2 / ({total} * {length} > 0)"
    return _record(slo, f"errors_lcb:ratio_rate{window}", expr)


def _threshold(slo: Slo) -> list[Record]:
    """How long an answer may take, where the objective is about that: the line in the panels of latency."""
    if not isinstance(slo.indicator, Counters) or slo.indicator.threshold_s is None:
        return []
    return [_record(slo, "threshold:seconds", f"vector({slo.indicator.threshold_s:g})")]


def _ends(slo: Slo, timing: Timing) -> str:
    """Hours until the rest of the budget is gone at the last hour's proven rate.

    Absent when nothing is spent, or less than one event is left: then a single error would end it.
    """
    whole, hour = duration_text(slo.window_s), timing.seconds(3_600)
    left = f"{slo.budget:f} * {series(f'total:rate{whole}', slo)} - {series(f'bad:rate{whole}', slo)}"
    proven = f"{lower_bound(slo, 3_600)} * {series('total:rate1h', slo)}"
    rate = proven if slo.is_guarded else series("bad:rate1h", slo)
    return f"(({left}) * {timing.seconds(slo.window_s)} > 1) / ({rate} * {hour} > 0)"


def _info(slo: Slo) -> dict[str, str]:
    labels = {"slo": slo.name, "service": slo.service, "title": slo.title}
    return labels | {"owner": slo.owner, "category": slo.category, "severity": slo.severity}
