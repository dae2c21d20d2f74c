"""A model in another server: the same answers over both protocols, and clear words when it is not so."""

import contextlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from far_servers import Foreign, far_process, foreign
from grpc_service import COLUMNS, WAIT_S, BothProtocols, both_protocols, wait_until
from serve_folders import write_minimal
from serve_gate import GATE, write_gated
from web_service import write_wide

from slipway_bundle import Arrays, load_service, open_folder, predict
from slipway_bundle.description import codecs
from slipway_bundle.weights import NamedWeights, bind_outputs
from slipway_serve import Service, Weights
from slipway_serve.far_end import RemoteFailed, RemoteMismatch, RemoteUnavailable
from slipway_serve.remote import RemoteModel, connect
from slipway_serve.service import Model

pytestmark = pytest.mark.alone  # how long something takes is judged here

SCHEMES = ("grpc", "http")
QUICK_S = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothProtocols]:
    folders = (
        write_wide(tmp_path_factory.mktemp("wide"), "farwide"),
        write_minimal(tmp_path_factory.mktemp("minimal"), "farminimal"),
        write_gated(tmp_path_factory.mktemp("gated")),
    )
    with both_protocols(*folders) as running:
        yield running


@pytest.fixture(scope="module")
def other() -> Iterator[Foreign]:
    with foreign() as running:
        yield running


def url_of(server: BothProtocols, scheme: str, model: str) -> str:
    return f"{scheme}://{server.address if scheme == 'grpc' else server.rest}/{model}"


def connected(server: BothProtocols, scheme: str, number: int) -> RemoteModel:
    """The model of the server's engine of that number."""
    engine = server.engines[number]
    model = next(iter(engine.service.models.values()))
    lane = engine.lane(model.name)
    return connect(url_of(server, scheme, model.name), model, lane.inputs, lane.outputs)


def declared(folder: Path, name: str) -> tuple[Model[Any, Any], Any, Any]:
    """A model and its codecs, without its weights."""
    service = load_service(open_folder(folder))
    assert isinstance(service, Service)
    model = service.models[name]
    return (model, *codecs(model, "xgboost"))


def charges(rows: int) -> dict[str, Any]:
    generator = np.random.default_rng(rows)
    charge = np.where(generator.random(rows) < 0.3, np.nan, generator.uniform(0, 100, rows))
    return {
        "tenure_days": generator.uniform(0, 4_000, rows).astype(np.float32),
        "mean_charge": charge.astype(np.float32),
    }


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_a_step_at_a_far_slipway_answers_the_same_bits_as_in_process(
    server: BothProtocols, scheme: str, rows: int
) -> None:
    batch = charges(rows)
    remote = connected(server, scheme, 1)

    answered = remote(batch)
    remote.close()

    async def here() -> Arrays:
        return await server.engines[1].lane("farminimal").batch(batch, rows, server.loop.time() + WAIT_S)

    local = server.call(here)
    assert remote.is_whole_step
    assert isinstance(remote, NamedWeights)
    assert remote.outputs == ("probability",)
    assert (
        answered["probability"].tobytes() == local["probability"].astype("<f8").tobytes()
    )  # FP64, as the metadata says


@pytest.mark.parametrize("scheme", SCHEMES)
def test_fields_of_every_kind_travel(server: BothProtocols, scheme: str) -> None:
    remote = connected(server, scheme, 0)

    answered = remote({name: array for name, (_, array) in COLUMNS.items()})
    remote.close()

    assert {name: array.tolist() for name, array in answered.items()} == {
        "ratio_twice": [0.5, 1.0],
        "count": [3, 4],
        "on": [True, False],
        "word": ["héllo", ""],
        "blob": [b"\xff\0", b""],
        "sums": [[3.0, 12.0], [21.0, 30.0]],
    }


@pytest.mark.parametrize("scheme", SCHEMES)
def test_at_another_server_compute_runs_here(other: Foreign, tmp_path: Path, scheme: str) -> None:
    model, inputs, outputs = declared(write_minimal(tmp_path, f"here_{scheme}"), f"here_{scheme}")

    def sigmoid(weights: Weights, batch: Arrays) -> Arrays:
        return {"probability": 1 / (1 + np.exp(-weights(batch)["margin"][:, 0]))}

    model.function = sigmoid
    batch = charges(5)
    remote = connect(other.url(scheme), model, inputs, outputs)

    probability = model.function(remote, batch)["probability"]
    remote.close()

    margin = batch["tenure_days"] * 2 + batch["mean_charge"]
    assert not remote.is_whole_step
    assert other.shapes == [[5, 1], [5, 1]]
    assert remote.outputs == ("margin",)
    assert np.array_equal(probability, 1 / (1 + np.exp(-margin)), equal_nan=True)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_compute_its_outputs_are_bound_to_the_answer_like_weights(
    other: Foreign, tmp_path: Path, scheme: str
) -> None:
    model, inputs, outputs = declared(write_minimal(tmp_path, f"bound_{scheme}"), f"bound_{scheme}")
    batch = charges(3)
    remote = connect(other.url(scheme), model, inputs, outputs)

    bound = bind_outputs({"probability": "margin"}, remote.outputs, [spec.name for spec in outputs.specs])
    answered = predict(remote, bound, batch)
    remote.close()

    expected = (batch["tenure_days"] * 2 + batch["mean_charge"]).reshape(-1, 1)
    assert np.array_equal(answered["probability"], expected, equal_nan=True)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_far_model_of_another_datatype_is_refused_by_name(other: Foreign, tmp_path: Path, scheme: str) -> None:
    name = f"typed_{scheme}"
    model, inputs, outputs = declared(write_minimal(tmp_path, name), name)
    other.metadata["inputs"][1]["datatype"] = "FP64"
    try:
        with pytest.raises(RemoteMismatch, match=r"input 'mean_charge' of .* got FP64 \[-1, 1\], expected FP32 \[-1\]"):
            connect(other.url(scheme), model, inputs, outputs)
    finally:
        other.metadata["inputs"][1]["datatype"] = "FP32"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_model_that_is_not_there_is_said_at_the_start(server: BothProtocols, scheme: str) -> None:
    engine = server.engines[1]
    lane = engine.lane("farminimal")

    with pytest.raises(RemoteFailed, match="no model 'nope' is published, expected 'farwide', 'farminimal', 'gated'"):
        connect(url_of(server, scheme, "nope"), engine.service.models["farminimal"], lane.inputs, lane.outputs)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nobody_there_is_unavailable_at_the_start(server: BothProtocols, scheme: str) -> None:
    lane = server.engines[1].lane("farminimal")
    model = server.engines[1].service.models["farminimal"]
    started = time.monotonic()

    with socket.socket() as bound:  # not listening: the port is nobody's
        bound.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{bound.getsockname()[1]}/farminimal"
        with pytest.raises(RemoteUnavailable, match=url):
            connect(url, model, lane.inputs, lane.outputs)

    assert time.monotonic() - started < QUICK_S


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_row_that_the_far_end_refuses_is_a_failure_in_its_words(server: BothProtocols, scheme: str) -> None:
    remote = connected(server, scheme, 1)
    batch = charges(2)
    batch["tenure_days"][1] = -1

    with pytest.raises(RemoteFailed, match="tenure_days"):
        remote(batch)
    remote.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_compute_sends_is_checked_before_it_leaves(server: BothProtocols, scheme: str) -> None:
    remote = connected(server, scheme, 1)

    with pytest.raises(RemoteFailed, match="called with 'tenure', expected 'tenure_days', 'mean_charge'"):
        remote({"tenure": np.zeros(1)})
    with pytest.raises(RemoteFailed, match="takes FP32 for 'tenure_days', got <U1"):
        remote({"tenure_days": np.array(["a"]), "mean_charge": np.zeros(1)})
    with pytest.raises(RemoteFailed, match="takes FP32 for 'tenure_days', got complex128"):
        remote({"tenure_days": np.zeros(1, complex), "mean_charge": np.zeros(1)})
    remote.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("spoil", "said"),
    [(lambda raw: raw[:-1], "bytes, expected"), (lambda raw: raw + b"\0" * 4, "expected")],
    ids=["short", "long"],
)
def test_an_answer_that_is_not_what_it_says_is_a_failure(
    other: Foreign, tmp_path: Path, scheme: str, spoil: Any, said: str, request: pytest.FixtureRequest
) -> None:
    name = f"spoilt_{scheme}_{request.node.callspec.id.split('-')[0]}"
    model, inputs, outputs = declared(write_minimal(tmp_path, name), name)
    remote = connect(other.url(scheme), model, inputs, outputs)
    other.spoil = spoil
    try:
        with pytest.raises(RemoteFailed, match=f"answered something else.*{said}"):
            remote(charges(2))
    finally:
        other.spoil = lambda raw: raw
    other.datatype = "FP64"
    try:
        with pytest.raises(RemoteFailed, match=r"answered something else: `\$\.outputs\[0\]\.datatype` is 'FP64'"):
            remote(charges(2))
    finally:
        other.datatype = "FP32"
        remote.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_answer_with_fewer_rows_is_a_failure(other: Foreign, tmp_path: Path, scheme: str) -> None:
    name = f"fewer_{scheme}"
    model, inputs, outputs = declared(write_minimal(tmp_path, name), name)
    remote = connect(other.url(scheme), model, inputs, outputs)
    other.rows_lost = 1
    try:
        with pytest.raises(RemoteFailed, match="answered 2 rows, expected 3"):
            remote(charges(3))
    finally:
        other.rows_lost = 0
        remote.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_far_end_with_too_much_to_do_is_unavailable(other: Foreign, tmp_path: Path, scheme: str) -> None:
    name = f"busy_{scheme}"
    model, inputs, outputs = declared(write_minimal(tmp_path, name), name)
    remote = connect(other.url(scheme), model, inputs, outputs)
    other.is_overloaded = True
    try:
        with pytest.raises(RemoteUnavailable, match="come back later"):
            remote(charges(3))
    finally:
        other.is_overloaded = False
        remote.close()


def test_a_far_end_that_answers_byte_by_byte_ends_at_the_deadline_too(other: Foreign, tmp_path: Path) -> None:
    model, inputs, outputs = declared(write_minimal(tmp_path, "slowly"), "slowly")
    remote = connect(other.url("http"), model, inputs, outputs)
    other.is_slow = True
    started = time.monotonic()
    try:
        with pytest.raises(RemoteUnavailable), remote.with_deadline(0.3):
            remote(charges(1))
    finally:
        other.is_slow = False
        remote.close()

    assert time.monotonic() - started < QUICK_S


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_call_ends_at_its_deadline(server: BothProtocols, scheme: str) -> None:
    remote = connected(server, scheme, 2)
    GATE.shut()
    started = time.monotonic()
    try:
        with pytest.raises(RemoteUnavailable), remote.with_deadline(0.3):
            remote({"x": np.ones(1, np.float32)})
        took_s = time.monotonic() - started
        with pytest.raises(RemoteUnavailable, match="no time left"), remote.with_deadline(0):
            remote({"x": np.ones(1, np.float32)})
    finally:
        GATE.open()
    after = remote({"x": np.ones(1, np.float32)})
    remote.close()

    assert 0.2 < took_s < QUICK_S
    assert after["doubled"].tolist() == [2.0]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_silent_far_end_ends_the_call_at_its_deadline(other: Foreign, tmp_path: Path, scheme: str) -> None:
    name = f"silent_{scheme}"
    model, inputs, outputs = declared(write_minimal(tmp_path, name), name)
    remote = connect(other.url(scheme), model, inputs, outputs)
    other.patience.clear()
    started = time.monotonic()
    try:
        with pytest.raises(RemoteUnavailable, match=r"did not answer in 0\."), remote.with_deadline(0.3):
            remote(charges(1))
    finally:
        other.patience.set()
        remote.close()

    assert 0.2 < time.monotonic() - started < QUICK_S


@pytest.mark.slow
def test_a_killed_far_end_is_unavailable_at_once_and_found_again(tmp_path: Path) -> None:
    folder = write_minimal(tmp_path, "killed")
    model, inputs, outputs = declared(folder, "killed")
    with far_process(folder) as far:
        remotes = [connect(far.url(scheme, "killed"), model, inputs, outputs) for scheme in SCHEMES]
        before = [remote(charges(3))["probability"].tolist() for remote in remotes]
        far.kill()
        started = time.monotonic()

        for remote in remotes:
            with pytest.raises(RemoteUnavailable):
                remote(charges(3))
        took_s = time.monotonic() - started

    with far_process(folder, far.ports):
        after = [_answer_again(remote) for remote in remotes]
        for remote in remotes:
            remote.close()

    assert took_s < QUICK_S
    assert after == before


@pytest.mark.parametrize("scheme", SCHEMES)
def test_threads_share_the_connections(server: BothProtocols, scheme: str) -> None:
    remote = connected(server, scheme, 1)
    expected = {rows: remote(charges(rows))["probability"].tolist() for rows in range(1, 9)}

    def call(rows: int) -> bool:
        return all(remote(charges(rows))["probability"].tolist() == expected[rows] for _ in range(20))

    with ThreadPoolExecutor(len(expected)) as threads:
        same = list(threads.map(call, expected))
    remote.close()

    assert all(same)


def test_a_deadline_is_its_own_thread_s(server: BothProtocols) -> None:
    remote = connected(server, "grpc", 1)

    with remote.with_deadline(0), ThreadPoolExecutor(1) as threads:
        beside = threads.submit(remote, charges(1)).result(WAIT_S)
        with pytest.raises(RemoteUnavailable, match="no time left"):
            remote(charges(1))
    after = remote(charges(1))
    remote.close()

    assert beside["probability"].tolist() == after["probability"].tolist()


def _answer_again(remote: RemoteModel) -> list[float]:
    """The answer of a far end that is coming back."""
    got: list[list[float]] = []

    def answers() -> bool:
        with contextlib.suppress(RemoteUnavailable):  # still backing off
            got.append(remote(charges(3))["probability"].tolist())
        return bool(got)

    wait_until(answers)
    return got[0]
