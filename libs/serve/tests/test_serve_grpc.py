"""The Open Inference Protocol over gRPC, as Triton's own client, plain stubs and health probes speak it."""

import json
import queue
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import httpx
import numpy as np
import protos
import pytest
import tritonclient.grpc as triton  # type: ignore[import-untyped]  # the package has no types
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_service import COLUMNS, WAIT_S, BothProtocols, both_protocols, stub_of
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]  # the package has no types
from web_service import write_wide

from slipway_bundle import Datatype, TensorSpec
from slipway_serve.oip import open_inference_pb2 as pb
from slipway_serve.oip.messages import FIELDS
from slipway_serve.oip.server import TEMPLATES
from slipway_serve.tensor_data import to_binary

NAME = "calls"
RUNTIME = f"[runtime.limits]\nrows = 8\n\n[runtime.models.{NAME}]\nmax_rows = 4\n"
OUTPUTS = ("ratio_twice", "count", "on", "word", "blob", "sums")
EXPECTED: dict[str, list[Any]] = {
    "ratio_twice": [0.5, 1.0],
    "count": [3, 4],
    "on": [True, False],
    "word": ["héllo".encode(), b""],
    "blob": [b"\xff\0", b""],
    "sums": [[3.0, 12.0], [21.0, 30.0]],
}


@pytest.fixture(scope="module")
def server(minimal: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothProtocols]:
    wide = write_wide(tmp_path_factory.mktemp("wide"), NAME, RUNTIME)
    with both_protocols(wide, minimal) as running:
        yield running


@pytest.fixture(scope="module")
def stub(server: BothProtocols) -> Iterator[Any]:
    with stub_of(server.address) as made:
        yield made


@pytest.fixture
def client(server: BothProtocols) -> Iterator[triton.InferenceServerClient]:
    made = triton.InferenceServerClient(server.address)
    yield made
    made.close()


def typed(name: str = NAME) -> pb.ModelInferRequest:
    """The good request with typed contents."""
    request = pb.ModelInferRequest(model_name=name, id="42")
    for column, (datatype, array) in COLUMNS.items():
        values = array.reshape(-1).tolist()
        given = request.inputs.add(name=column, datatype=datatype, shape=array.shape)
        if datatype == "BYTES":
            values = [word.encode() if isinstance(word, str) else word for word in values]
        getattr(given.contents, FIELDS[cast("Datatype", datatype)][0]).extend(values)
    return request


def inputs() -> list[triton.InferInput]:
    return [
        triton.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)
        for name, (datatype, array) in COLUMNS.items()
    ]


def test_tritons_client_sees_a_live_server_and_a_ready_model(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert client.get_server_metadata().name == "slipway"
    with pytest.raises(InferenceServerException, match="has no version '2', expected '1'"):
        client.is_model_ready(NAME, "2")
    with pytest.raises(InferenceServerException, match=f"no model 'nope' is published, expected '{NAME}'"):
        client.is_model_ready("nope")


def test_metadata_is_that_of_rest(server: BothProtocols, client: triton.InferenceServerClient) -> None:
    metadata = json.loads(json.dumps(client.get_model_metadata(NAME, as_json=True)))
    with server.client() as rest:
        expected = rest.get(f"/v2/models/{NAME}").json()
        expected_server = rest.get("/v2").json()

    for tensor in (*metadata["inputs"], *metadata["outputs"]):
        tensor["shape"] = [int(size) for size in tensor["shape"]]
    assert metadata == expected
    assert client.get_server_metadata(as_json=True) == expected_server


def test_tritons_client_infers(client: triton.InferenceServerClient) -> None:
    result = client.infer(NAME, inputs(), model_version="1", request_id="r-1", timeout=5_000_000, client_timeout=WAIT_S)

    assert result.get_response().id == "r-1"
    assert result.get_response().model_version == "1"
    assert {name: result.as_numpy(name).tolist() for name in OUTPUTS} == EXPECTED


def test_outputs_come_as_asked_and_in_that_order(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput(name) for name in ("word", "count")]

    result = client.infer(NAME, inputs(), outputs=wanted)

    assert [output.name for output in result.get_response().outputs] == ["word", "count"]
    assert result.as_numpy("count").tolist() == [3, 4]


def test_typed_contents_are_answered_as_typed_contents(stub: Any) -> None:
    response = stub.ModelInfer(typed())

    contents = {output.name: output.contents for output in response.outputs}
    assert response.id == "42"
    assert not response.raw_output_contents
    assert list(contents["ratio_twice"].fp64_contents) == EXPECTED["ratio_twice"]
    assert list(contents["count"].int64_contents) == EXPECTED["count"]
    assert list(contents["on"].bool_contents) == EXPECTED["on"]
    assert list(contents["word"].bytes_contents) == EXPECTED["word"]
    assert list(contents["blob"].bytes_contents) == EXPECTED["blob"]
    assert list(contents["sums"].fp32_contents) == [3.0, 12.0, 21.0, 30.0]
    assert list(response.outputs[-1].shape) == [2, 2]


def test_a_request_may_ask_for_the_other_form(stub: Any) -> None:
    request = typed()
    request.parameters["binary_data_output"].bool_param = True

    response = stub.ModelInfer(request)

    assert len(response.raw_output_contents) == len(OUTPUTS)
    assert np.frombuffer(response.raw_output_contents[1], "<i8").tolist() == EXPECTED["count"]


def test_the_same_rows_get_the_same_bits_over_rest_over_grpc_and_in_process(server: BothProtocols) -> None:
    generator = np.random.default_rng(11)
    columns = {
        "tenure_days": generator.uniform(0, 4_000, 8).astype(np.float32),
        "mean_charge": np.where(generator.random(8) < 0.3, np.nan, generator.uniform(0, 100, 8)).astype(np.float32),
    }
    engine = server.engines[1]
    assert engine.service.name == "minimal"

    async def in_process() -> Any:
        return await engine.lane("minimal").batch(columns, 8, server.loop.time() + WAIT_S)

    given = [triton.InferInput(name, [8], "FP32").set_data_from_numpy(array) for name, array in columns.items()]
    over_grpc = triton.InferenceServerClient(server.address).infer("minimal", given).as_numpy("probability")
    body = {
        "inputs": [
            {"name": n, "datatype": "FP32", "shape": [8], "data": [None if np.isnan(v) else float(v) for v in a]}
            for n, a in columns.items()
        ]
    }
    answered = httpx.post(f"http://{server.rest}/v2/models/minimal/infer", json=body, timeout=WAIT_S).json()
    local = server.call(in_process)["probability"]

    assert over_grpc.astype(local.dtype).tobytes() == local.tobytes()
    assert answered["outputs"][0]["data"] == local.tolist()


def test_more_rows_than_a_batch_takes_are_one_answer_in_order(stub: Any) -> None:
    request = pb.ModelInferRequest(model_name=NAME)
    for name, (datatype, array) in COLUMNS.items():
        rows = np.concatenate([array] * 4)[:7]
        column = np.arange(7) if name == "count" else rows
        request.inputs.add(name=name, datatype=datatype, shape=column.shape)
        spec = TensorSpec(name=name, datatype=cast("Datatype", datatype))
        request.raw_input_contents.append(to_binary(column, spec))

    response = stub.ModelInfer(request)

    raw = dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=True))
    assert np.frombuffer(raw["count"], "<i8").tolist() == list(range(7))


def test_a_stream_answers_in_order_and_goes_on_after_a_bad_request(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, InferenceServerException | None]] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))

    for number in range(20):
        client.async_stream_infer(NAME if number != 5 else "nope", inputs(), request_id=str(number))
    got = [answers.get(timeout=WAIT_S) for _ in range(20)]
    client.stop_stream()

    ids = [None if result is None else result.get_response().id for result, _ in got]
    assert ids == [None if number == 5 else str(number) for number in range(20)]
    assert "no model 'nope' is published" in str(got[5][1])
    assert got[6][0].as_numpy("count").tolist() == EXPECTED["count"]


def test_a_failure_in_a_stream_names_its_request(stub: Any) -> None:
    request = typed("nope")

    answers = list(stub.ModelStreamInfer(iter([request, typed()])))

    assert [answer.infer_response.id for answer in answers] == ["42", "42"]
    assert "no model 'nope'" in answers[0].error_message
    assert answers[1].error_message == ""


def test_health_is_answered_as_grpc_s_own_service(server: BothProtocols) -> None:
    with grpc.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its methods have no types
        statuses = [
            health.Check(health_pb2.HealthCheckRequest(service=service)).status
            for service in ("", "inference.GRPCInferenceService")
        ]
        with pytest.raises(grpc.RpcError) as unknown:
            health.Check(health_pb2.HealthCheckRequest(service="nope"))

    assert statuses == [health_pb2.HealthCheckResponse.SERVING] * 2
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_every_call_is_counted_under_its_template(server: BothProtocols, stub: Any) -> None:
    stub.ServerLive(pb.ServerLiveRequest())
    with pytest.raises(grpc.RpcError):
        stub.ModelMetadata(pb.ModelMetadataRequest(name="nope"))

    counted = {template for template, _, _ in server.metrics.requests if template.startswith("/inference.")}
    assert server.metrics.wait_for(("/inference.GRPCInferenceService/ServerLive", "POST", 200))
    assert server.metrics.wait_for(("/inference.GRPCInferenceService/ModelMetadata", "POST", 404))
    assert counted <= set(TEMPLATES)
    assert server.metrics.active.value == 0


def test_the_generated_files_are_what_the_proto_says() -> None:
    committed = {name: (protos.FOLDER / name).read_text() for name in protos.CHANGES}

    assert protos.generated() == committed


def test_the_proto_says_the_same_as_tritons() -> None:
    """Field by field: numbers and types are what travels."""
    theirs = triton.service_pb2.DESCRIPTOR.message_types_by_name
    differing = []
    for name, message in pb.DESCRIPTOR.message_types_by_name.items():
        for ours, other in [(message, theirs[name]), *zip(*_nested(message, theirs[name]), strict=True)]:
            fields = {field.name: (field.number, field.type) for field in other.fields}
            differing += [f.full_name for f in ours.fields if fields.get(f.name) != (f.number, f.type)]

    assert differing == ["inference.ModelMetadataResponse.properties"]  # KServe's, not Triton's


def test_importing_the_serve_room_imports_no_grpc() -> None:
    script = "import sys, slipway_serve, slipway_serve.oip.ports; print(*sorted(sys.modules))"

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert {"grpc", "google.protobuf"}.isdisjoint(run.stdout.split())


def _nested(ours: Any, theirs: Any) -> tuple[list[Any], list[Any]]:
    names = [n.name for n in ours.nested_types if n.name in theirs.nested_types_by_name]
    return [ours.nested_types_by_name[n] for n in names], [theirs.nested_types_by_name[n] for n in names]
