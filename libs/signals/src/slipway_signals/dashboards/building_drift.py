"""The drift dashboard: did answers move, did inputs, and is the model still right?"""

from collections.abc import Iterator
from typing import Final

from slipway_signals.dashboards.building_shapes import (
    BAD,
    GOOD,
    MODEL,
    SERVICE,
    links_of,
    marks,
    panel,
    placed,
    timeseries,
)
from slipway_signals.dashboards.reading import Dashboard, Panel, Threshold, Variable
from slipway_signals.drift.promql import Thresholds

__all__ = ["drift"]

S: Final = 'service="$service"'
M: Final = f'{S},model=~"$model"'
LIMITS: Final = Thresholds()

FEATURE: Final = Variable(
    name="feature",
    label="input",
    query='label_values(slipway_feature_reference_share{service="$service",model=~"$model"}, feature)',
    is_multi=False,
    selector='slipway_feature_reference_share{service="$service",model=~"$model"}',
    values_of="feature",
)


def drift() -> Dashboard:
    """Answers first: an input may move, and no answer with it."""
    return Dashboard(
        uid="slipway-drift",
        title="slipway: drift",
        description="Did answers move, did inputs, and is the model still right?",
        variables=(SERVICE, MODEL, FEATURE),
        annotations=marks(S),
        links=links_of("slipway-drift"),
        panels=placed((*_answers(), *_inputs(), *_one_input(), *_right(), *_labels())),
        range_s=86_400,
    )


def _answers() -> Iterator[Panel]:
    proven = f"{M}}} / slipway:prediction_psi_statistic:critical{{{M}"
    yield timeseries(
        1,
        "Answers: is it proven?",
        "Is the difference of the last hour's answers more than chance? Above 1 it is.",
        (f"slipway:prediction_psi_statistic:1h{{{proven}}}", "{{model}} {{track}} PSI"),
        (
            f"slipway:prediction_ks:1h{{{M}}} / slipway:prediction_ks_critical:1h{{{M}}}",
            "{{model}} {{track}} KS",
        ),
        unit="none",
        decimals=2,
        limit=1,
        no_value="no reference profile, or no rows",
    )
    yield timeseries(
        2,
        "Answers: is it large?",
        "How far are the last hour's answers from those to the training sample?",
        (f"slipway:prediction_psi:1h{{{M}}}", "{{model}} {{track}} PSI"),
        (f"slipway:prediction_ks:1h{{{M}}}", "{{model}} {{track}} KS"),
        unit="none",
        decimals=3,
        limit=LIMITS.prediction_psi,
        no_value="no reference profile, or no rows",
    )


def _inputs() -> Iterator[Panel]:
    yield panel(
        3,
        "Inputs: which moved when",
        "Which input moved, and when? The value is the PSI of the last hour against the training sample.",
        "heatmap",
        [(f"topk(20, max by (feature) (slipway:feature_psi:1h{{{M}}}))", "{{feature}}")],
        unit="none",
        width=12,
        height=8,
        no_value="no reference profile, or no rows",
    )
    yield timeseries(
        4,
        "Inputs: is it large?",
        "Which inputs moved most, and is that material?",
        (f"topk(8, slipway:feature_psi:1h{{{M}}})", "{{model}} {{track}} {{feature}} PSI"),
        (f"topk(8, slipway:feature_ks:1h{{{M}}})", "{{model}} {{track}} {{feature}} KS"),
        unit="none",
        decimals=3,
        limit=LIMITS.feature_psi,
        no_value="no reference profile, or no rows",
    )
    yield timeseries(
        5,
        "Inputs: is it proven?",
        "Is the difference more than chance, with so many inputs looked at? Above 1 it is.",
        (
            f"topk(10, slipway:feature_psi_statistic:1h{{{M}}} / slipway:feature_psi_statistic:critical{{{M}}})",
            "{{model}} {{track}} {{feature}}",
        ),
        unit="none",
        decimals=2,
        limit=1,
        no_value="no reference profile, or no rows",
    )
    yield timeseries(
        6,
        "Inputs: defects",
        "Of which input are more values missing, unseen or out of range than in training?",
        (
            f"topk(10, slipway:feature_defects:1h{{{M}}} - slipway:feature_reference:defects{{{M}}})",
            "{{model}} {{track}} {{feature}}",
        ),
        unit="percentunit",
        limit=LIMITS.defects,
        minimum=None,
        no_value="no reference profile, or no rows",
    )


def _one_input() -> Iterator[Panel]:
    one = f'{M},feature="$feature"'
    yield panel(
        7,
        "The chosen input over time",
        "How did the values of the chosen input spread over the bins of training, hour by hour?",
        "heatmap",
        [(f"avg by (bin) (slipway:feature_share:1h{{{one}}})", "{{bin}}")],
        unit="percentunit",
        width=12,
        height=8,
        no_value="choose an input",
    )
    yield panel(
        8,
        "The chosen input beside training",
        "In which bins of the chosen input is more, or less, than in training?",
        "bargauge",
        [(f"avg by (bin) (slipway:feature_gap:1h{{{one}}})", "{{bin}}")],
        unit="percentunit",
        decimals=1,
        width=12,
        height=8,
        is_instant=True,
        thresholds=(Threshold(None, BAD), Threshold(-LIMITS.ks, GOOD), Threshold(LIMITS.ks, BAD)),
        no_value="choose an input",
    )


def _right() -> Iterator[Panel]:
    allowed = f"slipway:prediction_reference:accuracy{{{M}}} - {LIMITS.accuracy}"
    yield timeseries(
        9,
        "Expected accuracy",
        "How often is the model right by its own calibrated probabilities? It holds while only inputs change.",
        (f"slipway:prediction_expected_accuracy:1h{{{M}}}", "{{model}} {{track}}"),
        promised=[(allowed, "{{model}} {{track}}, least by training")],
        unit="percentunit",
        maximum=1,
        minimum=None,
        no_value="no calibration in the reference profile",
    )
    yield timeseries(
        10,
        "Accuracy by labels",
        "How often was the model right, where the truth is known?",
        (f"slipway:prediction_realized_accuracy:1d{{{M}}}", "{{model}} {{track}}"),
        promised=[(allowed, "{{model}} {{track}}, least by training")],
        unit="percentunit",
        maximum=1,
        minimum=None,
        no_value="no labels were ingested",
    )
    yield timeseries(
        11,
        "Precision and recall",
        "Which error grows: false alarms, or misses?",
        *(
            (f"slipway:prediction_{source}_{what}{{{M}}}", f"{{{{model}}}} {{{{track}}}} {name} {word}")
            for source, word in (("expected", "expected"), ("realized", "by labels"))
            for what, name in (
                (f"precision:{'1h' if source == 'expected' else '1d'}", "precision"),
                (f"recall:{'1h' if source == 'expected' else '1d'}", "recall"),
            )
        ),
        unit="percentunit",
        maximum=1,
        minimum=None,
        no_value="no calibration in the reference profile, and no labels",
    )


def _labels() -> Iterator[Panel]:
    lag = f"slipway_label_lag_seconds_bucket{{{M}}}"
    yield timeseries(
        12,
        "Labels",
        "For which share of the captured predictions has the truth come?",
        (f"max by (model, days) (slipway_label_coverage_ratio{{{M}}})", "{{model}}, last {{days}} days"),
        unit="percentunit",
        maximum=1,
        no_value="no labels were ingested",
    )
    yield timeseries(
        13,
        "Lag of labels",
        "How long after a prediction does its truth come?",
        (f"histogram_quantile(0.5, sum by (le, model) ({lag}))", "{{model}} p50"),
        (f"histogram_quantile(0.9, sum by (le, model) ({lag}))", "{{model}} p90"),
        unit="s",
        no_value="no labels were ingested",
    )
    yield timeseries(
        14,
        "Rows looked at",
        "Are there enough rows to say anything, and are all inputs looked at?",
        (f"slipway:drift_rows:1h{{{M}}}", "{{model}} {{track}} effective rows"),
        (f"max by (model) (slipway_drift_features_dropped{{{M}}})", "{{model}} inputs left out"),
        (f"{LIMITS.rows:g} + 0 * slipway:drift_rows:1h{{{M}}}", "{{model}} {{track}} least"),
        unit="short",
        no_value="no reference profile",
    )
