"""The exporter is a process of its own: what becomes of traces, and of requests, when it or the collector is gone."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from otlp_sink import Sink, collector, values
from pool_folders import write_obedient
from serve_process import Served, serving

ROW = {"tenure_days": 4.0, "mean_charge": 1.0, "action": 0.0}
TRACE = "4bf92f3577b34da6a3ce929d0e0e47{:02x}"
ENV = {"OTEL_TRACES_SAMPLER_ARG": "0", "OTEL_SERVICE_NAME": ""}


@pytest.fixture
def sink() -> Iterator[Sink]:
    with collector() as sink:
        yield sink


@pytest.fixture
def traced(tmp_path: Path, sink: Sink) -> Iterator[Served]:
    env = {**ENV, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
    with serving(write_obedient(tmp_path / "o", ""), store=tmp_path / "store", flags={"workers": 2}, env=env) as served:
        yield served


def ask(served: Served, *numbers: int) -> None:
    """A sampled request of each trace, on a connection of its own, so that any API worker may take it."""
    for number in numbers:
        headers = {"traceparent": f"00-{TRACE.format(number)}-00f067aa0ba902b7-01"}
        assert httpx.post(f"{served.url}/predict", json=ROW, headers=headers).status_code == 200


def exporters(served: Served) -> list[psutil.Process]:
    alive = [p for p in psutil.Process(served.process.pid).children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in alive if "slipway_serve.exporter" in p.cmdline()]


def traces(sink: Sink, count: int) -> set[str]:
    """Ids of the traces that came, once there are servers' spans of so many."""
    ends = time.monotonic() + 20.0
    found: set[str] = set()
    while len(found) < count and time.monotonic() < ends:
        spans = sink.wait_spans(len(sink.spans) + 1, 0.1)
        found = {span.trace_id.hex() for span in spans if span.name == "POST /predict"}
    return found


def test_all_api_workers_write_to_one_exporter_and_keep_their_names(traced: Served, sink: Sink) -> None:
    ask(traced, *range(40))

    assert traces(sink, 40) == {TRACE.format(number) for number in range(40)}
    assert len(exporters(traced)) == 1
    instances = {str(told["service.instance.id"]).split("/")[-1] for told in sink.resources}
    assert instances == {"api-0", "api-1"}
    assert {told["service.name"] for told in sink.resources} == {"obedient"}


def test_traces_outlive_an_exporter_that_is_killed(traced: Served, sink: Sink) -> None:
    ask(traced, 1)
    traces(sink, 1)
    (killed,) = exporters(traced)

    killed.send_signal(signal.SIGSTOP)
    ask(traced, *range(2, 12))  # they wait in the pipe
    killed.kill()

    assert traces(sink, 11) == {TRACE.format(number) for number in range(1, 12)}
    assert [one.pid for one in exporters(traced)] != [killed.pid]


def test_a_reload_keeps_the_exporter_and_loses_no_trace(traced: Served, sink: Sink) -> None:
    before = [one.pid for one in exporters(traced)]
    first = {one.pid for one in traced.workers()}

    traced.process.send_signal(signal.SIGHUP)
    number = 0
    while {one.pid for one in traced.workers()} & first:
        ask(traced, number)
        number = min(number + 1, 250)
    ask(traced, 251)

    assert TRACE.format(251) in traces(sink, number + 1)
    assert [one.pid for one in exporters(traced)] == before
    assert {told["service.name"] for told in sink.resources} == {"obedient"}


def test_a_server_whose_collector_never_answers_stops_in_time(tmp_path: Path, sink: Sink) -> None:
    sink.hangs = True
    env = {**ENV, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url}
    with serving(write_obedient(tmp_path / "o", ""), store=tmp_path / "store", env=env) as served:
        ask(served, 1)
        assert sink.wait_posts(1)

        began = time.monotonic()
        status = served.stop()
        took_s = time.monotonic() - began

    assert status == 0
    assert took_s < 8.0  # 2 s of `flush_s`, and the server's own; the exporter's timeout would be 10 s more
    assert "traces_not_flushed" in served.said()


def test_what_was_kept_last_is_sent_before_the_server_is_gone(traced: Served, sink: Sink) -> None:
    ask(traced, *range(10))

    assert traced.stop() == 0

    assert {span.trace_id.hex() for span in sink.spans if values(span.attributes).get("http.route")} == {
        TRACE.format(number) for number in range(10)
    }


def test_a_killed_supervisor_leaves_no_exporter_behind(traced: Served, sink: Sink) -> None:
    ask(traced, 1)
    (exporter,) = exporters(traced)

    traced.process.kill()

    exporter.wait(20)
    assert TRACE.format(1) in traces(sink, 1)
