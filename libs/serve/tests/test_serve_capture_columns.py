"""Rows that came as tensors are captured as those of a path are: the same values, policy and names, REST and gRPC."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from grpc_service import stub_of
from msgspec import Struct
from serve_folders import train
from serve_process import Served, serving
from test_serve_grpc_followed import FLAGS, counted, grpc_of

from slipway_bundle import RowCodec
from slipway_bundle.redaction import Redact
from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.watching import RequestFacts, RowWatch, current_request
from slipway_signals.capture import CaptureConfig, CapturedModel, CaptureLog
from slipway_signals.capture.sampling import is_sampled, row_id, threshold_of
from slipway_signals.metrics_capture import CAPTURE_RECORDS
from slipway_signals.slots import Slots

SERVICE = '''"""Fields of several kinds, and one that nobody may store."""

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from slipway_bundle.redaction import Redact
from slipway_serve import Arrays, Service, Weights


class Person(Struct, frozen=True):
    """A row."""

    age: Annotated[int, Redact("bucket", width=10)]
    income: float | None
    name: Annotated[str, Meta(max_length=40), Redact("hash")]
    plan: Literal["small", "large"]
    spent: Annotated[list[float], Meta(min_length=2, max_length=2)]


class Answer(Struct, frozen=True):
    """Its answer."""

    score: float


service = Service("people")
people = service.model("people", Person, Answer, path="/people")


@people.compute
def half(weights: Weights, batch: Arrays) -> Arrays:
    """Half of the age; nobody is older than 150."""
    ages = np.asarray(batch["age"], np.float64)
    if (ages > 150).any():
        raise ValueError("too old")
    return {"score": ages / 2}
'''
CAPTURE = """
[runtime.limits]
rows = 4096

[runtime.capture]
enabled = true
folder = "{folder}"
rate = {rate}
subject_header = "x-customer"
"""
STORED = ("features.age.bucket", "features.income", "features.name.hash", "features.plan", "features.spent")


def write_people(folder: Path, captured: Path, rate: float) -> Path:
    train(folder / "model" / "model.ubj")
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "people_service.py").write_text(SERVICE)
    (folder / "slipway.toml").write_text(
        'entry = "people_service:service"\n\n[bundle.models.people]\nfile = "model/model.ubj"\nformat = "xgboost"\n'
        + CAPTURE.format(folder=captured, rate=rate)
    )
    return folder


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Everything is captured."""
    folder = write_people(tmp_path / "people", tmp_path / "captured", 1.0)
    with serving(folder, store=tmp_path / "store", flags=FLAGS) as served:
        yield served


def stored(folder: Path) -> dict[str, dict[str, Any]]:
    """Request id → what the disk has of it."""
    table = pq.read_table(folder / "data", partitioning=None).to_pylist()
    rows = {row["request_id"]: row for row in table}
    assert len(rows) == len(table)
    return rows


def person(number: int) -> dict[str, Any]:
    income = None if number % 2 else 1_000.5 + number
    return {"age": 30 + number, "income": income, "name": f"ada {number}", "plan": "large", "spent": [1.5, number]}


def tensors(people: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same as columns."""
    kinds = {"age": "INT64", "income": "FP32", "name": "BYTES", "plan": "BYTES", "spent": "FP32"}
    return [
        {
            "name": name,
            "datatype": kind,
            "shape": [len(people), 2] if name == "spent" else [len(people)],
            "data": [one[name] for one in people],
        }
        for name, kind in kinds.items()
    ]


def message(people: list[dict[str, Any]]) -> pb.ModelInferRequest:
    """The same for gRPC."""
    fields = {"INT64": "int64_contents", "FP32": "fp32_contents", "BYTES": "bytes_contents"}
    request = pb.ModelInferRequest(model_name="people")
    for tensor in tensors(people):
        flat: list[Any] = list(np.array(tensor["data"], dtype=object).reshape(-1))
        flat = [float("nan") if value is None else value for value in flat]
        flat = [value.encode() for value in flat] if tensor["datatype"] == "BYTES" else flat
        added = request.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        getattr(added.contents, fields[tensor["datatype"]]).extend(flat)
    return request


def test_a_row_is_stored_alike_whoever_brings_it(served: Served, tmp_path: Path) -> None:
    people = [person(number) for number in range(3)]
    headers = {"x-customer": "customer-9"}
    with served.client() as client, stub_of(grpc_of(served)) as stub:
        for number, one in enumerate(people):
            assert client.post("/people", json=one, headers={**headers, "x-request-id": f"path-{number}"}).is_success
        answer = client.post(
            "/v2/models/people/infer", json={"inputs": tensors(people)}, headers={**headers, "x-request-id": "rest"}
        )
        assert answer.headers["x-request-id"] == "rest"
        metadata = (("x-customer", "customer-9"), ("x-request-id", "grpc"))
        stub.ModelInfer(message(people), metadata=metadata)
    assert served.stop() == 0

    rows = stored(tmp_path / "captured")
    assert rows.keys() == {
        *("path-0", "path-1", "path-2", "rest", "rest/1", "rest/2", "grpc", "grpc/1", "grpc/2"),
    }
    for number in range(3):
        other = rows[f"path-{number}"]
        for row in (rows[row_id("rest", number)], rows[row_id("grpc", number)]):
            assert {name: row[name] for name in STORED} == {name: other[name] for name in STORED}
            assert row["prediction.score"] == other["prediction.score"] == (30 + number) / 2
            assert row["subject_key"] == other["subject_key"]
    assert rows["rest"]["features.age.bucket"] == 30.0
    assert rows["rest/1"]["features.income"] is None
    assert rows["rest/2"]["features.spent"] == [1.5, 2.0]
    everything = b"".join(path.read_bytes() for path in (tmp_path / "captured").rglob("*") if path.is_file())
    assert b"ada" not in everything
    assert b"customer-9" not in everything


def test_of_many_rows_the_share_is_stored_and_the_rest_is_counted(tmp_path: Path) -> None:
    folder = write_people(tmp_path / "people", tmp_path / "captured", 0.1)
    with serving(folder, store=tmp_path / "store", flags=FLAGS) as served:
        people = [person(number % 90) for number in range(1_000)]
        with served.client() as client:
            body = {"inputs": tensors(people)}
            answer = client.post("/v2/models/people/infer", json=body, headers={"x-request-id": "many"})
            refused = client.post("/v2/models/people/infer", json={"inputs": []}, headers={"x-request-id": "bad"})
        sampled_out = counted(served, "slipway_capture_records_total", result="sampled_out")
        assert served.stop() == 0

    expected = {
        row_id("many", number) for number in range(1_000) if is_sampled(row_id("many", number), threshold_of(0.1))
    }
    rows = stored(tmp_path / "captured")
    assert (answer.status_code, refused.status_code) == (200, 400)
    assert rows.keys() == expected
    assert {row["sample_weight"] for row in rows.values()} == {10.0}
    for number, one in enumerate(people):
        if row := rows.get(row_id("many", number)):
            assert row["features.age.bucket"] == one["age"] // 10 * 10
            assert row["features.income"] == (None if one["income"] is None else pytest.approx(one["income"]))
    assert sampled_out == 1_000 - len(expected)


def test_rows_without_an_answer_are_stored_with_their_status(served: Served, tmp_path: Path) -> None:
    people = [person(1), {**person(2), "age": 200}]
    with served.client() as client:
        answer = client.post(
            "/v2/models/people/infer", json={"inputs": tensors(people)}, headers={"x-request-id": "failed"}
        )
    assert answer.status_code == 500
    assert served.stop() == 0

    rows = stored(tmp_path / "captured")
    assert rows.keys() == {"failed", "failed/1"}
    assert {row["status"] for row in rows.values()} == {500}
    assert rows["failed/1"]["features.age.bucket"] == 200.0
    assert rows["failed"]["prediction.score"] is None


class Counted(Struct):
    """A row that is counted when it is made, and may refuse to be."""

    x: float
    note: Annotated[str, Redact("keep")]

    def __post_init__(self) -> None:
        MADE.append(self.x)
        if self.x < 0:
            raise ValueError("below nothing")


class Out(Struct):
    """Its answer."""

    y: float


MADE: list[float] = []


def watching(folder: Path, **settings: Any) -> tuple[RowWatch, CaptureLog, Slots]:
    """A watcher of rows whose log stores nothing by itself."""
    slots, fd = Slots.create()
    os.close(fd)
    model = CapturedModel(name="m", version="1", takes=Counted, gives=Out)
    log = CaptureLog(CaptureConfig(enabled=True, folder=str(folder), **settings), [model], slots)
    return RowWatch("m", None, log), log, slots


def columns(rows: int) -> dict[str, Any]:
    return {"x": np.arange(rows, dtype=np.float32), "note": np.array(["word"] * rows, dtype=object)}


def test_a_row_that_is_left_out_is_never_made(tmp_path: Path) -> None:
    watch, log, _ = watching(tmp_path / "c", rate=0.05)
    codec, answers = RowCodec(Counted), [Out(0.0)] * 500
    current_request.set(RequestFacts("left-out", None, False, 0.0))
    MADE.clear()

    watch.kept_columns(codec, columns(500), answers)
    watch.kept_columns(codec, columns(500), answers)  # the next 500 rows of the same request

    threshold = threshold_of(0.05)
    chosen = [n for n in range(1_000) if is_sampled(row_id("left-out", n), threshold)]
    assert [float(n % 500) for n in chosen] == MADE
    assert log.close(10.0)


def test_what_the_ring_has_no_room_for_is_never_made_and_counted(tmp_path: Path) -> None:
    watch, log, slots = watching(tmp_path / "c", rate=1.0, ring_records=20)
    current_request.set(RequestFacts("flood", None, False, 0.0))
    MADE.clear()

    watch.kept_columns(RowCodec(Counted), columns(500), [Out(0.0)] * 500)

    assert len(MADE) == 20
    assert counted_in(slots, "dropped") == 480
    assert log.close(10.0)
    assert counted_in(slots, "written") == 20


def test_a_row_that_refuses_to_be_made_is_lost_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Tensors do not ask a Struct's `__post_init__`, so such a row can have an answer."""
    watch, log, slots = watching(tmp_path / "c", rate=1.0)
    current_request.set(RequestFacts("refusing", None, False, 0.0))
    given = columns(3)
    given["x"][1] = -1.0

    watch.kept_columns(RowCodec(Counted), given, [Out(0.0)] * 3)
    watch.kept_columns(RowCodec(Counted), {"x": given["x"]}, [Out(0.0)] * 3)  # a bug of ours

    assert log.close(10.0)
    assert (counted_in(slots, "written"), counted_in(slots, "dropped")) == (2, 4)
    assert "below nothing" in caplog.text  # said once, and why
    assert len(caplog.records) == 1


def counted_in(slots: Slots, result: str) -> float:
    return slots.counter(CAPTURE_RECORDS, "m", result).value
