"""The series that Prometheus records of the drift counters, as data.

Conditions and words are in `alerts`; no file is rendered here. The invariants: every series is by (service, track,
model), because a canary has a model and a reference of its own; a window without rows has no value, never NaN; the
formulas are those of `stats`, under the same names.

PSI over all bins, `missing`, `low`, `high` and `unseen` among them: they are the data-quality checks. KS over numbers
in their order, `missing` last.
"""

from collections.abc import Iterator
from typing import Final

from slipway_signals.drift.alerts import drift_alerts
from slipway_signals.drift.promql import (
    Thresholds,
    chi2_critical,
    joined,
    ks_critical,
    normal_critical,
    per,
    psi,
    share_of,
    wilson,
)
from slipway_signals.drift.stats import normal_critical as normal_number
from slipway_signals.slo.promrules import Group, Record, Timing

__all__ = ["DAY_S", "HOUR_S", "Thresholds", "drift_groups"]

HOUR_S: Final = 3_600
DAY_S: Final = 86_400
BINS: Final = ("low", *(f"b{number:02d}" for number in range(1, 11)))
"""Ordered bins after each of which the cumulative shares are compared; what is above the last is `high` or missing."""


def drift_groups(
    service: str, owner: str, *, timing: Timing | None = None, thresholds: Thresholds | None = None
) -> tuple[Group, ...]:
    """The groups of one service: shares and statistics, then the alerts.

    Args:
        service: The `service` label that the scrape configuration gives.
        owner: Who is told.
        timing: True windows by default; a scaled one for live tests.
        thresholds: When drift is said to be.
    """
    time, limits = timing or Timing(), thresholds or Thresholds()
    selector = f'service="{service}"'
    records = (
        *_rows(selector, time),
        *_features(selector, time, limits),
        *_predictions(selector, time, limits),
        *_accuracy(selector, time),
    )
    interval_s = time.of(60)
    return (
        Group(name=f"slipway-drift-{service}", rules=records, interval_s=interval_s),
        Group(
            name=f"slipway-drift-alerts-{service}",
            rules=drift_alerts(service, owner, time, limits),
            interval_s=interval_s,
        ),
    )


def _rows(selector: str, time: Timing) -> Iterator[Record]:
    """Effective rows in the window, and how many features share the level of significance."""
    hour = time.text(HOUR_S)
    weights = f"sum {per()} (increase(slipway_drift_rows_total{{{selector}}}[{hour}]))"
    squares = f"sum {per()} (increase(slipway_drift_squared_weights_total{{{selector}}}[{hour}]))"
    yield Record(name="slipway:drift_rows:1h", expr=f"{weights} ^ 2\n/ ({squares} > 0)")
    named = f"count {per('feature')} (slipway_feature_reference_share{{{selector}}})"
    yield Record(name="slipway:drift_features:count", expr=f"count {per()} ({named})")


def _features(selector: str, time: Timing, limits: Thresholds) -> Iterator[Record]:
    hour, on_model = time.text(HOUR_S), joined()
    rate = f"sum {per('feature', 'bin')} (rate(slipway_feature_bin_total{{{selector}}}[{hour}]))"
    yield Record(name="slipway:feature_share:1h", expr=share_of(rate, "feature"))
    reference = f"max {per('feature', 'bin')} (slipway_feature_reference_share{{{selector}}})"
    yield Record(name="slipway:feature_reference:share", expr=reference)
    share, known = f"slipway:feature_share:1h{{{selector}}}", f"slipway:feature_reference:share{{{selector}}}"
    yield Record(name="slipway:feature_gap:1h", expr=f"{share} - {known}")
    for name, of in (
        ("slipway:feature_defects:1h", "share:1h"),
        ("slipway:feature_reference:defects", "reference:share"),
    ):
        defects = f'slipway:feature_{of}{{{selector}, bin=~"missing|low|high|unseen"}}'
        yield Record(name=name, expr=f"sum {per('feature')} ({defects})")
    defects = f"slipway:feature_defects:1h{{{selector}}}"
    yield Record(
        name="slipway:feature_rows:1h", expr=f"0 * {defects}\n+ {on_model} slipway:drift_rows:1h{{{selector}}}"
    )
    lower = wilson(defects, f"slipway:feature_rows:1h{{{selector}}}", limits.z_defects, "-")
    yield Record(name="slipway:feature_defects:lower1h", expr=lower)
    yield Record(name="slipway:feature_psi:1h", expr=f"sum {per('feature')} (\n{psi(share, known)}\n)")
    yield Record(name="slipway:feature_ks:1h", expr=_largest_gap("slipway:feature_gap:1h", selector, "feature"))

    rows = f"slipway:drift_rows:1h{{{selector}}}"
    sample = f"max {per()} (slipway_feature_reference_rows{{{selector}}})"
    yield Record(name="slipway:feature_weight:1h", expr=f"1 / {rows} + 1 / {sample}")
    weight = f"slipway:feature_weight:1h{{{selector}}}"
    statistic = f"slipway:feature_psi:1h{{{selector}}}\n/ {on_model} {weight}"
    yield Record(name="slipway:feature_psi_statistic:1h", expr=statistic)

    tail = f"({limits.level / 2:g} / slipway:drift_features:count{{{selector}}})"
    yield Record(name="slipway:feature_z:critical", expr=normal_critical(tail))
    degrees = f"clamp_min(count {per('feature')} ({known} > 0) - 1, 1)"
    yield Record(name="slipway:feature_degrees:count", expr=degrees)
    critical = chi2_critical(
        f"slipway:feature_degrees:count{{{selector}}}",
        f"slipway:feature_z:critical{{{selector}}}",
        times=f"* {on_model}",
    )
    yield Record(name="slipway:feature_psi_statistic:critical", expr=critical)
    yield Record(name="slipway:feature_ks_critical:1h", expr=ks_critical(tail, weight))


def _predictions(selector: str, time: Timing, limits: Thresholds) -> Iterator[Record]:
    hour = time.text(HOUR_S)
    rate = f"sum {per('bin')} (rate(slipway_prediction_bin_total{{{selector}}}[{hour}]))"
    yield Record(name="slipway:prediction_share:1h", expr=share_of(rate))
    reference = f"max {per('bin')} (slipway_prediction_reference_share{{{selector}}})"
    yield Record(name="slipway:prediction_reference:share", expr=reference)
    share, known = f"slipway:prediction_share:1h{{{selector}}}", f"slipway:prediction_reference:share{{{selector}}}"
    yield Record(name="slipway:prediction_gap:1h", expr=f"{share} - {known}")
    yield Record(name="slipway:prediction_psi:1h", expr=f"sum {per()} (\n{psi(share, known)}\n)")
    yield Record(name="slipway:prediction_ks:1h", expr=_largest_gap("slipway:prediction_gap:1h", selector))

    rows = f"slipway:drift_rows:1h{{{selector}}}"
    sample = f"max {per()} (slipway_prediction_reference_rows{{{selector}}})"
    yield Record(name="slipway:prediction_weight:1h", expr=f"1 / {rows} + 1 / {sample}")
    weight = f"slipway:prediction_weight:1h{{{selector}}}"
    statistic = f"slipway:prediction_psi:1h{{{selector}}}\n/ {weight}"
    yield Record(name="slipway:prediction_psi_statistic:1h", expr=statistic)
    degrees = f"clamp_min(count {per()} ({known} > 0) - 1, 1)"
    yield Record(name="slipway:prediction_degrees:count", expr=degrees)
    critical = chi2_critical(f"slipway:prediction_degrees:count{{{selector}}}", repr(normal_number(limits.level / 2)))
    yield Record(name="slipway:prediction_psi_statistic:critical", expr=critical)
    yield Record(name="slipway:prediction_ks_critical:1h", expr=ks_critical(limits.level / 2, weight))


def _accuracy(selector: str, time: Timing) -> Iterator[Record]:
    """What calibrated probabilities expect over an hour, and what labels said over a day."""
    kinds = (("expected", "1h", HOUR_S), ("realized", "1d", DAY_S))
    for kind, window, seconds in kinds:
        rate = _outcomes(f"slipway_prediction_{kind}_total", selector, time.text(seconds))
        if kind == "realized":
            taken_back = _outcomes("slipway_prediction_retracted_total", selector, time.text(seconds))
            rate = f"clamp_min({rate} - ({taken_back} or 0 * {rate}), 0)"
        yield Record(name=f"slipway:prediction_{kind}_share:{window}", expr=share_of(rate))
        yield from (
            Record(name=f"slipway:prediction_{kind}_{name}:{window}", expr=expr)
            for name, expr in _ratios(f"slipway:prediction_{kind}_share:{window}", selector)
        )
    labels = f"sum {per()} (increase(slipway_prediction_realized_total{{{selector}}}[{time.text(DAY_S)}]))"
    yield Record(name="slipway:prediction_labels:1d", expr=f"{labels} > 0")
    known = f"slipway_prediction_reference_outcome_share{{{selector}"
    reference = f'sum {per()} (max {per("outcome")} ({known}, outcome=~"tp|tn"}}))'
    yield Record(name="slipway:prediction_reference:accuracy", expr=reference)


def _outcomes(counter: str, selector: str, window: str) -> str:
    return f"sum {per('outcome')} (rate({counter}{{{selector}}}[{window}]))"


def _ratios(name: str, selector: str) -> Iterator[tuple[str, str]]:
    def of(outcomes: str) -> str:
        return f'sum {per()} ({name}{{{selector}, outcome=~"{outcomes}"}})'

    yield "accuracy", of("tp|tn")
    yield "precision", f"{of('tp')}\n/ ({of('tp|fp')} > 0)"
    yield "recall", f"{of('tp')}\n/ ({of('tp|fn')} > 0)"


def _largest_gap(name: str, selector: str, *labels: str) -> str:
    """The Kolmogorov-Smirnov distance: after each ordered bin the sum of the gaps so far, and the largest of those."""
    cuts = []
    for last in range(1, len(BINS) + 1):
        total = f'abs(sum {per(*labels)} ({name}{{{selector}, bin=~"{"|".join(BINS[:last])}"}}))'
        cuts.append(f'label_replace({total}, "cut", "{last}", "", "")')
    ordered = f'on ({", ".join(("service", "track", "model", *labels))}) {name}{{{selector}, bin="low"}}'
    return f"max {per(*labels)} (\n" + "\nor ".join(cuts) + f"\n)\nand {ordered}"
