"""Reference tables out of files, and calibration: the same columns in every format, mistakes with their line."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from msgspec import Struct

from slipway_bundle import RowCodec
from slipway_bundle.errors import FileError
from slipway_signals.drift import TableError, build_profile, encode_profile, read_table
from slipway_signals.drift.calibration import POINTS, calibrate, fit_calibrator

INCOME = [1.5, None, 3.0, 4.0]
CONTRACT = ["monthly", "yearly", "yearly", "monthly"]


class Row(Struct, frozen=True):
    income: float | None
    calls: int


def write(folder: Path, suffix: str) -> Path:
    """The same table in a format."""
    path = folder / f"table{suffix}"
    calls = [1, 2, 3, 4]
    if suffix == ".csv":
        lines = zip(INCOME, calls, strict=True)
        path.write_text("income,calls\n" + "".join(f"{'' if i is None else i},{c}\n" for i, c in lines))
    elif suffix == ".jsonl":
        path.write_text('{"calls":1,"income":1.5}\n\n{"calls":2}\n{"calls":3,"income":3.0}\n{"income":4,"calls":4}\n')
    elif suffix == ".npz":
        np.savez(path, income=np.array([1.5, np.nan, 3.0, 4.0]), calls=np.array(calls))
    else:
        pa = pytest.importorskip("pyarrow")
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"income": INCOME, "calls": calls}), path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npz", ".parquet"])
def test_every_format_gives_the_same_profile(tmp_path: Path, suffix: str) -> None:
    table = read_table(write(tmp_path, suffix))

    profile = build_profile("m", RowCodec(Row).specs, table)

    expected = build_profile("m", RowCodec(Row).specs, {"income": INCOME, "calls": [1, 2, 3, 4]})
    assert encode_profile(profile) == encode_profile(expected)


def test_nested_objects_are_fields_with_dots(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a":{"b":1,"c":{"d":2}}}\n{"a":{"b":3}}\n')

    assert read_table(path) == {"a.b": [1, 3], "a.c.d": [2, None]}


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("t.xlsx", b"", "expected one of .csv"),
        ("t.csv", b"", "begins with"),
        ("t.csv", b"a,a\n1,2\n", "each once"),
        ("t.csv", b"a,b\n1,2\n3\n", r"t\.csv:3 has 1 values, expected 2"),
        ("t.csv", b'a\n"x\n', "is not CSV"),
        ("t.csv", b"a\n\xff\n", "is not UTF-8"),
        ("t.jsonl", b'{"a":1}\n[2]\n', r"t\.jsonl:2 is not a JSON object"),
        ("t.jsonl", b'{"a":' * 100_000, r"t\.jsonl:1 is not a JSON object"),
        ("t.npz", b"PK\x03\x04 nothing", "is not a NumPy archive|cannot be read|zip"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)

    with pytest.raises(TableError, match=said):
        read_table(tmp_path / name)


def test_a_pickle_in_a_numpy_file_is_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", a=np.array([{"x": 1}], dtype=object))

    with pytest.raises(TableError, match="arrays of objects are pickles"):
        read_table(tmp_path / "t.npz")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.csv"):
        read_table(tmp_path / "none.csv")


@given(
    scores=arrays.arrays(np.float64, st.integers(1, 300), elements=st.floats(0, 1)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_calibrator_ascends_is_short_and_keeps_the_mean(scores: np.ndarray, seed: int) -> None:
    labels = np.random.default_rng(seed).random(len(scores)) < scores

    calibrator = fit_calibrator(scores, labels)

    assert calibrator.problem() is None
    assert len(calibrator.scores) <= POINTS
    probabilities = calibrate(calibrator, scores)
    assert probabilities.min() >= 0.0
    assert probabilities.max() <= 1.0
    order = np.argsort(scores)
    assert (np.diff(probabilities[order]) >= -1e-12).all()


def test_scores_that_are_neighbours_never_round_to_one() -> None:
    """40 neighbouring floats, pooled to fewer: two weighted means of such can be the same number."""
    draw = np.random.default_rng(444)
    counts = draw.integers(50, 400, 40)
    scores = np.repeat(0.5 + np.arange(40) * np.spacing(0.5), counts)
    labels = np.concatenate([np.arange(n) < round(n * (at + 1) / 41) for at, n in enumerate(counts.tolist())])

    assert fit_calibrator(scores, labels).problem() is None


def test_a_skewed_score_becomes_the_probability_that_it_stands_for() -> None:
    draw = np.random.default_rng(3)
    scores = draw.random(20_000)
    calibrator = fit_calibrator(scores, draw.random(20_000) < scores**3)
    at = np.linspace(0.05, 0.95, 19)

    found = calibrate(calibrator, at)

    assert np.abs(found - at**3).max() < 0.05


def test_isotonic_fit_is_scikit_learns() -> None:
    isotonic = pytest.importorskip("sklearn.isotonic")
    draw = np.random.default_rng(4)
    scores = np.round(draw.random(25), 2)
    labels = draw.random(25) < scores
    exact = isotonic.IsotonicRegression(out_of_bounds="clip").fit(scores, labels)

    calibrator = fit_calibrator(scores, labels)

    assert list(calibrator.probabilities) == pytest.approx(sorted(set(np.round(exact.predict(scores), 12))), abs=1e-9)


def test_without_a_calibrator_scores_are_probabilities() -> None:
    assert calibrate(None, np.array([-1.0, 0.25, 3.0])).tolist() == [0.0, 0.25, 1.0]
    assert not math.isnan(calibrate(None, np.array([0.5]))[0])
