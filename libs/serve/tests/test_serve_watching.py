"""What a served service remembers of its rows: bins of drift, captured requests; and what it leaves alone."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families
from serve_folders import write_minimal
from serve_process import Served, serving

from slipway_bundle import RowCodec
from slipway_runtime import Answer
from slipway_serve.lane import Outputs
from slipway_serve.watching import RowWatch, Watching
from slipway_signals.drift import DriftCounters, build_profile, encode_profile


class Customer(Struct):
    """The row of the minimal service."""

    tenure_days: float
    mean_charge: float | None


class Risk(Struct):
    """Its answer."""

    probability: float


ROW = {"tenure_days": 10.0, "mean_charge": 1.0}
WATCHED = """
[runtime.server]
trust_synthetic = true

[runtime.capture]
enabled = true
folder = "{folder}"
rate = 1.0
subject_header = "X-Customer"
"""
PLACES = {"here": "", "pool": "\n[runtime.models.watched]\npool = {{ replicas = 1 }}\n"}


def write_watched(folder: Path, captured: Path, place: str = "") -> Path:
    """A service with a reference profile that captures everything."""
    write_minimal(folder, "watched", runtime=(WATCHED + place).format(folder=captured))
    draw = np.random.default_rng(1)
    table = {"tenure_days": draw.uniform(0, 100, 500), "mean_charge": draw.normal(size=500)}
    profile = build_profile(
        "watched",
        RowCodec(Customer).specs,
        table,
        outputs=RowCodec(Risk).specs,
        predictions=draw.uniform(0.2, 0.8, 500),
    )
    (folder / "model" / "reference.json").write_bytes(encode_profile(profile))
    settings = folder / "slipway.toml"
    text = settings.read_text()
    settings.write_text(
        text.replace("[bundle.models.watched]\n", '[bundle.models.watched]\nreference = "model/reference.json"\n')
    )
    return folder


def shown(served: Served, name: str) -> dict[frozenset[tuple[str, str]], float]:
    return {
        frozenset(sample.labels.items()): sample.value
        for family in text_string_to_metric_families(served.metrics())
        for sample in family.samples
        if sample.name == name
    }


def counted(served: Served, name: str, expected: float, **labels: str) -> float:
    """The sum of a metric's samples with these labels, once it is what it should be (buffers count within a second)."""
    wanted, ends = frozenset(labels.items()), time.monotonic() + 10.0
    while True:
        total = sum(value for found, value in shown(served, name).items() if wanted <= found)
        if total == expected or time.monotonic() > ends:
            return total


@pytest.fixture(params=PLACES)
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """The service, with its weights here and in a runner."""
    folder = write_watched(tmp_path / "watched", tmp_path / "captured", PLACES[request.param])
    with serving(folder, store=tmp_path / "store") as served:
        yield served


def test_rows_are_counted_into_the_bins_of_the_reference_whoever_brings_them(watched: Served) -> None:
    with watched.client() as client:
        for _ in range(20):
            assert client.post("/predict", json=ROW).status_code == 200
        assert client.post("/predict", json={**ROW, "tenure_days": 39_000.0}).status_code == 200
        tensors = [
            {"name": "tenure_days", "shape": [3], "datatype": "FP32", "data": [1.0, 50.0, 99.0]},
            {"name": "mean_charge", "shape": [3], "datatype": "FP32", "data": [0.1, 0.2, 0.3]},
        ]
        assert client.post("/v2/models/watched/infer", json={"inputs": tensors}).status_code == 200

        assert counted(watched, "slipway_feature_bin_total", 24, feature="tenure_days") == 24
        assert counted(watched, "slipway_feature_bin_total", 1, feature="tenure_days", bin="high") == 1
        assert counted(watched, "slipway_prediction_bin_total", 24) == 24


def test_synthetic_requests_are_neither_users_nor_drift(watched: Served) -> None:
    with watched.client() as client:
        assert client.post("/predict", json=ROW).status_code == 200
        for _ in range(5):
            assert client.post("/predict", json=ROW, headers={"x-slipway-synthetic": "probe"}).status_code == 200

        assert counted(watched, "slipway_synthetic_requests_total", 5) == 5
        assert counted(watched, "slipway_synthetic_inferences_total", 5, model="watched") == 5
        assert counted(watched, "slipway_feature_bin_total", 1, feature="tenure_days") == 1
        assert counted(watched, "http_server_request_duration_seconds_count", 1, http_route="/predict") == 1


def test_captured_requests_are_found_by_the_id_that_the_client_was_told(watched: Served, tmp_path: Path) -> None:
    with watched.client() as client:
        own = client.post("/predict", json=ROW, headers={"x-request-id": "order-7", "x-customer": "Ada"})
        made = client.post("/predict", json=ROW)
        hostile = client.post("/predict", json=ROW, headers={"x-request-id": "a b<script>" + "x" * 500})
        client.post("/predict", json=ROW, headers={"x-request-id": "probe", "x-slipway-synthetic": "1"})
        refused = client.post("/predict", json={}, headers={"x-request-id": "broken"})
    assert watched.stop() == 0

    ids = [answer.headers["x-request-id"] for answer in (own, made, hostile, refused)]
    assert ids[0] == "order-7"
    assert ids[3] == "broken"
    assert "<" not in ids[2]
    table = pq.read_table(tmp_path / "captured" / "data", partitioning=None).to_pylist()
    rows = {row["request_id"]: row for row in table}
    assert set(rows) == set(ids[:3])
    assert rows["order-7"]["features.tenure_days"] == 10.0
    assert rows["order-7"]["prediction.probability"] == own.json()["probability"]
    assert rows["order-7"]["subject_key"] != rows[ids[1]]["subject_key"]
    assert "Ada" not in str(table)


def test_a_server_that_is_not_told_to_trust_counts_what_calls_itself_synthetic(minimal: Path, tmp_path: Path) -> None:
    with serving(minimal, store=tmp_path / "store") as served:
        with served.client() as client:
            answer = client.post("/predict", json=ROW, headers={"x-slipway-synthetic": "1", "x-request-id": "x"})
        assert "x-request-id" not in answer.headers
        assert counted(served, "http_server_request_duration_seconds_count", 1, http_route="/predict") == 1


class Broken:
    """Drift counters with a bug."""

    def observe(self, *row: object) -> None:
        raise ZeroDivisionError

    def flush(self) -> None:
        raise ZeroDivisionError


def test_a_bug_in_counting_drift_costs_no_answer_and_no_server() -> None:
    watch = RowWatch("broken", cast("DriftCounters", Broken()), None)
    answer, outputs = Answer(None, 0, 1), Outputs({}, RowCodec(Risk))
    watching = Watching.__new__(Watching)
    watching._drift = [cast("DriftCounters", Broken())]

    for _ in range(2):
        watch.answered(b"", 1, b"", answer, outputs)
        watching.flush()

    assert watching._drift == []
