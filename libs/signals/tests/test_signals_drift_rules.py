"""The rules of drift, judged by promtool: their values are those of `stats`, their alerts come and go."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drift_world import Stretch, counter, gauge, promtool

from slipway_signals.drift import stats
from slipway_signals.slo.promrules import Timing

pytestmark = pytest.mark.needs("promtool")

NUMBER_BINS = ("low", *(f"b{n:02d}" for n in range(1, 11)), "high", "missing")
WORD_BINS = ("monthly", "yearly", "other", "unseen", "missing")
NUMBER_KNOWN = (0.0, *[0.0995] * 10, 0.0, 0.005)
WORD_KNOWN = (0.65, 0.35, 0.0, 0.0, 0.0)
SHIFTED = (0.0, 0.03, 0.04, 0.06, 0.08, 0.09, 0.1, 0.12, 0.14, 0.15, 0.16, 0.02, 0.01)
SAMPLE = 15_000
FEATURES = 2


def world(
    minutes: list[tuple[int, float, bool]],
    *,
    shifted: tuple[float, ...] = SHIFTED,
    reference_outcomes: bool = True,
    weight: float = 1.0,
) -> list[dict[str, Any]]:
    """Stretches of (minutes, rows a minute, whether shifted): `income` and the prediction move, `contract` never."""
    total = sum(length for length, _, _ in minutes)
    series = [
        gauge("slipway_feature_reference_rows", SAMPLE, total),
        gauge("slipway_prediction_reference_rows", 5_000, total),
    ]

    def stretches(known: float, current: float) -> list[Stretch]:
        return [Stretch(length, rows * (current if moved else known)) for length, rows, moved in minutes]

    series.append(counter("slipway_drift_rows_total", stretches(1.0, 1.0)))
    series.append(counter("slipway_drift_squared_weights_total", stretches(weight, weight)))
    for bins, known, current, feature in (
        (NUMBER_BINS, NUMBER_KNOWN, shifted, "income"),
        (WORD_BINS, WORD_KNOWN, WORD_KNOWN, "contract"),
    ):
        for label, r, c in zip(bins, known, current, strict=True):
            labels = {"feature": feature, "bin": label}
            series.append(gauge("slipway_feature_reference_share", r, total, **labels))
            series.append(counter("slipway_feature_bin_total", stretches(r, c), **labels))
            if feature == "income":
                series.append(gauge("slipway_prediction_reference_share", r, total, bin=label))
                series.append(counter("slipway_prediction_bin_total", stretches(r, c), bin=label))
    for outcome, was, now in (("tp", 0.3, 0.2), ("fp", 0.1, 0.2), ("fn", 0.05, 0.1), ("tn", 0.55, 0.5)):
        if reference_outcomes:
            series.append(gauge("slipway_prediction_reference_outcome_share", was, total, outcome=outcome))
        series.append(counter("slipway_prediction_expected_total", stretches(was, now), outcome=outcome))
    return series


def values(expected: dict[str, float], minute: int) -> list[dict[str, Any]]:
    """promtool's form of these values, to 1e-9 (it compares floats bit by bit)."""
    return [
        {
            "expr": f"abs({query} - {value!r}) < bool 1e-9",
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": "", "value": 1}],
        }
        for query, value in expected.items()
    ]


def firing(alert: str, at: dict[int, int]) -> list[dict[str, Any]]:
    """promtool's form of: at this minute so many such alerts fire."""
    query = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    return [
        {"expr": query, "eval_time": f"{minute}m", "exp_samples": [{"labels": "", "value": count}] if count else []}
        for minute, count in at.items()
    ]


def test_the_recorded_values_are_those_of_the_formulas(tmp_path: Path) -> None:
    rows = 1_000 * 60
    weight = 1 / rows + 1 / SAMPLE
    psi = stats.psi(NUMBER_KNOWN, SHIFTED)
    tail = 0.005 / FEATURES
    expected = {
        'sum(slipway:feature_psi:1h{feature="income"})': psi,
        'sum(slipway:feature_psi:1h{feature="contract"})': 0.0,
        'sum(slipway:feature_ks:1h{feature="income"})': stats.ks_on_bins(NUMBER_KNOWN, SHIFTED),
        'sum(slipway:feature_psi_statistic:1h{feature="income"})': stats.psi_statistic(psi, rows, SAMPLE),
        'sum(slipway:feature_psi_statistic:critical{feature="income"})': stats.chi2_critical(10, tail),
        'sum(slipway:feature_psi_statistic:critical{feature="contract"})': stats.chi2_critical(1, tail),
        "sum(slipway:feature_ks_critical:1h)": stats.ks_critical(rows, SAMPLE, tail),
        "sum(slipway:feature_weight:1h)": weight,
        'sum(slipway:feature_defects:lower1h{feature="income"})': stats.wilson_bounds(0.03, rows, 4.0)[0],
        "sum(slipway:prediction_psi:1h)": psi,
        "sum(slipway:prediction_psi_statistic:1h)": stats.psi_statistic(psi, rows, 5_000),
        "sum(slipway:prediction_psi_statistic:critical)": stats.chi2_critical(10, 0.005),
        "sum(slipway:prediction_ks:1h)": stats.ks_on_bins(NUMBER_KNOWN, SHIFTED),
        "sum(slipway:prediction_ks_critical:1h)": stats.ks_critical(rows, 5_000, 0.005),
        "sum(slipway:prediction_expected_accuracy:1h)": 0.7,
        "sum(slipway:prediction_expected_precision:1h)": 0.5,
        "sum(slipway:prediction_expected_recall:1h)": 2 / 3,
        "sum(slipway:prediction_reference:accuracy)": 0.85,
    }

    said = promtool(tmp_path, world([(121, 1_000, True)]), values=values(expected, 120))

    assert not said, said


def test_a_shift_of_the_predictions_is_told_after_a_window_and_resolves(tmp_path: Path) -> None:
    series = world([(121, 100, False), (240, 100, True), (240, 100, False)])
    fires = firing("SlipwayPredictionDrift", {120: 0, 180: 0, 215: 1, 360: 1, 480: 0})

    said = promtool(tmp_path, series, values=fires)

    assert not said, said


def test_a_feature_needs_twice_the_shift_for_three_times_as_long(tmp_path: Path) -> None:
    """`income` moves, `contract` does not: one alert, not two."""
    series = world([(121, 100, False), (300, 100, True), (240, 100, False)])

    said = promtool(tmp_path, series, values=firing("SlipwayFeatureDrift", {240: 0, 345: 1, 420: 1, 540: 0}))

    assert not said, said


def test_sampled_rows_count_as_the_rows_that_were_looked_at(tmp_path: Path) -> None:
    """48,000 rows an hour of which one in 100 was looked at are 480 rows, less than are needed."""
    series = world([(61, 800, False), (400, 800, True)], weight=100.0)

    said = promtool(
        tmp_path,
        series,
        values=[*values({"sum(slipway:drift_rows:1h)": 480.0}, 400), *firing("SlipwayPredictionDrift", {460: 0})],
    )

    assert not said, said


@pytest.mark.parametrize(
    ("mix", "rows", "said"),
    [(0.3, 4_000, 0), (0.34, 8.5, 0), (0.6, 100, 1)],
    ids=["significant, not material", "material, not significant", "both"],
)
def test_an_alert_needs_both_keys(tmp_path: Path, mix: float, rows: float, said: int) -> None:
    moved = tuple(r + mix * (c - r) for r, c in zip(NUMBER_KNOWN, SHIFTED, strict=True))
    psi = stats.psi(NUMBER_KNOWN, moved)
    statistic = stats.psi_statistic(psi, 60 * rows, 5_000)
    series = world([(400, rows, True)], shifted=moved)

    answer = promtool(tmp_path, series, values=firing("SlipwayPredictionDrift", {390: said}))

    assert not answer, answer
    assert (psi >= 0.05, statistic > stats.chi2_critical(10, 0.005)) == {0.3: (False, True), 0.34: (True, False)}.get(
        mix, (True, True)
    )


def test_chance_alone_says_nothing_for_a_day(tmp_path: Path) -> None:
    """1,200 rows an hour, drawn from the reference itself: not even a PSI of 0.02 by chance is an alert."""
    draw = np.random.default_rng(7)
    series = world([(1_441, 20, False)])
    for one in series:
        name = str(one["series"])
        if "bin_total" in name:
            share = float(str(one["values"]).partition("+")[2].partition("x")[0]) / 20
            one["values"] = " ".join(map(str, np.cumsum(draw.poisson(20 * share, 1_441)).tolist()))
    alerts = 'count(ALERTS{alertname=~"Slipway.*"})'
    never = [{"expr": alerts, "eval_time": f"{minute}m", "exp_samples": []} for minute in range(60, 1_440, 7)]

    said = promtool(tmp_path, series, values=never)

    assert not said, said


def test_without_a_reference_accuracy_nothing_is_said_about_it(tmp_path: Path) -> None:
    series = world([(61, 100, False), (400, 100, True)], reference_outcomes=False)

    said = promtool(tmp_path, series, values=firing("SlipwayExpectedAccuracyLow", {300: 0, 450: 0}))

    assert not said, said


def test_the_alert_says_what_it_is_about_in_words_with_the_numbers(tmp_path: Path) -> None:
    psi, ks = stats.psi(NUMBER_KNOWN, SHIFTED), stats.ks_on_bins(NUMBER_KNOWN, SHIFTED)
    alert = {
        "eval_time": "300m",
        "alertname": "SlipwayPredictionDrift",
        "exp_alerts": [
            {
                "exp_labels": {
                    "severity": "ticket", "category": "drift", "owner": "team-churn",
                    "service": "churn", "model": "churn",
                },
                "exp_annotations": {
                    "summary": f"The answers of a model of churn are not spread as in training: PSI {psi:.3f}",
                    "description": (
                        f"Over the last hour the answers of the model churn had a PSI of {psi:.3f} against the "
                        f"reference sample (0.05 is material) and a KS distance of {ks:.3f} (0.1 is material). "
                        f"The inputs that moved most: income (PSI {psi:.2f}), contract (PSI 0.00)"
                    ),
                    "runbook_url": "runbooks/SlipwayPredictionDrift.md",
                    "dashboard_url": "observability/dashboards/slipway-drift.json?var-service=churn&viewPanel=2",
                    "statistic": "psi", "value": f"{psi:.6g}", "releases": "sha256:a=1.2 sha256:b=1.3",
                    "moved": f"income={psi:.3f} contract=0.000",
                },
            }
        ],
    }  # fmt: skip

    releases = [
        gauge("slipway_build_info", 1.0, 301, digest=f"sha256:{digest}", version=version)
        for digest, version in (("a", "1.2"), ("b", "1.3"))
    ]
    said = promtool(tmp_path, [*world([(301, 100, True)]), *releases], alerts=[alert])

    assert not said, said


def test_a_scaled_copy_has_the_same_alerts_in_less_time(tmp_path: Path) -> None:
    """An hour in five minutes: the same names, every window and wait twelve times shorter."""
    series = world([(11, 1_000, False), (40, 1_000, True), (30, 1_000, False)])
    expected = firing("SlipwayPredictionDrift", {10: 0, 24: 1, 50: 1, 65: 0})

    said = promtool(tmp_path, series, values=expected, timing=Timing(scale=12), every="1m")

    assert not said, said
