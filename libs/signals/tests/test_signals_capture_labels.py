"""Labels: each counts once, whoever tells it how often; what cannot be counted is named."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
import pytest
from capture_fakes import DAY_S, NOW, Capturing, Customer, Risk
from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from slipway_signals.capture import CaptureConfig, CapturedModel, ModelCapture
from slipway_signals.capture.compact import compact
from slipway_signals.capture.errors import LabelFileError
from slipway_signals.capture.label_state import LabelsCollector
from slipway_signals.capture.labels import IngestReport, ingest
from slipway_signals.capture.outcomes import BadLabelError, outcome_of
from slipway_signals.capture.records import Judge
from slipway_signals.capture.sampling import is_sampled, threshold_of

Line = tuple[str, object, object]


def capture(folder: Path, *requests: str, **given: Any) -> None:
    """Captured requests whose score is 0.9, a positive prediction."""
    settings = {name: given.pop(name) for name in ("rate", "models") if name in given}
    capturing = Capturing(folder, **settings)
    for request in requests:
        capturing.offer(request, answer=Risk(given.pop("score", 0.9)), **given)
    capturing.close()


def told(folder: Path, *lines: Line, now: float = NOW) -> IngestReport:
    """Ingest these (request, label, observed) lines from a JSON lines file."""
    file = folder.parent / "labels.jsonl"
    names = ("request_id", "label", "observed_at")
    file.write_text("".join(json.dumps(dict(zip(names, line, strict=True))) + "\n" for line in lines))
    return ingest(folder, file, now)


def samples(folder: Path) -> dict[tuple[str, str], float]:
    """(metric, outcome or bucket or days) → value, as the admin port shows it."""
    registry = CollectorRegistry()
    registry.register(LabelsCollector(lambda: [folder]))
    text = generate_latest(registry).decode()
    return {
        (sample.name, sample.labels.get("outcome") or sample.labels.get("le") or sample.labels.get("days") or ""): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_same_label_twice_counts_once(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    capture(folder, "r1", "r2")

    first = told(folder, ("r1", 1, NOW + 60), ("r2", 0, NOW + 60), ("r1", 1, NOW + 60))
    second = told(folder, ("r1", 1, NOW + 60), ("r2", 0, NOW + 60), ("r1", 1, NOW + 90))

    assert (first.new, first.again) == (2, 1)
    assert (second.new, second.again) == (0, 3)
    shown = samples(folder)
    assert shown["slipway_prediction_realized_total", "tp"] == 1
    assert shown["slipway_prediction_realized_total", "fp"] == 1
    assert shown["slipway_label_coverage_ratio", "7"] == 1.0


def test_a_later_label_corrects_and_no_counter_falls(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    capture(folder, "r1")
    told(folder, ("r1", 1, NOW + 60))

    report = told(folder, ("r1", 0, NOW + 120), ("r1", 1, NOW + 60))

    assert (report.corrected, report.outdated) == (1, 1)
    assert report.cohorts[0].outcomes == {"fp": 1}
    shown = samples(folder)
    realized = {name: shown["slipway_prediction_realized_total", name] for name in ("tp", "fp")}
    assert realized == {"tp": 1, "fp": 1}
    assert shown["slipway_prediction_retracted_total", "fp"] == 0
    assert shown["slipway_prediction_retracted_total", "tp"] == 1
    assert shown["slipway_label_lag_seconds_count", ""] == 1


def test_two_labels_at_the_same_time_contradict_and_the_first_stays(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    capture(folder, "r1")

    for _ in range(2):
        report = told(folder, ("r1", 1, NOW + 60), ("r1", 0, NOW + 60))
        assert [bad.line for bad in report.bad_lines] == [2]

    assert samples(folder)["slipway_prediction_realized_total", "tp"] == 1


def test_every_line_ends_in_one_number(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    models = {"churn": ModelCapture(score="probability")}
    threshold = threshold_of(0.5)
    inside = [f"r{n}" for n in range(40) if is_sampled(f"r{n}", threshold)]
    outside = next(f"r{n}" for n in range(40) if not is_sampled(f"r{n}", threshold))
    capture(folder, *inside[:3], rate=0.5, models=models)
    failing = Capturing(folder, rate=0.5, models=models)
    failing.log.offer("churn", inside[3], None, Customer(), None, 500, 0.1, None, NOW)
    failing.close()

    report = told(
        folder,
        (inside[0], 1, NOW + 60),
        (inside[1], 1, NOW + 31 * DAY_S),
        (inside[2], 1, NOW - 60),
        (inside[3], 1, NOW),
        (inside[4], 1, NOW),
        (outside, 1, NOW),
        (inside[0], "perhaps", NOW),
    )

    assert (report.new, report.late, report.early) == (3, 1, 1)
    assert (report.unanswered, report.waiting, report.sampled_out, report.bad) == (1, 1, 1, 1)
    assert report.lines == 7
    assert "neither true nor false" in report.bad_lines[0].problem


def test_a_label_that_came_before_its_request_was_packed_is_counted_later(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    capture(folder, "r1")

    early = told(folder, ("r2", 1, NOW + 60))
    capture(folder, "r2")
    later = told(folder, ("r1", 0, NOW + 60))

    assert early.waiting == 1
    assert (later.new, later.found_later) == (1, 1)
    assert told(folder).found_later == 0
    assert samples(folder)["slipway_prediction_realized_total", "tp"] == 1


def test_only_the_sample_counts_to_outcomes(tmp_path: Path) -> None:
    """Unsure answers that were always kept would make every model look worse than it is."""
    folder = tmp_path / "capture"
    models = {"churn": ModelCapture(score="probability", unsure=0.2)}
    unsure = [f"u{n}" for n in range(50) if not is_sampled(f"u{n}", threshold_of(0.1))]
    capturing = Capturing(folder, rate=0.1, models=models)
    for request in unsure:
        capturing.offer(request, answer=Risk(0.45))
    capturing.close()

    report = told(folder, *((request, 1, NOW + 1) for request in unsure))

    assert report.new == len(unsure)
    assert all(cohort.outcomes == {} for cohort in report.cohorts)


def test_of_two_requests_with_one_id_the_first_is_meant(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    capture(folder, "r1", score=0.1, now=NOW + 60)
    capture(folder, "r1", score=0.9, now=NOW)

    report = told(folder, ("r1", 1, NOW + 90))

    assert report.cohorts[0].outcomes == {"tp": 1}


@pytest.mark.parametrize(
    ("judge", "prediction", "label", "outcome"),
    [
        (Judge(column="p", kind="score"), 0.5, "1", "tp"),
        (Judge(column="p", kind="score"), 0.49, "Yes", "fn"),
        (Judge(column="p", kind="score"), 0.7, "false", "fp"),
        (Judge(column="p", kind="score", threshold=0.8), 0.7, "0", "tn"),
        (Judge(column="c", kind="choice"), "stays", "stays", "correct"),
        (Judge(column="c", kind="choice"), "stays", "leaves", "wrong"),
        (Judge(column="c", kind="choice"), True, "1", "correct"),
        (Judge(column="n", kind="number", tolerance=0.5), 2.0, "2.5", "correct"),
        (Judge(column="n", kind="number", tolerance=0.5), 2.0, "2.6", "wrong"),
    ],
)
def test_outcomes(judge: Judge, prediction: object, label: str, outcome: str) -> None:
    assert outcome_of(judge, prediction, label) == outcome


@pytest.mark.parametrize(("kind", "label"), [("score", "maybe"), ("number", "two"), ("number", "nan")])
def test_a_label_of_the_wrong_kind_is_no_outcome(kind: Literal["score", "number"], label: str) -> None:
    with pytest.raises(BadLabelError, match=repr(label)):
        outcome_of(Judge(column="x", kind=kind), 1.0, label)


def test_a_choice_and_an_integer_are_judged_too(tmp_path: Path) -> None:
    class Picture(Struct):
        size: int

    class Found(Struct):
        kind: Literal["cat", "dog"]

    folder = tmp_path / "capture"
    seen = CapturedModel(name="see", version="1", takes=Picture, gives=Found)
    capturing = Capturing(folder, seen, models={"see": ModelCapture(choice="kind")})
    capturing.offer("r1", Picture(1), Found("cat"), model="see")
    capturing.close()

    assert told(folder, ("r1", "dog", NOW)).cohorts[0].outcomes == {"wrong": 1}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_three_kinds_of_file_say_the_same(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "capture"
    capture(folder, "r1", "r2")
    file = tmp_path / f"labels{suffix}"
    at = datetime.fromtimestamp(NOW + 60, UTC)
    if suffix == ".csv":
        with file.open("w", newline="") as opened:
            csv.writer(opened).writerows(
                [("label", "request_id", "observed_at"), (1, "r1", at.isoformat()), ("0", "r2", NOW)]
            )
    elif suffix == ".jsonl":
        file.write_text(
            f'{{"request_id":"r1","label":true,"observed_at":"{at:%Y-%m-%dT%H:%M:%SZ}"}}\n\n'
            f'{{"request_id":"r2","label":0,"observed_at":{NOW}}}\n'
        )
    else:
        pq.write_table(pa.table({"request_id": ["r1", "r2"], "label": [True, False], "observed_at": [at, at]}), file)

    report = ingest(folder, file, NOW)

    assert (report.lines, report.new, report.bad_lines) == (2, 2, [])
    assert report.cohorts[0].outcomes == {"tp": 1, "fp": 1}


def test_bad_lines_are_named_and_the_others_counted(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    capture(folder, "r1", "r2")
    file = tmp_path / "labels.csv"
    file.write_bytes(
        b"request_id,label,observed_at\n"
        b"r1,1,1795284060\n"
        b",1,1795284060\n"
        b"r2,,1795284060\n"
        b"r2,1,yesterday\n"
        b"r2,1,2026-11-21T18:00:00\n"
        b"r2\xff,1,1795284060\n"
        b"r2,1,nan\n"
        b"r2,1,1795284060,what,is,this\n"
        b"r2\n"
        b"r2,0,1795284060\n"
    )

    report = ingest(folder, file, NOW)

    assert report.new == 2
    assert [bad.line for bad in report.bad_lines] == list(range(3, 11))
    problems = {bad.line: bad.problem for bad in report.bad_lines}
    assert "request_id ''" in problems[3]
    assert "label ''" in problems[4]
    assert "expected seconds" in problems[5]
    assert "no time zone" in problems[6]
    assert "UTF-8" in problems[7]
    assert "more cells" in problems[9]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("labels.xlsx", b"", "ends with '.xlsx'"),
        ("labels.csv", b"", "has no column 'request_id'"),
        ("labels.csv", b"request_id,label\n", "has no column 'observed_at'"),
        ("labels.parquet", b"no parquet", "is no Parquet file"),
        ("missing.csv", None, "No such file"),
    ],
)
def test_a_file_that_is_no_table_is_refused_and_nothing_is_counted(
    tmp_path: Path, name: str, data: bytes | None, words: str
) -> None:
    folder = tmp_path / "capture"
    capture(folder, "r1")
    if data is not None:
        (tmp_path / name).write_bytes(data)

    with pytest.raises(LabelFileError) as raised:
        ingest(folder, tmp_path / name, NOW)

    assert words in raised.value.message


def test_totals_outlive_the_predictions_that_they_count(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    capture(folder, "r1")
    told(folder, ("r1", 1, NOW + 60))
    before = samples(folder)["slipway_prediction_realized_total", "tp"]

    compact(folder, CaptureConfig(retention_days=1), NOW + 3 * DAY_S)
    again = told(folder, ("r1", 1, NOW + 60), now=NOW + 3 * DAY_S)

    assert again.cohorts == []
    assert again.waiting == 1
    assert samples(folder)["slipway_prediction_realized_total", "tp"] == before == 1


def test_outcomes_are_there_at_zero_before_the_first_label(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    capture(folder, "r1")

    compact(folder, CaptureConfig(), NOW)

    shown = samples(folder)
    assert {name: shown["slipway_prediction_realized_total", name] for name in ("tp", "fp", "fn", "tn")} == {
        "tp": 0,
        "fp": 0,
        "fn": 0,
        "tn": 0,
    }
    assert shown["slipway_label_coverage_ratio", "7"] == 0


def test_a_missing_or_damaged_state_hides_no_other_metric(tmp_path: Path) -> None:
    assert samples(tmp_path / "nothing") == {}

    (tmp_path / "labels.prom").write_bytes(b'slipway_label{"')

    assert samples(tmp_path) == {}
