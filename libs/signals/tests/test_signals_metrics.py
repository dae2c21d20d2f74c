import os
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slot_writers import read_once, values

from slipway_signals import metrics, metrics_access, metrics_capture, metrics_drift, metrics_split, metrics_traces
from slipway_signals.instruments import LoopLag, ServiceMetrics, SupervisorMetrics
from slipway_signals.slots import Slots


@pytest.fixture
def slot() -> Iterator[tuple[Slots, int]]:
    slots, fd = Slots.create()
    yield slots, fd
    os.close(fd)


@pytest.mark.parametrize("metric", metrics.ALL, ids=lambda metric: metric.name)
def test_a_definition_follows_the_rules_of_prometheus(metric: metrics.Metric) -> None:
    assert re.fullmatch(r"(http_server|slipway)_[a-z_]+", metric.name)
    assert metric.help.endswith(".")
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert (metric.kind == "histogram") == bool(metric.bounds)
    assert list(metric.bounds) == sorted(set(metric.bounds))
    assert all(re.fullmatch(r"[a-z_]+", label) for label in metric.labels)


def test_every_definition_of_the_module_is_listed_once() -> None:
    modules = (metrics, metrics_access, metrics_drift, metrics_capture, metrics_split, metrics_traces)
    defined = [value for module in modules for value in vars(module).values() if isinstance(value, metrics.Metric)]

    assert len(metrics.ALL) == len({metric.name for metric in metrics.ALL})
    assert {metric.name for metric in defined} == {metric.name for metric in metrics.ALL}


def test_latency_buckets_hold_the_thresholds_that_objectives_name() -> None:
    assert {0.05, 0.1, 0.2, 0.3} <= set(metrics.REQUEST_DURATION.bounds)


def test_a_services_own_threshold_becomes_a_bucket(slot: tuple[Slots, int]) -> None:
    service = ServiceMetrics(slot[0], service="churn", routes=["/predict"], thresholds_s=[0.15, 0.1])

    service.request("/predict", "POST", 200, 0.15)

    (reading,) = [one for one in read_once(slot[1]).readings if one.metric.name == metrics.REQUEST_DURATION.name]
    assert reading.metric.bounds == tuple(sorted({*metrics.SECONDS, 0.15}))
    assert reading.cells[reading.metric.bounds.index(0.15)] == 1.0


def test_a_request_counts_once_under_its_labels(slot: tuple[Slots, int]) -> None:
    service = ServiceMetrics(slot[0], service="churn", routes=["/predict"])

    service.request("/predict", "POST", 200, 0.004)
    service.request("/predict", "POST", 200, 0.006)
    service.request("/predict", "POST", 422, 0.001)

    seen = values(read_once(slot[1]))
    ok = seen["http_server_request_duration_seconds", "POST", "/predict", "200"]
    bad = seen["http_server_request_duration_seconds", "POST", "/predict", "422"]
    assert sum(ok[:-1]) == 2.0
    assert ok[-1] == pytest.approx(0.010)
    assert (sum(bad[:-1]), bad[-1]) == (1.0, 0.001)


def test_ten_thousand_hostile_paths_methods_and_statuses_make_a_handful_of_series(slot: tuple[Slots, int]) -> None:
    service = ServiceMetrics(slot[0], service="churn", routes=["/predict"])

    for number in range(10_000):
        service.request(f"/wp-admin/{number}?x=\x00\n", f"M{number}", 404, 0.001)
        service.request("/predict", f"GET\r\n{number}", 405, 0.001)
        service.request("unmatched", "POST", 1000 + number, 0.001)

    rows = [one for one in read_once(slot[1]).readings if one.metric.name == metrics.REQUEST_DURATION.name]
    assert {one.values: sum(one.cells[:-1]) for one in rows} == {
        ("OTHER", "unmatched", "404"): 10_000.0,
        ("OTHER", "/predict", "405"): 10_000.0,
        ("POST", "unmatched", "other"): 10_000.0,
    }
    assert len(service._requests) == 3
    assert slot[0].dropped == 0


@given(st.lists(st.tuples(st.text(), st.text(), st.integers()), max_size=30))
def test_every_request_is_counted_whatever_it_says(requests: list[tuple[str, str, int]]) -> None:
    slots, fd = Slots.create()
    service = ServiceMetrics(slots, service="churn", routes=["/predict"])

    for route, method, status in requests:
        service.request(route, method, status, 0.01)
    rows = [one for one in read_once(fd).readings if one.metric.name == metrics.REQUEST_DURATION.name]
    os.close(fd)

    assert sum(sum(one.cells[:-1]) for one in rows) == len(requests)


def test_the_events_of_a_pool_are_counted(slot: tuple[Slots, int]) -> None:
    service = ServiceMetrics(slot[0], service="churn", models=["churn"])

    service.admitted("churn")
    service.refused("churn", "queue_full")
    service.expired("churn", 2)
    service.cancelled("churn", 3)
    service.failed("churn", 4)
    service.invalid("churn")
    service.answered("churn", 12)
    service.batch("churn", 16, waited_s=0.002, compute_s=0.0003, reason="knee")

    seen = values(read_once(slot[1]))
    assert seen["slipway_requests_admitted_total", "churn"] == [1.0]
    assert seen["slipway_requests_shed_total", "churn", "queue_full"] == [1.0]
    assert {key[2]: cells[0] for key, cells in seen.items() if key[0] == "slipway_inferences_total"} == {
        "ok": 12.0,
        "error": 4.0,
        "timeout": 2.0,
        "cancelled": 3.0,
        "invalid": 1.0,
    }
    assert seen["slipway_inference_batch_size", "churn"][-1] == 16.0
    assert seen["slipway_queue_wait_seconds", "churn"][-1] == 0.002
    assert seen["slipway_inference_duration_seconds", "churn", "compute"][-1] == 0.0003
    assert seen["slipway_batch_release_total", "churn", "knee"] == [1.0]


def test_only_rows_that_reached_their_callers_are_ok(slot: tuple[Slots, int]) -> None:
    service = ServiceMetrics(slot[0], service="churn", models=["churn"])

    service.failed("churn", 3)
    service.answered("churn", 5)
    service.batch("churn", 8, 0.0, 0.0, "full")

    seen = values(read_once(slot[1]))
    assert seen["slipway_inferences_total", "churn", "ok"] == [5.0]
    assert seen["slipway_inferences_total", "churn", "error"] == [3.0]


def test_a_route_announced_later_is_known(slot: tuple[Slots, int]) -> None:
    service = ServiceMetrics(slot[0], service="churn", routes=["/predict"])

    service.announce(["/v2/health/live"])
    service.request("/v2/health/live", "GET", 200, 0.001)

    seen = values(read_once(slot[1]))
    assert ("http_server_request_duration_seconds", "GET", "/v2/health/live", "200") in seen


def test_models_and_reasons_that_nobody_announced_are_bounded(slot: tuple[Slots, int]) -> None:
    service = ServiceMetrics(slot[0], service="churn", models=["churn"])

    for number in range(1000):
        service.admitted(f"model-{number}")
        service.refused("churn", f"reason-{number}")
        service.batch("churn", 1, 0.0, 0.0, f"reason-{number}")
        service.model_loaded(f"model-{number}", "", 0.1)

    seen = values(read_once(slot[1]))
    assert seen["slipway_requests_admitted_total", "other"] == [1000.0]
    assert sum(cells[0] for key, cells in seen.items() if key[0] == "slipway_requests_shed_total") == 1000.0
    assert sum(key[0] == "slipway_requests_shed_total" for key in seen) == 17
    assert len(seen) < 80


def test_a_loaded_model_is_shown_with_its_digest(slot: tuple[Slots, int]) -> None:
    service = ServiceMetrics(
        slot[0], service="churn", version="3", digest="sha256:ab", slipway_version="0.1.0", models=["churn"]
    )

    service.model_loaded("churn", "sha256:cd", 0.2)
    service.model_ready("churn", is_ready=False)
    service.active.add(1)

    seen = values(read_once(slot[1]))
    assert seen["slipway_model_info", "churn", "sha256:cd"] == [1.0]
    assert seen["slipway_model_ready", "churn"] == [0.0]
    assert seen["slipway_build_info", "churn", "3", "sha256:ab", "0.1.0"] == [1.0]
    assert seen["http_server_active_requests",] == [1.0]


def lateness(fd: int) -> tuple[dict[float, float], float]:
    """Ticks by the bound they were late up to, those with none left out; the sum of their seconds."""
    (reading,) = [one for one in read_once(fd).readings if one.metric.name == metrics.LOOP_LAG.name]
    bounds = (*reading.metric.bounds, float("inf"))
    counts = dict(zip(bounds, reading.cells[:-1], strict=True))
    return {bound: count for bound, count in counts.items() if count}, reading.cells[-1]


def test_a_loop_that_is_held_shows_what_its_requests_wait(slot: tuple[Slots, int]) -> None:
    """Held for a second it was late for whoever came within it, not once."""
    lag = LoopLag(slot[0])

    for now in (100.0, 100.1, 100.2, 101.23, 101.33):
        lag.ticked(now)

    counts, sum_s = lateness(slot[1])
    assert counts == {0.005: 3, 0.05: 1, 0.25: 2, 0.5: 2, 1.0: 5}
    assert sum_s == pytest.approx(0.93 + 0.83 + 0.73 + 0.63 + 0.53 + 0.43 + 0.33 + 0.23 + 0.13 + 0.03)


def test_a_tick_that_comes_early_is_not_late(slot: tuple[Slots, int]) -> None:
    lag = LoopLag(slot[0])

    for now in (5.0, 5.099, 5.198):
        lag.ticked(now)

    assert lateness(slot[1]) == ({0.005: 2}, 0.0)
    assert slot[0].ignored == 0


def test_a_pause_of_a_day_is_made_up_for_in_a_moment(slot: tuple[Slots, int]) -> None:
    lag = LoopLag(slot[0])

    for now in (0.0, 86_400.0):
        lag.ticked(now)

    assert lateness(slot[1])[0] == {float("inf"): 600}


def test_a_supervisor_shows_its_workers(slot: tuple[Slots, int]) -> None:
    supervisor = SupervisorMetrics(slot[0], workers=["api-0", "api-1"])

    supervisor.restarted("api-1")
    supervisor.crash_looping("api-1", is_looping=True)
    supervisor.states({"ready": 2, "draining": 0})
    supervisor.states({"ready": 1, "draining": 1})

    seen = values(read_once(slot[1]))
    assert seen["slipway_worker_restarts_total", "api-0"] == [0.0]
    assert seen["slipway_worker_restarts_total", "api-1"] == [1.0]
    assert seen["slipway_worker_crash_looping", "api-1"] == [1.0]
    assert seen["slipway_workers", "ready"] == [1.0]
    assert seen["slipway_workers", "draining"] == [1.0]
