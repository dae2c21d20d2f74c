"""gRPC requests are followed as those of HTTP are: traced, named, counted, logged, and told apart from probes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_service import stub_of
from grpc_stream_service import prompt, talking, write_chatty
from grpc_stream_service import row as double
from otlp_sink import Sink, collector, values
from pool_folders import write_obedient
from prometheus_client.parser import text_string_to_metric_families
from serve_process import Served, serving

from slipway_serve.oip import open_inference_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "vendor=7"))
RAISE = 3.0
FLAGS: dict[str, object] = {"grpc": True, "grpc_port": 0}
WATCHED = """
[runtime.server]
trust_synthetic = true

[runtime.capture]
enabled = true
folder = "{folder}"
"""


def asked(action: float = 0.0) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="obedient")
    for name, value in {"tenure_days": 4.0, "mean_charge": 1.0, "action": action}.items():
        request.inputs.add(name=name, datatype="FP32", shape=[1]).contents.fp32_contents.append(value)
    return request


def grpc_of(served: Served) -> str:
    found = re.search(r"grpc +(\S+)", served.said())
    assert found is not None
    return found[1]


def counted(served: Served, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(served.metrics())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A collector."""
    with collector() as sink:
        yield sink


@pytest.fixture
def served(tmp_path: Path, sink: Sink) -> Iterator[Served]:
    """A service over gRPC whose traces go to the collector; nothing is drawn."""
    folder = write_obedient(tmp_path / "o", WATCHED.format(folder=tmp_path / "captured"))
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_TRACES_SAMPLER_ARG": "0"}
    with serving(folder, store=tmp_path / "store", flags=FLAGS, env=env) as served:
        yield served


@pytest.fixture
def stub(served: Served) -> Iterator[Any]:
    with stub_of(grpc_of(served)) as made:
        yield made


def test_a_sampled_call_is_one_trace_from_its_metadata_to_the_batch(stub: Any, sink: Sink) -> None:
    stub.ModelInfer(asked(), metadata=SAMPLED)
    spans = {span.name: span for span in sink.wait_spans(6) if span.trace_id.hex() == TRACE}

    server = spans[INFER[1:]]
    assert server.parent_span_id.hex() == PARENT
    assert server.trace_state == "vendor=7"
    told = values(server.attributes)
    assert (told["rpc.system.name"], told["rpc.method"]) == ("grpc", INFER[1:])
    assert told["rpc.response.status_code"] == "OK"
    assert not [name for name in told if name.startswith(("http.", "url."))]
    assert spans.keys() == {server.name, "decode", "queue", "predict", "encode", "send"}
    for span in spans.values():
        assert server.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= server.end_time_unix_nano


def test_a_call_that_fails_is_kept_and_said_though_nobody_sampled_it(served: Served, stub: Any, sink: Sink) -> None:
    for _ in range(20):
        stub.ModelInfer(asked())
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(pb.ModelInferRequest(model_name="obedient"))
    with pytest.raises(grpc.RpcError) as failed:
        stub.ModelInfer(asked(RAISE), metadata=(("x-request-id", "order-7"),))
    spans = sink.wait_spans(2)

    error: Any = failed.value
    assert error.code() == grpc.StatusCode.INTERNAL
    assert dict(error.trailing_metadata())["x-request-id"] == "order-7"
    of_refused: Any = refused.value
    assert of_refused.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert dict(of_refused.trailing_metadata())["x-request-id"]
    (kept,) = [values(span.attributes) for span in spans if span.name == INFER[1:]]
    assert (kept["rpc.response.status_code"], kept["slipway.kept"]) == ("INTERNAL", "error")
    assert kept["error.type"] == "ModelFailed"
    lines = [json.loads(line) for line in served.said().splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line.get("event") == "request_completed" and line.get("status") == 500]
    assert (line["route"], line["kept"]) == (INFER, "error")
    assert any(span.trace_id.hex() == line["trace_id"] for span in spans)


def test_a_call_is_named_by_its_client_or_here(stub: Any) -> None:
    ids = []
    for metadata in ((("x-request-id", "order-7"),), (("x-request-id", "a b<script>"),), ()):
        _, call = stub.ModelInfer.with_call(asked(), metadata=metadata)
        ids.append(dict(call.trailing_metadata())["x-request-id"])

    assert ids[0] == "order-7"
    assert len(set(ids)) == 3
    assert not any("<" in name for name in ids)


def test_probes_and_repetitions_are_counted_apart(served: Served, stub: Any) -> None:
    stub.ModelInfer(asked())
    stub.ModelInfer(asked(), metadata=(("x-slipway-synthetic", "probe"),))
    stub.ModelInfer(asked(), metadata=(("x-slipway-attempt", "2"),))
    stub.ModelInfer(asked(), metadata=(("x-slipway-attempt", "1"),))

    assert counted(served, "slipway_synthetic_requests_total") == 1
    assert counted(served, "slipway_requests_repeated_total") == 1
    name = "http_server_request_duration_seconds_count"
    assert counted(served, name, http_route=INFER, http_response_status_code="200") == 3


def test_each_request_of_a_stream_is_followed_and_named_after_its_call(tmp_path: Path, sink: Sink) -> None:
    runtime = WATCHED.format(folder=tmp_path / "captured")
    folder = write_chatty(tmp_path / "chatty", "followed_chatty_service")
    settings = folder / "slipway.toml"
    settings.write_text(settings.read_text() + runtime)
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_TRACES_SAMPLER_ARG": "0",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    with (
        serving(folder, store=tmp_path / "store", flags=FLAGS, env=env) as served,
        stub_of(grpc_of(served)) as stub,
        talking(stub) as conversation,
    ):
        conversation.answer_to(prompt("to be or not"))
        conversation.answer_to(double(2.0))
        conversation.answer_to(prompt("to fail", "fails at the end"))
        name = dict(conversation.call.initial_metadata())["x-request-id"]
        conversation.end()
        counts = {
            status: counted(
                served,
                "http_server_request_duration_seconds_count",
                http_route=STREAM,
                http_response_status_code=status,
            )
            for status in ("200", "500")
        }

    failed = [span for span in sink.spans if span.name == STREAM[1:]]  # stopping flushes
    assert len(name) == 32
    assert counts == {"200": 2, "500": 1}
    assert [values(span.attributes)["slipway.kept"] for span in failed] == ["error"]
