"""Builds a reference profile from the training sample.

It reads no files (`tables` does). The invariants: the same sample gives the same profile, whatever the order of its
rows; a value that a row could not carry (NaN, infinity, beyond its datatype) counts as missing, and a value that is
none at all is an error that names its column and row.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipway_bundle.errors import UsageError
from slipway_bundle.schema import TensorSpec
from slipway_signals.drift.binning import field_of, watchable
from slipway_signals.drift.calibration import fit_calibrator
from slipway_signals.drift.profile import (
    SCHEMA_VERSION,
    Categorical,
    Feature,
    Numeric,
    Prediction,
    Profile,
    compute_dtype,
)

__all__ = ["Column", "TableError", "build_profile", "numbers_of", "words_of"]

BINS: Final = 10
"""Quantile bins of a number: 10 are the custom of PSI, and its chi-square needs 5 rows a bin."""

TOP: Final = 10
"""Most frequent values of a word that have a bin each."""

OTHERS: Final = 256
"""Further values that are known by name."""

Column: TypeAlias = Sequence[Any] | NDArray[Any]
_MISSING: Final = frozenset({"", "nan", "null", "none", "na", "n/a"})
_BOOLS: Final = {"true": "true", "false": "false", "1": "true", "0": "false", "1.0": "true", "0.0": "false"}


class TableError(UsageError):
    """The reference sample lacks a column, or a value in it is not what the model's row says."""

    code = "reference_table"


def build_profile(
    model: str,
    inputs: Sequence[TensorSpec],
    table: Mapping[str, Column],
    *,
    outputs: Sequence[TensorSpec] = (),
    prediction: str | None = None,
    predictions: Column | None = None,
    labels: Column | None = None,
    threshold: float = 0.5,
    importance: Mapping[str, float] | None = None,
) -> Profile:
    """The reference profile of `model`.

    Args:
        model: Its name.
        inputs: Tensors of its row: `RowCodec(Customer).specs`.
        table: Field -> its values in the training sample, one a row: numbers, words, None, or numbers as text. A field
            that is an array has `[n, …]` values. Columns that are no field are left alone. Empty where no input can be
            watched, as of a model of pictures: then its predictions are its profile.
        outputs: Tensors of its answer; needed with `predictions`.
        prediction: The field of the answer to watch; by default the first that can be.
        predictions: What the model answered for a sample. Better for rows it was not trained on: on its own training
            rows a model is too sure, and expected accuracy inherits that.
        labels: Whether each prediction's label was true; makes the calibrator.
        threshold: A probability of at least this predicts the label.
        importance: Feature -> weight; the heaviest come first, and stay when there is no room for all.

    Raises:
        TableError: The table does not fit the row; the message names column, row and value.
    """
    is_blind = predictions is not None and not any(map(watchable, inputs))
    count = len(predictions) if predictions is not None and is_blind else _rows(inputs, table)
    weights = importance or {}
    features: list[Feature] = []
    unwatched: list[str] = []
    for spec in inputs:
        names = watchable(spec)
        if not names:
            unwatched.append(spec.name)
            continue
        if spec.name not in table:
            raise TableError(
                f"the reference table of model {model!r} has no column {spec.name!r}, got {', '.join(table) or 'none'}",
                hint="columns are called like the fields of the row; a nested field is `outer.inner`",
                column=spec.name,
            )
        features += _features(spec, names, table[spec.name])
    features.sort(key=lambda feature: -weights.get(feature.name, weights.get(field_of(feature.name), 0.0)))
    return Profile(
        schema_version=SCHEMA_VERSION,
        model=model,
        rows=count,
        features=tuple(features),
        unwatched=tuple(unwatched),
        prediction=None if predictions is None else _prediction(outputs, prediction, predictions, labels, threshold),
    )


def numbers_of(spec: TensorSpec, column: Column) -> NDArray[np.float64]:
    """A column as float64 `[n, …]`, as rows carry it: rounded to the datatype, what they cannot carry as NaN.

    Raises:
        TableError: A value is no number.
    """
    array = np.asarray(column) if isinstance(column, np.ndarray) else _array(spec.name, column)
    if array.dtype.kind not in "fiub":
        array = _array(spec.name, array.tolist())
    if array.shape[1:] != spec.shape:
        raise TableError(
            f"column {spec.name!r} of the reference table has the shape {list(array.shape[1:])} a row, "
            f"expected {list(spec.shape)}",
            column=spec.name,
        )
    with np.errstate(over="ignore"):
        carried = array.astype(_carrier(spec)).astype(np.float64)
    carried[~np.isfinite(carried)] = np.nan
    return carried


def words_of(spec: TensorSpec, column: Column) -> list[str | None]:
    """A column as the words that rows carry, None where it is missing.

    Raises:
        TableError: A value is not one of the closed set.
    """
    values = column.tolist() if isinstance(column, np.ndarray) else column
    known = frozenset(spec.values)
    words: list[str | None] = []
    for row, value in enumerate(values):
        if value is None or (isinstance(value, float) and math.isnan(value)) or value in {"", b""} - known:
            words.append(None)
            continue
        word = _word(value) if known else _BOOLS.get(str(value).lower())
        if word is None or (known and word not in known):
            expected = ", ".join(map(repr, spec.values)) if known else "true or false"
            raise TableError(
                f"column {spec.name!r} of the reference table holds {value!r} in row {row}, expected {expected}",
                hint="write the words that the service receives, not the numbers that training makes of them",
                column=spec.name,
                row=row,
            )
        words.append(word)
    return words


def _rows(inputs: Sequence[TensorSpec], table: Mapping[str, Column]) -> int:
    """How many rows the table has."""
    rows = {spec.name: len(table[spec.name]) for spec in inputs if spec.name in table}
    if not rows or min(rows.values()) < 1:
        raise TableError("the reference table has no rows, expected at least one")
    count = next(iter(rows.values()))
    for field, length in rows.items():
        if length != count:
            raise TableError(f"column {field!r} of the reference table has {length} values, expected {count}")
    return count


def _features(spec: TensorSpec, names: Sequence[str], column: Column) -> list[Feature]:
    """The features of one tensor, counted."""
    if spec.values or spec.datatype == "BOOL":
        if spec.shape:
            flat = np.asarray(column).reshape(len(column), -1)
            return [_words(spec, name, words_of(spec, flat[:, at])) for at, name in enumerate(names)]
        return [_words(spec, spec.name, words_of(spec, column))]
    numbers = numbers_of(spec, column).reshape(len(column), -1)
    return [_numbers(spec, name, numbers[:, at]) for at, name in enumerate(names)]


def _numbers(spec: TensorSpec, name: str, values: NDArray[np.float64]) -> Numeric:
    present = np.sort(values[~np.isnan(values)])
    missing = len(values) - len(present)
    if not len(present):
        return Numeric(name=name, datatype=spec.datatype, low=None, high=None, missing=missing)
    low, high = float(present[0]) + 0.0, float(present[-1]) + 0.0  # + 0.0: minus zero has other bytes
    at = [math.ceil(number * len(present) / BINS) - 1 for number in range(1, BINS)]
    cuts = tuple(float(cut) for cut in np.unique(present[at] + 0.0) if cut < high)
    edges = np.searchsorted(present, np.array((*cuts, high)), side="right")
    counts = tuple(int(count) for count in np.diff(edges, prepend=0))
    return Numeric(name=name, datatype=spec.datatype, low=low, high=high, cuts=cuts, counts=counts, missing=missing)


def _words(spec: TensorSpec, name: str, words: Sequence[str | None]) -> Categorical:
    found = Counter(word for word in words if word is not None)
    ranked = sorted(found, key=lambda word: (-found[word], word.encode()))
    top, rest = ranked[:TOP], ranked[TOP:]
    if len(rest) > OTHERS:
        raise TableError(
            f"column {name!r} of the reference table has {len(ranked)} words, expected at most {TOP + OTHERS}",
            hint="a word with so many values is no category: send a number, or group them",
            column=name,
        )
    return Categorical(
        name=name,
        datatype=spec.datatype,
        values=tuple(top),
        counts=tuple(found[word] for word in top),
        others=tuple(rest),
        other=sum(found[word] for word in rest),
        missing=len(words) - sum(found.values()),
    )


def _prediction(
    outputs: Sequence[TensorSpec], field: str | None, values: Column, labels: Column | None, threshold: float
) -> Prediction:
    """The profile of the predictions, and their calibration."""
    watched = [spec for spec in outputs if not spec.shape and watchable(spec)]
    spec = next((spec for spec in watched if field in {None, spec.name}), None)
    if spec is None or not len(values):
        names = ", ".join(repr(one.name) for one in watched) or "none"
        what = f"the field {field!r}" if field else "a field that can be watched"
        raise TableError(f"predictions need {what} in the answer and at least one row, got the fields {names}")
    feature = _features(spec, (spec.name,), values)[0]
    if labels is None:
        return Prediction(feature=feature, threshold=threshold)
    if not isinstance(feature, Numeric):
        raise TableError(f"labels calibrate a probability, the prediction {spec.name!r} is a word")
    scores = numbers_of(spec, values)
    if len(labels) != len(scores):
        raise TableError(f"{len(labels)} labels for {len(scores)} predictions, expected as many")
    truth = numbers_of(_LABEL, labels)
    known = ~np.isnan(scores) & ~np.isnan(truth)
    scores, truth = scores[known], truth[known]
    if not len(scores) or not np.isin(truth, (0.0, 1.0)).all() or scores.min() < 0.0 or scores.max() > 1.0:
        raise TableError(
            f"predictions of {spec.name!r} and their labels cannot calibrate it: expected scores from 0 to 1 "
            "and labels that are 0 or 1, at least one of each"
        )
    is_true, is_said = truth == 1.0, scores >= threshold
    outcomes = (is_said & is_true, is_said & ~is_true, ~is_said & is_true, ~is_said & ~is_true)
    tp, fp, fn, tn = (int(one.sum()) for one in outcomes)
    return Prediction(
        feature=feature,
        threshold=threshold,
        calibrator=fit_calibrator(scores, is_true),
        outcomes=(tp, fp, fn, tn),
    )


_LABEL: Final = TensorSpec(name="label", datatype="FP64")


def _carrier(spec: TensorSpec) -> np.dtype[Any]:
    """The float that a number is rounded to on its way through a row."""
    return np.dtype(np.float16) if spec.datatype == "FP16" else compute_dtype(spec.datatype)


def _word(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    inner = getattr(value, "value", value)  # a member of an Enum
    return str(inner)


def _array(name: str, column: Sequence[Any]) -> NDArray[np.float64]:
    """Python values as float64; None and the usual words for it become NaN."""
    try:
        return np.array(column, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.array([_number(name, row, value) for row, value in enumerate(column)], dtype=np.float64)


def _number(name: str, row: int, value: object) -> Any:
    if value is None:
        return math.nan
    if isinstance(value, list | tuple):
        return [_number(name, row, part) for part in value]
    try:
        return float(value)  # type: ignore[arg-type]  # what has no float is refused below
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if isinstance(text, str) and text.strip().lower() in _MISSING:
            return math.nan
        if isinstance(text, str) and text.strip().lower() in {"true", "false"}:
            return float(text.strip().lower() == "true")
    raise TableError(
        f"column {name!r} of the reference table holds {value!r} in row {row}, expected a number",
        column=name,
        row=row,
    )
