"""The reference profile: what it says of a sample, hostile ones among them, and that it is read back strictly."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct, defstruct

from slipway_bundle import ModelSchema, RowCodec
from slipway_bundle.errors import FileError
from slipway_signals.drift import (
    ProfileError,
    TableError,
    build_profile,
    decode_profile,
    encode_profile,
    judge_reference,
    load_profile,
)
from slipway_signals.drift.building import Column
from slipway_signals.drift.profile import Categorical, Numeric, Profile


class Customer(Struct, frozen=True, kw_only=True):
    income: float | None
    calls: int
    contract: Literal["monthly", "yearly", "never"]
    is_new: bool
    place: Annotated[list[float], Meta(min_length=2, max_length=2)]
    note: str


class Risk(Struct, frozen=True):
    probability: float


INPUTS = RowCodec(Customer).specs
OUTPUTS = RowCodec(Risk).specs
TABLE: dict[str, Any] = {
    "income": [1.0, 2.0, None, 4.0, math.nan, 6.0],
    "calls": [0, 0, 0, 1, 2, 3],
    "contract": ["monthly", "yearly", "monthly", "monthly", "yearly", "monthly"],
    "is_new": [True, False, "false", 0, 1.0, "True"],
    "place": [[0.0, 1.0]] * 6,
}


def numbers(values: Column, row: type[Struct] | None = None) -> Numeric:
    """The profile of one column of numbers."""
    codec = RowCodec(row or defstruct("Row", [("x", float)]))
    feature = build_profile("m", codec.specs, {"x": values}).features[0]
    assert isinstance(feature, Numeric)
    return feature


def test_a_profile_says_what_the_sample_looked_like() -> None:
    profile = build_profile("churn", INPUTS, TABLE)

    income, calls, contract, is_new, first, second = profile.features
    assert isinstance(income, Numeric)
    assert (income.low, income.high, income.missing, sum(income.counts)) == (1.0, 6.0, 2, 4)
    assert isinstance(calls, Numeric)
    assert (calls.cuts, calls.counts) == ((0.0, 1.0, 2.0), (3, 1, 1, 1))
    assert isinstance(contract, Categorical)
    assert dict(zip(contract.bins, contract.bin_counts, strict=True)) == {
        "monthly": 4, "yearly": 2, "other": 0, "unseen": 0, "missing": 0
    }  # fmt: skip
    assert isinstance(is_new, Categorical)
    assert dict(zip(is_new.values, is_new.counts, strict=True)) == {"false": 3, "true": 3}
    assert (first.name, second.name) == ("place[0]", "place[1]")
    assert profile.unwatched == ("note",)
    assert profile.rows == 6


def test_bins_hold_a_tenth_of_the_sample_each() -> None:
    feature = numbers(np.random.default_rng(1).normal(size=10_000))

    assert feature.bins == ("low", *(f"b{n:02d}" for n in range(1, 11)), "high", "missing")
    assert feature.counts == (1_000,) * 10


@pytest.mark.parametrize(
    ("values", "cuts", "counts", "missing"),
    [
        ([7.0] * 50, (), (50,), 0),
        ([7.0], (), (1,), 0),
        ([None, math.nan, math.inf, -math.inf, "", 1e300, 10**400], (), (), 7),
        ([0.0] * 90 + list(range(1, 11)), (0.0,), (90, 10), 0),
        ([-0.0, 0.0], (), (2,), 0),
        (["1", "2.5", "NaN", "null"], (1.0,), (1, 1), 2),
    ],
    ids=["constant", "one row", "all missing", "heavy ties", "minus zero", "text"],
)
def test_a_hostile_column_has_a_profile(
    values: list[Any], cuts: tuple[float, ...], counts: tuple[int, ...], missing: int
) -> None:
    feature = numbers(values)

    assert (feature.cuts, feature.counts, feature.missing) == (cuts, counts, missing)
    profile = Profile(schema_version="1.0", model="m", rows=len(values), features=(feature,))
    assert decode_profile(encode_profile(profile)) == profile


def test_huge_integers_keep_their_order() -> None:
    feature = numbers([2**62 - 1, -(2**62), 0, 2**70], defstruct("Row", [("x", int)]))

    assert (feature.low, feature.high, sum(feature.counts)) == (-(2.0**62), 2.0**70, 4)
    profile = Profile(schema_version="1.0", model="m", rows=4, features=(feature,))
    assert decode_profile(encode_profile(profile)) == profile


@given(st.lists(st.none() | st.floats(width=32), min_size=1, max_size=200))
def test_every_row_is_in_one_bin_and_bounds_are_exact_in_the_rows_type(values: list[float | None]) -> None:
    feature = numbers(values)

    assert sum(feature.bin_counts) == len(values)
    assert feature.problem() is None
    finite = [value for value in values if value is not None and math.isfinite(value)]
    assert feature.missing == len(values) - len(finite)
    if finite:
        assert feature.high is not None
        bounds = (*feature.cuts, feature.high)
        assert all(float(np.float32(bound)) == bound for bound in bounds)
        below = [sum(value <= bound for value in finite) for bound in bounds]
        assert np.diff([0, *below]).tolist() == list(feature.counts)


def test_the_order_of_the_rows_does_not_matter() -> None:
    draw = np.random.default_rng(3)
    order = draw.permutation(6)
    shuffled = {name: [values[at] for at in order] for name, values in TABLE.items()}

    assert encode_profile(build_profile("m", INPUTS, shuffled)) == encode_profile(build_profile("m", INPUTS, TABLE))


def test_fifty_features_are_less_than_64_kb() -> None:
    draw = np.random.default_rng(4)
    row = defstruct("Row", [(f"a_rather_long_feature_name_{n}", float) for n in range(50)])
    specs = RowCodec(row, floats="FP64").specs
    table = {spec.name: draw.lognormal(10, 3, 5_000) for spec in specs}

    data = encode_profile(build_profile("m", specs, table))

    assert len(data) < 64_000


def test_rare_words_are_other_and_the_most_important_come_first() -> None:
    words = tuple(f"w{n:02d}" for n in range(20))
    row = defstruct("Row", [("x", float), ("word", Literal[words])])
    sample = [word for n, word in enumerate(words[:15]) for _ in range(15 - n)]
    table: dict[str, Column] = {"x": [1.0] * len(sample), "word": sample}

    profile = build_profile("m", RowCodec(row).specs, table, importance={"word": 2.0, "x": 1.0})

    word = profile.features[0]
    assert isinstance(word, Categorical)
    assert word.values == words[:10]
    assert (word.others, word.other) == (words[10:15], 15)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"contract": ["weekly"] * 6}, "column 'contract' of the reference table holds 'weekly' in row 0"),
        ({"calls": [0, 1, "many", 3, 4, 5]}, "column 'calls' of the reference table holds 'many' in row 2"),
        ({"income": [1.0]}, "has 6 values, expected 1"),
        ({"place": [[1.0]] * 6}, "expected \\[2\\]"),
    ],
    ids=["a word", "a number", "a length", "a shape"],
)
def test_a_table_that_is_not_one_of_the_rows_is_refused(column: dict[str, Any], said: str) -> None:
    with pytest.raises(TableError, match=said):
        build_profile("churn", INPUTS, {**TABLE, **column})


def test_a_missing_column_is_named() -> None:
    table = {name: values for name, values in TABLE.items() if name != "calls"}

    with pytest.raises(TableError, match="has no column 'calls'"):
        build_profile("churn", INPUTS, table)


def test_a_model_whose_inputs_have_no_bins_has_a_profile_of_its_predictions() -> None:
    inputs = RowCodec(defstruct("Note", [("note", str)])).specs

    profile = build_profile("m", inputs, {}, outputs=OUTPUTS, predictions=[0.1, 0.9, None])

    assert (profile.rows, profile.features, profile.unwatched) == (3, (), ("note",))
    assert profile.prediction is not None
    assert profile.prediction.rows == 3
    assert decode_profile(encode_profile(profile)) == profile
    nothing: tuple[list[float] | None, ...] = ([], None)
    for predictions in nothing:
        with pytest.raises(TableError, match="at least one"):
            build_profile("m", inputs, {}, outputs=OUTPUTS, predictions=predictions)


def test_a_category_called_like_a_bin_keeps_a_label_of_its_own() -> None:
    feature = Categorical(
        name="x", datatype="BYTES", values=("other", "", "x" * 60, "x" * 60 + "y"), counts=(1, 1, 1, 1)
    )

    assert feature.bins[:4] == ("other~2", "(empty)", "x" * 48, "x" * 48 + "~2")
    assert len(set(feature.bins)) == len(feature.bins)


def profiled() -> Profile:
    scores = np.linspace(0.05, 0.95, 400)
    labels = np.random.default_rng(5).random(400) < scores**2
    return build_profile("churn", INPUTS, TABLE, outputs=OUTPUTS, predictions=scores, labels=labels)


def test_predictions_and_labels_make_a_calibrator_of_at_most_32_points() -> None:
    prediction = profiled().prediction

    assert prediction is not None
    assert prediction.rows == 400
    assert prediction.outcomes is not None
    assert sum(prediction.outcomes) == 400
    calibrator = prediction.calibrator
    assert calibrator is not None
    assert len(calibrator.scores) <= 32
    assert calibrator.problem() is None
    middle = np.interp(0.5, calibrator.scores, calibrator.probabilities)
    assert middle == pytest.approx(0.25, abs=0.12)


def change(**fields: object) -> bytes:
    """A good profile with one thing wrong."""
    document = json.loads(encode_profile(profiled()))
    for path, value in fields.items():
        at: Any = document
        *parts, last = path.split("__")
        for part in parts:
            at = at[int(part[1:])] if part[0] == "i" and part[1:].isdigit() else at[part]
        at[last] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not a reference profile"),
        (b"{", "is not a reference profile"),
        (b"\xff\xfe", "is not a reference profile"),
        (b"[" * 100_000, "is not a reference profile"),
        (change(schemaVersion="2.0"), "has version '2.0'"),
        (change(rows=0), "rows"),
        (change(rows=7), "feature 'income' counts 6 rows, expected 7"),
        (change(features__i0__cuts=[5.0, 2.0, 4.0]), "expected ascending ones"),
        (change(features__i0__low=None), "bins without a range"),
        (change(features__i1__counts=[6]), "1 counts for 4 bins"),
        (change(features__i1__name="income"), "has a feature twice"),
        (change(features__i2__values=["monthly", "monthly"]), "a value twice"),
        (change(features__i2__other=3), "3 other rows without their values"),
        (change(prediction__calibrator__scores=[0.5, 0.1]), "probabilities"),
        (change(prediction__calibrator={"scores": [0.1, 0.2], "probabilities": [0.9, 0.1]}), "that descend"),
        (change(prediction__calibrator={"scores": [0.2, 0.2], "probabilities": [0.1, 0.1]}), "do not ascend"),
        (b" " * (2**20 + 1), "is too long"),
    ],
)
def test_what_contradicts_itself_is_no_profile(data: bytes, said: str) -> None:
    with pytest.raises(ProfileError, match=said):
        decode_profile(data)


def test_a_field_of_a_newer_minor_version_is_accepted() -> None:
    profile = profiled()

    assert decode_profile(change(schemaVersion="1.7", novelty=3)) == msgspec.structs.replace(
        profile, schema_version="1.7"
    )


def test_a_profile_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_bytes(encode_profile(profiled()))

    assert load_profile(tmp_path / "reference.json") == profiled()
    with pytest.raises(FileError, match=r"none\.json"):
        load_profile(tmp_path / "none.json")


def test_a_profile_of_another_row_does_not_fit() -> None:
    data = encode_profile(profiled())
    other = RowCodec(defstruct("Other", [("income", float), ("calls", float)])).specs
    narrow = RowCodec(defstruct("Narrow", [("contract", Literal["monthly"])])).specs

    judge_reference("churn", data, ModelSchema(inputs=INPUTS, outputs=OUTPUTS))
    with pytest.raises(ProfileError, match="has 'calls' as INT64, the model's row as FP32"):
        judge_reference("churn", data, ModelSchema(inputs=other, outputs=OUTPUTS))
    with pytest.raises(ProfileError, match="has the feature 'income', the model's row has contract"):
        judge_reference("churn", data, ModelSchema(inputs=narrow, outputs=OUTPUTS))
    with pytest.raises(ProfileError, match="has the feature 'probability', the model's answer has"):
        judge_reference("churn", data, ModelSchema(inputs=INPUTS, outputs=narrow))
    with pytest.raises(ProfileError, match="is that of 'churn'"):
        judge_reference("fraud", data, ModelSchema(inputs=INPUTS, outputs=OUTPUTS))
