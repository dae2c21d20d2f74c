"""Traces and logs of a served service: one request seen from outside to the model, in process and through a runner."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from otlp_sink import Sink, collector, values
from pool_folders import write_obedient
from serve_process import Served, serving
from test_serve_upstream_chain import write_relay
from upstream_servers import neighbour

ROW = {"tenure_days": 4.0, "mean_charge": 1.0, "action": 0.0}
RAISE = 3.0
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
PLACES = {"in_process": "", "pool": "\n[runtime.models.obedient]\npool = { replicas = 1 }\n"}


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A collector."""
    with collector() as sink:
        yield sink


@pytest.fixture(params=PLACES)
def traced(request: pytest.FixtureRequest, tmp_path: Path, sink: Sink) -> Iterator[tuple[Served, str]]:
    """A service whose traces go to the collector, and where its model runs; nothing is drawn."""
    folder = write_obedient(tmp_path / "o", PLACES[request.param])
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_TRACES_SAMPLER_ARG": "0"}
    with serving(folder, store=tmp_path / "store", env=env) as served:
        yield served, request.param


def test_a_sampled_request_is_one_trace_down_to_the_batch(traced: tuple[Served, str], sink: Sink) -> None:
    served, place = traced
    with served.client() as client:
        assert client.post("/predict", json=ROW, headers=SAMPLED).status_code == 200
    spans = {span.name: span for span in sink.wait_named("POST /predict") if span.trace_id.hex() == TRACE}

    server = spans["POST /predict"]
    assert server.parent_span_id.hex() == PARENT
    assert values(server.attributes)["http.route"] == "/predict"
    assert values(server.attributes)["http.response.status_code"] == 200
    inner = {name: span for name, span in spans.items() if span.parent_span_id == server.span_id}
    predict = next(span for name, span in inner.items() if "predict" in name and span is not server)
    told = values(predict.attributes)
    assert told["slipway.batch.rows"] == 1
    assert told["slipway.lane"] == place
    assert told.get("slipway.replica", "") == ("" if place == "in_process" else "o-obedient-0")
    for span in inner.values():
        assert server.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= server.end_time_unix_nano


def test_loading_a_model_is_a_trace_of_its_own(minimal: Path, tmp_path: Path, sink: Sink) -> None:
    with serving(minimal, store=tmp_path / "store", env={"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}):
        (load,) = sink.wait_spans(1)

    assert "load" in load.name
    assert "minimal" in values(load.attributes).values()
    assert load.end_time_unix_nano > load.start_time_unix_nano


def test_a_request_that_fails_is_kept_though_nobody_sampled_it(traced: tuple[Served, str], sink: Sink) -> None:
    served, _ = traced
    with served.client() as client:
        for _ in range(20):
            assert client.post("/predict", json=ROW).status_code == 200
        failed = client.post("/predict", json={**ROW, "action": RAISE})
    spans = sink.wait_named("POST /predict")

    assert failed.status_code == 500
    kept = [values(span.attributes) for span in spans if span.name == "POST /predict"]
    assert 500 in [told["http.response.status_code"] for told in kept]
    lines = [json.loads(line) for line in served.said().splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line.get("event") == "request_completed" and line.get("status") == 500]
    assert line["route"] == "/predict"
    assert len(line["trace_id"]) == 32
    assert str(ROW["tenure_days"]) not in json.dumps(line)


def test_the_bucket_of_a_kept_request_points_to_its_trace(traced: tuple[Served, str], sink: Sink) -> None:
    served, _ = traced
    with served.client() as client:
        client.post("/predict", json=ROW, headers=SAMPLED)
    sink.wait_spans(1)

    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    page = httpx.get(f"{served.admin}/metrics", headers=accept).text
    pointing = [line for line in page.splitlines() if f'trace_id="{TRACE}"' in line]
    assert pointing
    assert all(line.startswith("http_server_request_duration_seconds_bucket{") for line in pointing)


def test_a_called_service_is_told_the_trace(tmp_path: Path, sink: Sink) -> None:
    with neighbour() as last:
        folder = write_relay(tmp_path / "telling", "telling", last.url)
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_TRACES_SAMPLER_ARG": "0"}
        with serving(folder, store=tmp_path / "store", env=env) as served:
            customer = {"tenure_days": 10.0, "mean_charge": 1.0}
            assert httpx.post(f"{served.url}/relay", json=customer, headers=SAMPLED).status_code == 200
            server = next(span for span in sink.wait_named("POST /relay") if span.name == "POST /relay")

    version, trace, parent, flags = last.seen[0].headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert parent == server.span_id.hex()
