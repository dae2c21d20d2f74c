"""The test of each drift alert: rows that move make it fire when theory says so, with its words, and it falls silent.

Two more cases: nine tenths of every limit, and too few rows, say nothing. What theory says comes from `stats`: a window
that holds a share w of moved rows has the shares known + w · (moved - known).

One step is five minutes, because an hour of drift needs no finer one, and promtool has eleven hours to go through.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipway_signals.drift import stats
from slipway_signals.drift.alerts import EVIDENCE, MOVED, RELEASES, drift_alerts
from slipway_signals.drift.promql import Thresholds
from slipway_signals.slo.drills import Case, counter, firing, gauge, sounding
from slipway_signals.slo.promrules import Alert, Timing

__all__ = ["drift_cases"]

STEP_S: Final = 300
GRACE_S: Final = 2 * STEP_S
HOUR_S: Final = 3_600
HEALTHY_S: Final = 2 * HOUR_S
FAULT_S: Final = 5 * HOUR_S
AFTER_S: Final = 4 * HOUR_S
"""The labels of a day forget last: until half of them are good again."""

BINS: Final = ("low", "b01", "b02", "b03", "b04", "high", "missing")
ORDERED: Final = len(BINS) - 2
"""Bins before `high` and `missing`: the cumulative shares are compared after each."""

KNOWN: Final = np.array([0.0, 0.25, 0.25, 0.25, 0.25, 0.0, 0.0])
SHIFTED: Final = np.array([0.0, 0.1, 0.2, 0.28, 0.42, 0.0, 0.0])
"""Moved within the range of the sample."""

BROKEN: Final = np.array([0.0, 0.1, 0.2, 0.25, 0.37, 0.05, 0.03])
"""Moved, and out of it."""

OUTCOMES: Final = {"tp": (0.4, 0.3), "fp": (0.05, 0.1), "fn": (0.05, 0.1), "tn": (0.5, 0.5)}
"""Shares in the sample, and while the model is wrong more often."""

SAMPLE, PREDICTED = 15_000, 5_000
"""Rows and predictions of the reference sample."""

PLENTY: Final = 12_000.0
"""Rows in an hour."""

LABELLED: Final = 1_200.0
"""Labels in an hour."""

NEAR: Final = 0.9
WORSE: Final = 2.0
"""Of `OUTCOMES`: so wrong that even few answers prove it, and it is their number alone that keeps the alert silent."""

MODEL: Final = "model"
FEATURE: Final = "income"

_KS: Final = re.compile(r"\{\{ range query \(printf `slipway:\w+_ks:1h.*?\{\{ end \}\}")
_VALUE: Final = re.compile(r"\{\{ \$value[^}]*\}\}")
_TRACK: Final = "{{ if $labels.track }} ({{ $labels.track }}){{ end }}"

Shares = NDArray[np.float64]


class _World(Struct, frozen=True, kw_only=True):
    """What is counted in a phase."""

    rows: float
    """In an hour."""

    labels: float
    prediction: Shares
    feature: Shares
    wrong: float
    """As calibrated probabilities expect. 0: as right as in the sample, 1: as in `OUTCOMES`."""

    mislabelled: float
    """The same as labels say."""


def drift_cases(service: str, owner: str) -> tuple[Case, ...]:
    """The tests of the drift alerts of one service, at true windows and the usual thresholds."""
    limits = Thresholds()
    alerts = drift_alerts(service, owner, Timing(), limits)
    drills = _Drills(service, limits)
    return (_fires(drills, alerts), _near(drills, alerts), _few(drills, alerts))


class _Drills:
    """The worlds of one service, and when its alerts see them."""

    def __init__(self, service: str, limits: Thresholds) -> None:
        self._service, self.limits = service, limits
        self.healthy = _World(rows=PLENTY, labels=LABELLED, prediction=KNOWN, feature=KNOWN, wrong=0.0, mislabelled=0.0)
        self.faulty = _World(
            rows=PLENTY, labels=LABELLED, prediction=SHIFTED, feature=BROKEN, wrong=1.0, mislabelled=1.0
        )

    def series(self, *phases: tuple[float, _World]) -> dict[str, str]:
        """Every series over the phases, counters from 0 on."""
        worlds = [world for _, world in phases]
        steps_s = [seconds for seconds, _ in phases]
        made: dict[str, str] = {}

        def count(name: str, an_hour: Iterable[float], **labels: str) -> None:
            growth = [_exact(amount * STEP_S / HOUR_S) for amount in an_hour]
            made[self._named(name, labels)] = counter(zip(steps_s, growth, strict=True), STEP_S)

        def keep(name: str, value: float, **labels: str) -> None:
            made[self._named(name, labels)] = gauge([(sum(steps_s) + STEP_S, _exact(value))], STEP_S)

        keep("slipway_build_info", 1, digest="sha256:a", version="1", slipway_version="1")
        keep("slipway_feature_reference_rows", SAMPLE, model=MODEL)
        keep("slipway_prediction_reference_rows", PREDICTED, model=MODEL)
        for name in ("slipway_drift_rows_total", "slipway_drift_squared_weights_total"):
            count(name, [world.rows for world in worlds], model=MODEL)
        for at, label in enumerate(BINS):
            one, known = {"model": MODEL, "bin": label}, float(KNOWN[at])
            count("slipway_feature_bin_total", [w.rows * w.feature[at] for w in worlds], feature=FEATURE, **one)
            keep("slipway_feature_reference_share", known, feature=FEATURE, **one)
            count("slipway_prediction_bin_total", [w.rows * w.prediction[at] for w in worlds], **one)
            keep("slipway_prediction_reference_share", known, **one)
        for outcome, (known, wrong) in OUTCOMES.items():
            one, gap = {"model": MODEL, "outcome": outcome}, wrong - known
            count("slipway_prediction_expected_total", [w.rows * (known + w.wrong * gap) for w in worlds], **one)
            labels = [w.labels * (known + w.mislabelled * gap) for w in worlds]
            count("slipway_prediction_realized_total", labels, **one)
            keep("slipway_prediction_reference_outcome_share", known, **one)
        return made

    def detect_s(self, alert: str) -> float:
        """Seconds after which the condition of an alert is first seen to hold."""
        for since_s in range(STEP_S, FAULT_S, STEP_S):
            if self._holds(alert, since_s):
                return since_s
        raise RuntimeError(f"this is a bug in slipway: the drill of {alert} never makes it fire")

    def words(self, alert: Alert, since_s: float) -> dict[str, str]:
        """What its templates put in, so long after the fault began, which is longer than an hour."""
        psi, ks = self.distances(self.faulty.feature if alert.name == "SlipwayFeatureDrift" else self.faulty.prediction)
        moved, _ = self.distances(self.faulty.feature)
        lower = stats.wilson_bounds(_defects(BROKEN), PLENTY, self.limits.z_defects)[0]
        value = {
            "SlipwayFeatureDefects": lower,
            "SlipwayExpectedAccuracyLow": _accuracy(1.0),
            "SlipwayAccuracyLow": _accuracy(since_s / (HEALTHY_S + since_s)),
        }.get(alert.name, psi)
        texts = {
            EVIDENCE: f" The inputs that moved most: {FEATURE} (PSI {moved:.2f})",
            MOVED: f"{FEATURE}={moved:.3f}",
            RELEASES: "sha256:a=1",
            _TRACK: "",
        }
        for text in alert.annotations.values():
            for found in _KS.findall(text):
                texts[found] = f" and a KS distance of {ks:.3f} ({self.limits.ks:g} is material)"
            for found in _VALUE.findall(text):
                texts[found] = _shown(found, value)
        return texts

    def near(self, floor: float, defects: float) -> Shares:
        """Shares of which PSI or KS is at nine tenths of its limit, so many of them missing."""
        least, most = 0.0, 1.0
        for _ in range(40):
            middle = (least + most) / 2
            psi, ks = self.distances(_mixed(middle, defects))
            least, most = (middle, most) if max(psi / floor, ks / self.limits.ks) < NEAR else (least, middle)
        return _mixed(least, defects)

    def nearly_wrong(self, rows: float) -> float:
        """How wrong answers are whose upper bound, of so many, is at nine tenths of the limit."""
        limit = _accuracy(0.0) - NEAR * self.limits.accuracy
        steps = (step / 1_000 for step in range(1_001))
        return next(wrong for wrong in steps if stats.wilson_bounds(_accuracy(wrong), rows, self.limits.z)[1] < limit)

    def distances(self, shares: Shares) -> tuple[float, float]:
        """PSI and KS to the sample."""
        return stats.psi(KNOWN, shares), float(np.abs(np.cumsum(shares - KNOWN)[:ORDERED]).max())

    def _holds(self, alert: str, since_s: float) -> bool:
        """Whether the condition holds so long after the fault began."""
        limits, share = self.limits, min(1.0, since_s / HOUR_S)
        match alert:
            case "SlipwayPredictionDrift":
                shares = KNOWN + share * (self.faulty.prediction - KNOWN)
                return self._drifted(shares, limits.prediction_psi, PREDICTED)
            case "SlipwayFeatureDrift":
                return self._drifted(KNOWN + share * (self.faulty.feature - KNOWN), limits.feature_psi, SAMPLE)
            case "SlipwayFeatureDefects":
                return stats.wilson_bounds(share * _defects(BROKEN), PLENTY, limits.z_defects)[0] > limits.defects
            case "SlipwayExpectedAccuracyLow":
                return self._is_wrong(share, PLENTY)
        return self._is_wrong(since_s / (HEALTHY_S + since_s), LABELLED * (HEALTHY_S + since_s) / HOUR_S)

    def _drifted(self, shares: Shares, floor: float, sample: int) -> bool:
        tail = self.limits.level / 2
        psi, ks = self.distances(shares)
        degrees = max(1, int((KNOWN > 0).sum()) - 1)
        by_psi = stats.psi_statistic(psi, PLENTY, sample) > stats.chi2_critical(degrees, tail)
        return (psi >= floor and by_psi) or (ks >= self.limits.ks and ks > stats.ks_critical(PLENTY, sample, tail))

    def _is_wrong(self, share: float, rows: float) -> bool:
        upper = stats.wilson_bounds(_accuracy(share), rows, self.limits.z)[1]
        return upper < _accuracy(0.0) - self.limits.accuracy

    def _named(self, name: str, labels: Mapping[str, str]) -> str:
        pairs = ",".join(f'{key}="{value}"' for key, value in {"service": self._service, **labels}.items())
        return f"{name}{{{pairs}}}"


def _fires(drills: _Drills, alerts: tuple[Alert, ...]) -> Case:
    checks, soundings = [], []
    told_s = FAULT_S - STEP_S
    for alert in alerts:
        name = {"alertname": alert.name}
        waits_s = drills.detect_s(alert.name) + alert.for_s
        found = {"model": MODEL} | (
            {"feature": FEATURE} if "$labels.feature" in alert.annotations["description"] else {}
        )
        checks += [
            firing(HEALTHY_S + waits_s - GRACE_S, name),
            firing(HEALTHY_S + waits_s + GRACE_S, name, count=1),
            firing(HEALTHY_S + FAULT_S + AFTER_S, name),
        ]
        soundings.append(sounding(HEALTHY_S + told_s, [(alert, found, drills.words(alert, told_s))]))
    return Case(
        name="drift: each alert fires when the rows have moved for long enough, and falls silent when they are back",
        series=drills.series(
            (float(HEALTHY_S), drills.healthy), (float(FAULT_S), drills.faulty), (float(AFTER_S), drills.healthy)
        ),
        checks=tuple(checks),
        soundings=tuple(soundings),
        step_s=STEP_S,
    )


def _near(drills: _Drills, alerts: tuple[Alert, ...]) -> Case:
    limits = drills.limits
    near = _World(
        rows=PLENTY,
        labels=LABELLED,
        prediction=drills.near(limits.prediction_psi, 0.0),
        feature=drills.near(limits.feature_psi, NEAR * limits.defects),
        wrong=drills.nearly_wrong(PLENTY),
        mislabelled=drills.nearly_wrong(LABELLED * FAULT_S / HOUR_S),
    )
    return _silent("drift: silent at nine tenths of every limit", drills, near, alerts)


def _few(drills: _Drills, alerts: tuple[Alert, ...]) -> Case:
    limits = drills.limits
    hours = FAULT_S / HOUR_S
    few = _World(
        rows=NEAR * limits.rows,
        labels=NEAR * limits.labels / hours,
        prediction=SHIFTED,
        feature=BROKEN,
        wrong=WORSE,
        mislabelled=WORSE,
    )
    return _silent("drift: silent with too few rows and labels", drills, few, alerts)


def _silent(name: str, drills: _Drills, world: _World, alerts: tuple[Alert, ...]) -> Case:
    times = (1.5 * HOUR_S, FAULT_S / 2, FAULT_S - STEP_S)
    return Case(
        name=name,
        series=drills.series((float(FAULT_S), world)),
        checks=tuple(firing(at_s, {"alertname": alert.name}) for alert in alerts for at_s in times),
        step_s=STEP_S,
    )


def _mixed(share: float, missing: float) -> Shares:
    shares: Shares = (1.0 - missing) * (KNOWN + share * (SHIFTED - KNOWN))
    shares[-1] += missing
    return shares


def _accuracy(wrong: float) -> float:
    return sum(OUTCOMES[name][0] + wrong * (OUTCOMES[name][1] - OUTCOMES[name][0]) for name in ("tp", "tn"))


def _defects(shares: Shares) -> float:
    return float(shares[0] + shares[-2] + shares[-1])


def _exact(number: float) -> Decimal:
    return Decimal(f"{number:.6f}").normalize()


def _shown(template: str, value: float) -> str:
    """As Prometheus writes it."""
    if "humanizePercentage" in template:
        return f"{100 * value:.4g}%"
    return f"{value:{'.3f' if '%.3f' in template else '.6g'}}"
