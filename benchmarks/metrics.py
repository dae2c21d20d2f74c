"""What counting costs: one event in a worker, and one scrape in the supervisor.

    uv run python benchmarks/metrics.py

Each figure is the best of five rounds, in one process, less the cost of an empty call where it says `net`.
Beside slipway stands prometheus_client in one process, and in its multiprocess mode with a file a worker.
"""

import os
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable

from prometheus_client import generate_latest

from slipway_signals import metrics
from slipway_signals.collector import MergedCollector, make_registry
from slipway_signals.instruments import ServiceMetrics
from slipway_signals.slots import Slots

ROUNDS = 5
CALLS = 100_000
ROUTES = [f"/route-{number}" for number in range(20)]
STATUSES = (200, 400, 422, 429, 500)

PEER = """
import timeit, sys
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
registry = CollectorRegistry()
hits = Counter("hits", "Hits.", ["route"], registry=registry)
waits = Histogram("waits", "Waits.", ["method", "route", "status"], registry=registry)
hit, wait = hits.labels("/predict"), waits.labels("POST", "/predict", "200")
def best(call, calls): return min(timeit.repeat(call, number=calls, repeat=5)) / calls * 1e6
nothing = best(lambda: None, 100_000)
print(best(hit.inc, 100_000) - nothing)
print(best(lambda: wait.observe(0.0123), 100_000) - nothing)
print(best(lambda: waits.labels("POST", "/predict", "200").observe(0.0123), 100_000) - nothing)
"""


def best_us(call: Callable[[], object], calls: int = CALLS) -> float:
    """Microseconds a call, the best round."""
    return min(timeit.repeat(call, number=calls, repeat=ROUNDS)) / calls * 1e6


def event_rows() -> list[tuple[str, float, str]]:
    """The cost of one event in a worker."""
    slots, fd = Slots.create()
    os.close(fd)
    service = ServiceMetrics(slots, service="churn", routes=["/predict"], models=["churn"])
    hit, wait = slots.counter(metrics.ADMITTED, "churn"), slots.histogram(metrics.QUEUE_WAIT, "churn")
    nothing = best_us(lambda: None)
    request, batch = service.request, service.batch
    rows = [
        ("Counter.inc", best_us(hit.inc), "0.2"),
        ("Gauge.add", best_us(lambda: service.active.add(1.0)), "0.2"),
        ("Histogram.observe", best_us(lambda: wait.observe(0.0123)), "0.4"),
        ("ServiceMetrics.request", best_us(lambda: request("/predict", "POST", 200, 0.0123)), "1.0"),
        ("ServiceMetrics.request, hostile path", best_us(lambda: request("/x", "POST", 404, 0.0123)), "1.0"),
        ("ServiceMetrics.admitted", best_us(lambda: service.admitted("churn")), "0.5"),
        ("ServiceMetrics.batch (once a batch)", best_us(lambda: batch("churn", 12, 0.001, 0.0003, "full")), ""),
    ]
    return [(name, cost - nothing, limit) for name, cost, limit in rows]


def peer_rows() -> list[tuple[str, float, str]]:
    """prometheus_client, in one process and in multiprocess mode."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for mode, env in (("one process", {}), ("multiprocess", {"PROMETHEUS_MULTIPROC_DIR": folder})):
            argv = [sys.executable, "-c", PEER]
            done = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, check=True)
            names = ("inc", "observe", "labels().observe")
            costs = zip(names, done.stdout.split(), strict=True)
            rows += [(f"prometheus_client {name}, {mode}", float(cost), "") for name, cost in costs]
    return rows


def scrape_rows() -> list[tuple[str, float, str]]:
    """The cost of one scrape of 20 routes × 5 statuses (2,000 samples and more), by number of workers."""
    rows = []
    for workers in (1, 4, 16):
        collector = MergedCollector()
        for number in range(workers):
            fd = collector.open(f"api-{number}.1")
            service = ServiceMetrics(Slots.attach(fd), service="churn", routes=ROUTES, models=["churn"])
            os.close(fd)
            for route in ROUTES:
                for status in STATUSES:
                    service.request(route, "POST", status, 0.0123)
        registry = make_registry(collector)
        samples = sum(len(family.samples) for family in collector.collect())
        merge = best_us(lambda one=collector: list(one.collect()), 5)  # type: ignore[misc]
        page = best_us(lambda one=registry: generate_latest(one), 5)  # type: ignore[misc]
        rows.append((f"merge {samples} samples of {workers} workers", merge, ""))
        rows.append((f"whole page of {samples} samples, {workers} workers", page, ""))
    return rows


def main() -> None:
    """Print the table."""
    print(f"{'what':<56} {'µs':>10}  limit")
    for name, cost, limit in [*event_rows(), *peer_rows(), *scrape_rows()]:
        print(f"{name:<56} {cost:>10.3f}  {limit}")


if __name__ == "__main__":
    main()
