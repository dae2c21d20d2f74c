"""Offering: what is chosen, what reaches the disk under which policy, and what happens when the values are bad."""

import math
import secrets
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from capture_fakes import NOW, Capturing, Customer, Risk, files_with
from msgspec import Struct

from slipway_bundle import F32, Shape
from slipway_bundle.redaction import Redact
from slipway_signals.capture import CapturedModel, ModelCapture
from slipway_signals.capture.errors import CaptureConfigError
from slipway_signals.capture.sampling import is_sampled, threshold_of


def test_what_was_offered_is_in_parquet_under_its_policy(tmp_path: Path) -> None:
    capturing = Capturing(tmp_path / "capture")
    capturing.log.start()

    capturing.offer("r1", subject="c-1042", trace_id="ab" * 16)
    (row,) = capturing.close().rows()

    pseudonyms = [row.pop(name) for name in ("subject_key", "features.email.hash")]
    assert all(len(name) == len("k1:") + 32 for name in pseudonyms)
    assert row.pop("ts").timestamp() == NOW
    assert row == {
        "request_id": "r1",
        "trace_id": "ab" * 16,
        "status": 200,
        "latency_s": 0.004,
        "kept": "sample",
        "sample_weight": 1.0,
        "is_cut": False,
        "features.tenure": 12.0,
        "features.calls": 3,
        "features.income": None,
        "features.contract": "monthly",
        "features.comment.length": 36,
        "features.card.masked": "****1111",
        "features.age.bucket": 30.0,
        "features.tags.length": [9, 10],
        "features.amounts": [1.5, 2.5],
        "features.note": "kept",
        "prediction.probability": 0.3,
        "prediction.label": "stays",
    }
    assert capturing.counts() == {"written": 1}


def test_no_free_text_reaches_the_disk_not_even_for_a_moment(tmp_path: Path) -> None:
    """The segment is read before it is compacted: redaction comes first."""
    capturing = Capturing(tmp_path / "capture")
    capturing.offer("r1", subject="c-1042")

    capturing.close()

    assert len(list((tmp_path / "capture" / "closed").iterdir())) == 1
    assert not files_with(tmp_path / "capture", "Alice", "alice@", "hunter2", "41111", "c-1042", "first tag")
    assert files_with(tmp_path / "capture", "****1111")


def test_a_text_in_the_place_of_a_number_is_refused_not_stored(tmp_path: Path) -> None:
    """A Struct's constructor checks no types, and numbers are kept by default."""
    capturing = Capturing(tmp_path / "capture")
    row: Any = Customer()
    row.tenure, other = "a secret", Customer()
    other.contract = "a secret"  # type: ignore[assignment]

    capturing.offer("r1", row)
    capturing.offer("r2", other)
    capturing.offer("r3")

    capturing.close()
    assert capturing.counts() == {"written": 1, "failed": 2}
    assert not files_with(tmp_path / "capture", "a secret")


def test_equal_subjects_have_equal_pseudonyms_in_every_process(tmp_path: Path) -> None:
    one, two = Capturing(tmp_path / "capture"), Capturing(tmp_path / "capture")
    one.offer("r1", subject="alice")
    two.offer("r2", subject="alice")
    two.offer("r3", subject="bob")

    one.close()
    rows = {row["request_id"]: row["subject_key"] for row in two.close().rows()}

    assert rows["r1"] == rows["r2"] != rows["r3"]


@pytest.mark.parametrize("shape", ["req-{}", "{:032x}", "{}"])
def test_the_sample_is_as_large_as_its_rate_and_a_lower_rate_is_part_of_it(shape: str) -> None:
    ids = [shape.format(number) for number in range(100_000)]

    small, large = ({one for one in ids if is_sampled(one, threshold_of(rate))} for rate in (0.01, 0.05))

    assert len(small) == pytest.approx(1_000, rel=0.2)
    assert len(large) == pytest.approx(5_000, rel=0.1)
    assert small < large


def test_the_ends_of_the_rate_are_exact() -> None:
    ids = [secrets.token_hex(8) for _ in range(1_000)]

    assert not any(is_sampled(one, threshold_of(0.0)) for one in ids)
    assert all(is_sampled(one, threshold_of(1.0)) for one in ids)


def test_errors_and_unsure_answers_are_kept_and_say_what_they_stand_for(tmp_path: Path) -> None:
    models = {"churn": ModelCapture(score="probability", unsure=0.1)}
    capturing = Capturing(tmp_path / "capture", rate=0.5, models=models)
    inside = next(f"r{n}" for n in range(100) if is_sampled(f"r{n}", threshold_of(0.5)))
    outside = next(f"r{n}" for n in range(100) if not is_sampled(f"r{n}", threshold_of(0.5)))

    capturing.offer(inside)
    capturing.offer(outside)
    capturing.offer(outside + "e", status=503)
    capturing.offer(outside, answer=Risk(0.55))
    capturing.offer(outside, answer=Risk(None))  # type: ignore[arg-type]
    rows = [(row["kept"], row["sample_weight"]) for row in capturing.close().rows()]

    kept_error = "sample" if is_sampled(outside + "e", threshold_of(0.5)) else "error"
    assert rows == [("sample", 2.0), (kept_error, 1.0), ("unsure", 1.0)]
    assert capturing.counts() == {"written": 3, "sampled_out": 2}


def test_a_full_ring_drops_the_newest_and_counts_them(tmp_path: Path) -> None:
    capturing = Capturing(tmp_path / "capture", ring_records=10)

    for number in range(25):
        capturing.offer(f"r{number}")

    assert capturing.counts() == {"dropped": 15}
    assert [row["request_id"] for row in capturing.close().rows()] == [f"r{number}" for number in range(10)]


def test_the_ring_is_bounded_by_bytes_too(tmp_path: Path) -> None:
    capturing = Capturing(tmp_path / "capture", ring_bytes=25_000_000)

    for number in range(5):
        capturing.offer(f"r{number}", Customer(comment="x" * 10_000_000))

    assert capturing.counts() == {"dropped": 3}
    assert [row["features.comment.length"] for row in capturing.close().rows()] == [10_000_000] * 2


def test_a_row_of_ten_megabytes_is_cut_and_says_so(tmp_path: Path) -> None:
    capturing = Capturing(tmp_path / "capture")

    capturing.offer("long", Customer(note="x" * 10_000_000))
    capturing.offer("many", Customer(amounts=[0.5] * 1_000_000, tags=["t"] * 1_000_000))
    rows = {row["request_id"]: row for row in capturing.close().rows()}

    assert len(rows["long"]["features.note"]) == 65_536
    assert len(rows["many"]["features.amounts"]) == len(rows["many"]["features.tags.length"]) == 4_096
    assert rows["long"]["is_cut"]
    assert rows["many"]["is_cut"]


def test_odd_values_are_stored_or_counted_and_harm_no_other(tmp_path: Path) -> None:
    capturing = Capturing(tmp_path / "capture")

    capturing.offer("nan", Customer(tenure=math.nan, amounts=[math.inf]), Risk(math.nan))
    capturing.offer("surrogate \udcff", Customer(note="\ud800", comment="\udcff"), subject="\udcff")
    capturing.offer("large", Customer(calls=1 << 70))
    capturing.offer("long id " + "x" * 10_000)
    capturing.offer("no row", Customer(), now=math.nan)
    capturing.offer("far", now=1e18)
    capturing.offer("before 1970", now=-5.0)
    rows = {row["request_id"]: row for row in capturing.close().rows()}

    assert math.isnan(rows["nan"]["features.tenure"])
    assert math.isnan(rows["nan"]["prediction.probability"])
    assert rows["surrogate ?"]["features.note"] == "?"
    assert rows["large"]["features.calls"] is None
    assert rows["large"]["is_cut"]
    assert max(map(len, rows)) == 256
    assert capturing.counts() == {"written": 4, "failed": 3}


def test_offer_never_raises(tmp_path: Path) -> None:
    capturing = Capturing(tmp_path / "capture")

    capturing.log.offer("churn", None, None, None, None, 200, 0.1, None, NOW)  # type: ignore[arg-type]
    capturing.log.offer("no such model", "r1", None, None, None, 200, 0.1, None, NOW)
    capturing.offer("r2")

    assert capturing.counts() == {"dropped": 1}
    assert [row["request_id"] for row in capturing.close().rows()] == ["r2"]


def test_a_kept_array_is_copied_because_its_memory_is_used_again(tmp_path: Path) -> None:
    class Picture(Struct, eq=False):
        vector: Annotated[F32, Shape(3), Redact("keep")]
        pixels: Annotated[F32, Shape(3)]

    capturing = Capturing(tmp_path / "capture", CapturedModel(name="see", version="1", takes=Picture, gives=Risk))
    shared = np.ones(3, np.float32)

    capturing.offer("r1", Picture(shared, shared), model="see")
    shared[:] = 7.0
    (row,) = capturing.close().rows()

    assert row["features.vector"] == [1.0, 1.0, 1.0]
    assert row["features.pixels.length"] == 3


def test_two_models_and_two_versions_have_files_of_their_own(tmp_path: Path) -> None:
    capturing = Capturing(
        tmp_path / "capture",
        CapturedModel(name="a", version="1", takes=Customer, gives=Risk),
        CapturedModel(name="b", version="1", takes=Risk, gives=float),
    )
    capturing.offer("r1", model="a")
    capturing.offer("r2", Risk(), 0.25, model="b")

    rows = capturing.close().rows()

    assert [row["request_id"] for row in rows] == ["r1", "r2"]
    assert rows[1]["prediction.value"] == 0.25
    assert "features.email.hash" not in rows[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"models": {"churm": ModelCapture()}}, "`runtime.capture.models.churm` is no model"),
        ({"models": {"churn": ModelCapture(score="probabilty")}}, "'probabilty', expected a field"),
        ({"models": {"churn": ModelCapture(score="label")}}, "which is a choice"),
        ({"subject_field": "customer"}, "`runtime.capture.subject_field` is 'customer'"),
        ({"subject_field": "calls"}, "expected a field that is hashed or dropped"),
    ],
)
def test_a_field_that_is_not_there_is_refused_at_the_start(tmp_path: Path, settings: Any, words: str) -> None:
    with pytest.raises(CaptureConfigError) as raised:
        Capturing(tmp_path / "capture", **settings)

    assert words in raised.value.message


def test_the_subject_can_be_a_field_of_the_row(tmp_path: Path) -> None:
    capturing = Capturing(tmp_path / "capture", subject_field="email")
    capturing.offer("r1")

    (row,) = capturing.close().rows()

    assert row["subject_key"] == row["features.email.hash"]
