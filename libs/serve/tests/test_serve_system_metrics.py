"""What a served service says of its surroundings: memory, cost, calls that it makes, calls that come again."""

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serve_folders import write_minimal
from serve_process import Served, serving
from test_serve_upstream_chain import write_relay
from upstream_servers import Reply, neighbour

PROMISE = """
apiVersion: openslo/v1
kind: SLO
metadata:
  name: costly-latency
  annotations: {slipway.dev/owner: team-costly, slipway.dev/alerting: mwmb-30d, slipway.dev/low-traffic: poisson-lcb}
spec:
  service: costly
  budgetingMethod: Occurrences
  timeWindow: [{duration: 30d, isRolling: true}]
  indicator:
    metadata: {name: costly-fast-enough}
    spec:
      ratioMetric:
        counter: true
        good:
          metricSource:
            type: Prometheus
            spec: {query: 'http_server_request_duration_seconds_bucket{http_route="/predict",le="0.123"}'}
        total:
          metricSource:
            type: Prometheus
            spec: {query: 'http_server_request_duration_seconds_count{http_route="/predict"}'}
  objectives: [{displayName: fast, target: 0.99}]
"""
REQUEST_SUM = "http_server_request_duration_seconds_sum"
HELD_S = 1.0
CUSTOMER = {"tenure_days": 10.0, "mean_charge": 1.0}


def shown(served: Served, name: str) -> dict[tuple[str, ...], float]:
    """Label values → value of a metric's samples."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(served.metrics())
        for sample in family.samples
        if sample.name == name
    }


def test_calls_of_other_services_are_counted_and_the_repeated_ones_apart(tmp_path: Path) -> None:
    with neighbour(lambda number: Reply(503) if number < 1 else Reply()) as last:
        peer = last.url.removeprefix("http://")
        folder = write_relay(tmp_path / "relaying", "relaying", last.url)
        with serving(folder, store=tmp_path / "store") as served:
            answer = httpx.post(f"{served.url}/relay", json=CUSTOMER)
            attempts = shown(served, "slipway_client_attempts_total")
            retries = shown(served, "slipway_client_retries_total")

    assert answer.json() == {"status": 200}
    assert attempts == {(peer,): 2}
    assert retries == {(peer, "status"): 1}
    assert [seen.headers.get("x-slipway-attempt") for seen in last.seen] == [None, "2"]


@pytest.mark.parametrize(
    ("name", "value", "counted"),
    [
        ("x-slipway-attempt", "2", 1),
        ("x-envoy-attempt-count", "3", 1),
        ("x-envoy-attempt-count", "1", 0),
        ("x-slipway-attempt", "9" * 5_000, 0),
        ("x-slipway-attempt", "-2", 0),
        ("x-other", "2", 0),
    ],
)
def test_requests_that_come_again_are_counted(system: Served, name: str, value: str, counted: int) -> None:
    before = shown(system, "slipway_requests_repeated_total")[()]

    assert httpx.post(f"{system.url}/predict", json=CUSTOMER, headers={name: value}).status_code == 200

    assert shown(system, "slipway_requests_repeated_total")[()] == before + counted


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not tell")
def test_memory_is_shown_for_every_worker(system: Served) -> None:
    memory = shown(system, "slipway_process_memory_bytes")

    assert set(memory) == {("proportional", "api-0"), ("resident", "api-0")}
    assert 10e6 < memory["proportional", "api-0"] <= memory["resident", "api-0"] < 2e9


def test_a_worker_that_is_held_shows_what_no_latency_does(system: Served) -> None:
    """The request waits in the socket: its clock has not begun."""
    (worker,) = system.workers()
    before, known = ticks(system), shown(system, REQUEST_SUM)

    worker.send_signal(signal.SIGSTOP)
    threading.Timer(HELD_S, worker.send_signal, [signal.SIGCONT]).start()
    answer = httpx.post(f"{system.url}/predict", json=CUSTOMER, timeout=30)
    told_s = sum(shown(system, REQUEST_SUM).values()) - sum(known.values())
    late = until_more(system, before)

    assert answer.elapsed.total_seconds() > 0.8 * HELD_S
    assert told_s < 0.3 * HELD_S
    assert late > 0.5 * HELD_S / 0.1


def ticks(served: Served) -> float:
    """How many were more than a quarter of a second late."""
    labelled = {labels[0]: value for labels, value in shown(served, "slipway_event_loop_lag_seconds_bucket").items()}
    return labelled["+Inf"] - labelled["0.25"]


def until_more(served: Served, before: float) -> float:
    """How many more there are as soon as there are any: the worker ticks ten times a second."""
    for _ in range(200):
        if more := ticks(served) - before:
            return more
        threading.Event().wait(0.02)
    raise AssertionError("no tick was late")


def test_the_threshold_of_an_objective_is_a_bucket(system: Served) -> None:
    httpx.post(f"{system.url}/predict", json=CUSTOMER)
    buckets = {
        sample.labels["le"]
        for family in text_string_to_metric_families(system.metrics())
        for sample in family.samples
        if sample.name == "http_server_request_duration_seconds_bucket"
    }

    assert "0.123" in buckets


def test_cost_is_what_the_configuration_says(system: Served) -> None:
    assert shown(system, "slipway_cost_usd_per_hour") == {(): 1.5}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One served service for the tests that only look."""
    tmp_path = tmp_path_factory.mktemp("system")
    folder = write_minimal(tmp_path / "costly", "costly", runtime="\n[runtime.cost]\nusd_per_hour = 1.5\n")
    (folder / "slo.yaml").write_text(PROMISE)
    with serving(folder, store=tmp_path / "store") as served:
        yield served


def test_an_error_is_shown_before_it_happens(tmp_path: Path) -> None:
    folder = write_minimal(tmp_path / "expecting", "expecting")
    with serving(folder, store=tmp_path / "store") as served:
        counts = shown(served, "http_server_request_duration_seconds_count")

    statuses = {status for labels in counts for status in labels if status.isdigit()}
    assert statuses == {"200", "422", "429", "500", "503", "504"}
    assert set(counts.values()) == {0.0}
