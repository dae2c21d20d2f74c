"""One trace over two servers: the call of a remote lane belongs to one of the requests that are in it."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from far_servers import Foreign, foreign
from grpc_service import wait_until
from otlp_sink import Sink, collector
from serve_folders import write_minimal
from serve_process import Served, serving

from slipway_serve.lanes import Caller, call_headers
from slipway_signals.traces_context import format_traceparent
from slipway_signals.traces_record import RequestTrace

SCHEMES = ("grpc", "http")
ROW = {"tenure_days": 900.0, "mean_charge": 12.5}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def traced(number: int, flag: str) -> dict[str, str]:
    """Headers of a caller whose trace has this number."""
    return {"traceparent": f"00-{number:032x}-{PARENT}-{flag}"}


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A collector."""
    with collector() as sink:
        yield sink


def environment(sink: Sink) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_TRACES_SAMPLER_ARG": "0"}


def write_near(folder: Path, name: str, remote: str, more: str = "") -> Path:
    return write_minimal(folder, name, f'\n[runtime.models.{name}]\nremote = "{remote}"\n{more}')


def write_beside(folder: Path, name: str, far: Foreign, scheme: str, more: str = "") -> Path:
    """A service whose model is at a server that is not slipway, and answers one half."""
    far.spoil = lambda raw: np.full(len(raw) // 4, 0.5, "<f4").tobytes()
    settings = write_near(folder, name, far.url(scheme), more) / "slipway.toml"
    settings.write_text(settings.read_text().replace('"probability"', '"margin"'))
    return folder


def address_of(far: Served, scheme: str) -> str:
    found = re.search(r"grpc +(\S+)", far.said()) if scheme == "grpc" else None
    return far.url.removeprefix("http://") if found is None else found[1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_a_far_server_did_is_a_child_of_the_request_that_it_did_it_for(
    tmp_path: Path, sink: Sink, scheme: str
) -> None:
    far_folder = write_minimal(tmp_path / "far", f"far_{scheme}")
    flags: dict[str, object] = {"grpc": True, "grpc_port": 0}
    with serving(far_folder, store=tmp_path / "far-store", flags=flags, env=environment(sink)) as far:
        remote = f"{scheme}://{address_of(far, scheme)}/far_{scheme}"
        near_folder = write_near(tmp_path / "near", f"near_{scheme}", remote)
        with serving(near_folder, store=tmp_path / "near-store", env=environment(sink)) as near:
            sent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=7"}
            answer = httpx.post(f"{near.url}/predict", json=ROW, headers=sent)
            failed = httpx.post(f"{near.url}/predict", json={**ROW, "tenure_days": -1.0}, headers=traced(7, "00"))

    assert (answer.status_code, failed.status_code) == (200, 422)
    spans = [span for span in sink.wait_spans(8) if span.trace_id.hex() == TRACE]
    (here,) = [span for span in spans if span.name == "POST /predict"]
    there = "inference.GRPCInferenceService/ModelInfer" if scheme == "grpc" else f"POST /v2/models/far_{scheme}/infer"
    (server,) = [span for span in spans if span.name == there]
    assert server.parent_span_id == here.span_id
    assert server.trace_state == here.trace_state == "vendor=7"
    inner = {span.name for span in spans if span.parent_span_id == server.span_id}
    assert {"decode", "queue", "predict", "encode", "send"} <= inner


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_call_for_several_requests_belongs_to_the_first_that_is_sampled(
    tmp_path: Path, sink: Sink, scheme: str
) -> None:
    with foreign() as far:
        name = f"mixed_{scheme}"
        folder = write_beside(tmp_path / "near", name, far, scheme, "calls = 1\nqueue_rows = 64\nmax_rows = 4\n")
        patient = {"x-slipway-timeout-ms": "20000"}
        with serving(folder, store=tmp_path / "store", env=environment(sink)) as near, ThreadPoolExecutor(8) as pool:
            far.asked.clear()

            def ask(headers: dict[str, str]) -> Any:
                return pool.submit(httpx.post, f"{near.url}/predict", json=ROW, headers=headers | patient, timeout=30)

            def queued(number: float) -> bool:
                return admitted(near) == number

            far.patience.clear()
            before = admitted(near)
            calls = [ask({})]
            wait_until(lambda: len(far.asked) == 1)
            for number, headers in enumerate((traced(2, "00"), traced(3, "01"), traced(4, "01"), {}), start=2):
                calls.append(ask(headers))
                wait_until(partial(queued, before + number))
            far.patience.set()
            answers = [call.result(30) for call in calls]

            last = httpx.post(f"{near.url}/predict", json=ROW)  # traces are on, and nobody sampled it

    assert [answer.status_code for answer in (*answers, last)] == [200] * 6
    first, several, alone = (asked["traceparent"].split("-") for asked in far.asked)
    assert int(several[1], 16) == 3
    assert several[3] == "01"
    server = next(span for span in sink.spans if span.name == "POST /predict" and int(span.trace_id.hex(), 16) == 3)
    assert several[2] == server.span_id.hex()
    assert (first[3], alone[3]) == ("00", "00")


def admitted(near: Served) -> float:
    """Requests that wait for the far model, or have."""
    lines = [line for line in near.metrics().splitlines() if line.startswith("slipway_requests_admitted_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_without_traces_a_far_server_is_told_nothing(tmp_path: Path) -> None:
    with foreign() as far:
        folder = write_beside(tmp_path / "near", "silent", far, "http")
        with serving(folder, store=tmp_path / "store") as near:
            assert httpx.post(f"{near.url}/predict", json=ROW, headers=traced(1, "01")).status_code == 200

    assert far.asked
    assert all("traceparent" not in asked for asked in far.asked)


def record(*, is_sampled: bool) -> RequestTrace:
    return RequestTrace("/predict", "POST", "/predict", 0.0, None, is_sampled)


def test_whose_call_it_is() -> None:
    first, second, sampled, later = (record(is_sampled=number >= 2) for number in range(4))

    def parent(trace: RequestTrace) -> dict[str, str]:
        return {"traceparent": format_traceparent(*trace.ids(), is_sampled=trace.is_sampled)}

    def users(*traces: RequestTrace | None) -> list[Caller]:
        return [Caller(trace, is_synthetic=False) for trace in traces]

    assert call_headers(users(None, first, second, sampled, later)) == parent(sampled)
    assert call_headers(users(None, first, second)) == parent(first)
    assert call_headers(users(None, None)) == {}
    assert call_headers([]) == {}


def test_a_call_is_synthetic_if_all_are_that_it_is_made_for() -> None:
    probe, user = Caller(None, is_synthetic=True), Caller(None, is_synthetic=False)

    assert call_headers([probe, probe]) == {"x-slipway-synthetic": "1"}
    assert call_headers([probe, user]) == {}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_far_server_is_told_that_a_request_is_synthetic(tmp_path: Path, scheme: str) -> None:
    with foreign() as far:
        folder = write_beside(tmp_path / "near", f"probed_{scheme}", far, scheme)
        settings = folder / "slipway.toml"
        settings.write_text(settings.read_text() + "\n[runtime.server]\ntrust_synthetic = true\n")
        with serving(folder, store=tmp_path / "store") as near:
            far.asked.clear()
            for headers in ({"x-slipway-synthetic": "probe"}, {}):
                assert httpx.post(f"{near.url}/predict", json=ROW, headers=headers).status_code == 200

    assert ["x-slipway-synthetic" in asked for asked in far.asked] == [True, False]
