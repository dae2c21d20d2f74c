"""A table of served rows against a reference profile: the figures of a report.

It reads no files and draws nothing. The invariant: a table's rows fall into the bins as the served rows did, so a
report and the counters tell of the same data the same story.
"""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct

from slipway_bundle.schema import TensorSpec
from slipway_signals.drift import stats
from slipway_signals.drift.building import Column, TableError, numbers_of
from slipway_signals.drift.predictions import count_predictions
from slipway_signals.drift.profile import Feature, Numeric, Profile
from slipway_signals.drift.promql import Thresholds

__all__ = ["Compared", "Comparison", "compare"]

DEFECTS = frozenset({"missing", "low", "high", "unseen"})


class Compared(Struct, frozen=True, kw_only=True):
    """One feature, or the prediction, in both samples."""

    name: str
    bins: tuple[str, ...]
    reference: tuple[float, ...]
    """Share of each bin."""

    current: tuple[float, ...]
    psi: float
    ks: float | None
    """None for words: they have no order."""

    tail: float
    """Probability of such a PSI by chance."""

    is_significant: bool
    """At the level of the alerts, among all features (Bonferroni); of the prediction, alone."""

    is_material: bool
    defects: float
    """Share that is missing, out of range or unseen."""

    reference_defects: float
    bounds: tuple[float, ...] = ()
    """Of a number: smallest value of the reference, upper bounds of its bins."""


class Comparison(Struct, frozen=True, kw_only=True):
    """All of a model."""

    model: str
    rows: int
    reference_rows: int
    prediction: Compared | None
    features: tuple[Compared, ...]
    """Largest PSI first."""

    absent: tuple[str, ...] = ()
    """Features of the profile that the table lacks, or has redacted."""


def compare(profile: Profile, table: Mapping[str, Column], limits: Thresholds | None = None) -> Comparison:
    """The figures of `table` (field -> `[n, …]`, the prediction under its field's name) against a profile."""
    limits = limits or Thresholds()
    absent = []
    found: list[Compared] = []
    rows = 0
    for feature in profile.features:
        column = _column(table, feature.name)
        if column is None or not len(column):
            absent.append(feature.name)
            continue
        level = limits.level / len(profile.features)
        try:
            found.append(_compared(feature, column, profile.rows, limits.feature_psi, level, limits.ks))
        except TableError:  # a number that was hashed or masked when it was captured
            absent.append(feature.name)
            continue
        rows = len(column)
    prediction = None
    if profile.prediction is not None:
        answers = _column(table, profile.prediction.feature.name)
        if answers is None or not len(answers):
            absent.append(profile.prediction.feature.name)
        else:
            rows = len(answers)
            prediction = _compared(
                profile.prediction.feature,
                answers,
                profile.prediction.rows,
                limits.prediction_psi,
                limits.level,
                limits.ks,
            )
    return Comparison(
        model=profile.model,
        rows=rows,
        reference_rows=profile.rows,
        prediction=prediction,
        features=tuple(sorted(found, key=lambda one: -one.psi)),
        absent=tuple(absent),
    )


def _compared(feature: Feature, column: Column, sample: int, floor: float, level: float, ks_floor: float) -> Compared:
    if isinstance(feature, Numeric):
        values = numbers_of(TensorSpec(name=feature.name, datatype=feature.datatype), column)
    else:
        values = np.array([None if value is None else _word(value) for value in column], dtype=object)
    counts, _ = count_predictions(feature, values)
    reference, current = stats.shares(feature.bin_counts), stats.shares(counts)
    psi = stats.psi(reference, current)
    ks = stats.ks_on_bins(reference, current) if isinstance(feature, Numeric) else None
    degrees = max(1, sum(count > 0 for count in feature.bin_counts) - 1)
    tail = stats.chi2_tail(stats.psi_statistic(psi, len(column), sample), degrees)
    is_far = ks is not None and ks > stats.ks_critical(len(column), sample, level / 2.0)
    flaws = [label in DEFECTS for label in feature.bins]
    bounds = (feature.low, *feature.cuts, feature.high) if isinstance(feature, Numeric) else ()
    return Compared(
        name=feature.name,
        bins=feature.bins,
        reference=tuple(reference.tolist()),
        current=tuple(current.tolist()),
        psi=psi,
        ks=ks,
        tail=tail,
        is_significant=tail <= level / 2.0 or is_far,
        is_material=psi >= floor or (ks is not None and ks >= ks_floor),
        defects=float(current[flaws].sum()),
        reference_defects=float(reference[flaws].sum()),
        bounds=tuple(bound for bound in bounds if bound is not None),
    )


def _column(table: Mapping[str, Column], name: str) -> Column | None:
    """A column, or an element `a[2]` of one."""
    if name in table:
        return table[name]
    field, _, rest = name.partition("[")
    if not rest or field not in table:
        return None
    column = np.asarray(table[field])
    for part in rest.split("["):
        column = column[:, int(part.rstrip("]"))]
    return column


def _word(value: object) -> object:
    """A bool as the profile calls it; everything else as it is."""
    return ("false", "true")[int(value)] if isinstance(value, bool | np.bool_) else value
