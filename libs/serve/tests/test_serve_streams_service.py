"""A service with streams and an endpoint that takes bytes, through everything: processes, `local`, the bundle."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from serve_folders import train
from serve_process import serving

from slipway_bundle.describe import describe_service
from slipway_serve import local

SERVICE = '''"""Counts down, in a stream."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from slipway_serve import Arrays, Service, Weights


class Start(Struct, frozen=True):
    """Where to count from."""

    n: Annotated[int, Meta(ge=0, le=100)]


class Step(Struct, frozen=True):
    """One number, and what the weights think of it."""

    n: int
    score: Annotated[float, Meta(ge=0, le=1)]


class Picture(Struct, frozen=True):
    """Bytes."""

    image: Annotated[bytes, Meta(min_length=1)]


class Size(Struct, frozen=True):
    bytes: int


service = Service("counting")
count = service.stream("count", Start, Step, path="/count")


@count.compute
def down(weights: Weights, start: Start) -> Iterator[Step]:
    """One item a number."""
    for n in range(start.n, 0, -1):
        batch = {"tenure_days": np.array([n], "float32"), "mean_charge": np.array([1.0], "float32")}
        yield Step(n, float(weights(batch)["probability"][0]))


@service.endpoint("/twice", slo="chat")
async def twice(start: Start) -> AsyncIterator[Step]:
    """Every item two times."""
    async for step in count(start):
        yield step
        yield step


@service.endpoint("/size")
async def size(picture: Picture) -> Size:
    """How large it is."""
    return Size(len(picture.image))
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service's folder."""
    folder = tmp_path_factory.mktemp("counting")
    train(folder / "model" / "model.ubj")
    (folder / "src").mkdir()
    (folder / "src" / "counting_service.py").write_text(SERVICE)
    (folder / "slipway.toml").write_text(
        'entry = "counting_service:service"\n\n[bundle.models.count]\nfile = "model/model.ubj"\nformat = "xgboost"\n'
    )
    return folder


def test_streams_and_bytes_are_served_by_real_processes(folder: Path, tmp_path: Path) -> None:
    with serving(folder, store=tmp_path / "store") as running, running.client() as client:
        streamed = client.post("/count", json={"n": 3}, headers={"accept": "application/x-ndjson"})
        twice = client.post("/twice", json={"n": 2}, headers={"accept": "application/x-ndjson"})
        wrong = client.post("/count", json={"n": 101})
        raw = client.post("/size", content=b"abc", headers={"content-type": "image/png"})
        form = client.post("/size", files={"image": ("a.png", b"abcd")})
        page = client.get("/")
        reference = client.get("/docs")
        metrics = running.metrics()

    assert [json.loads(line)["n"] for line in streamed.text.splitlines()] == [3, 2, 1]
    assert [json.loads(line)["n"] for line in twice.text.splitlines()] == [2, 2, 1, 1]
    assert (wrong.status_code, wrong.json()["path"]) == (422, "$.n")
    assert (raw.json(), form.json()) == ({"bytes": 3}, {"bytes": 4})
    assert (page.status_code, reference.status_code) == (200, 200)
    assert 'route="/count"' in metrics


def test_a_stream_runs_without_a_server(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("counting_service_here", folder / "src" / "counting_service.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    with local(module.service, folder=folder) as app:
        steps = app.call(module.count, module.Start(2))
        twice = app.call(module.twice, module.Start(1))

    assert [step.n for step in steps] == [2, 1]
    assert [step.n for step in twice] == [1, 1]


def test_the_bundle_can_describe_a_service_with_streams(folder: Path) -> None:
    described = describe_service("counting_service:service", folder / "src", {"count": "xgboost"})

    assert [endpoint.path for endpoint in described.endpoints] == ["/count", "/twice", "/size"]
    assert described.models["count"].inputs == ()
