import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from otlp_sink import Sink, collector

from slipway_signals import Slots, metrics, metrics_traces
from slipway_signals.traces_export import Export
from slipway_signals.traces_record import RequestTrace
from slipway_signals.traces_spans import OtlpSender
from slipway_signals.tracing import Tracer, TracingConfig, start_tracing


@pytest.fixture
def sink() -> Iterator[Sink]:
    with collector() as sink:
        yield sink


class Exported:
    """An export to `url`, and what it counts."""

    def __init__(
        self, url: str, *, queue: int = 1_024, gather_s: float = 0.01, waits_s: Sequence[float] = (0.01,)
    ) -> None:
        slots, _ = Slots.create()
        self.dropped = slots.counter(metrics.TELEMETRY_DROPPED, metrics_traces.DROPPED_TRACES)
        self.exported = slots.counter(metrics_traces.TRACES_EXPORTED)
        self.failures = slots.counter(metrics_traces.TRACES_EXPORT_FAILURES)
        self.export = Export(
            OtlpSender(f"{url}/v1/traces", {"service.name": "churn"}),
            queue=queue,
            spans_per_s=10_000,
            dropped=self.dropped,
            exported=self.exported,
            failures=self.failures,
            gather_s=gather_s,
            waits_s=waits_s,
        )

    def offer(self, count: int, kept: str = "error") -> int:
        """Offer requests; returns how many were taken."""
        return sum(self.export.offer(ended(kept)) for _ in range(count))

    @property
    def waiting(self) -> int:
        return len(self.export._urgent) + len(self.export._sampled)


def ended(kept: str = "error") -> RequestTrace:
    now = time.monotonic()
    trace = RequestTrace("/predict", "POST", "/predict", now, None, False)
    trace.ended, trace.status = now, 500 if kept == "error" else 200
    trace.kept = kept  # type: ignore[assignment]  # a word of the closed set
    return trace


def wait_until(is_so: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    """Whether it came to be so in time."""
    ends = time.monotonic() + timeout_s
    nothing = threading.Event()
    while not is_so() and time.monotonic() < ends:
        nothing.wait(0.002)
    return is_so()


@contextmanager
def silent_server() -> Iterator[str]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def longest_offer_s(exported: Exported, count: int) -> float:
    longest = 0.0
    for _ in range(count):
        trace = ended()
        started = time.perf_counter()
        exported.export.offer(trace)
        longest = max(longest, time.perf_counter() - started)
    return longest


def test_not_like_otel_python_3660_a_hanging_collector_holds_up_nobody(sink: Sink) -> None:
    """There an export on the event loop stood still for the exporter's timeout, 10 s and more."""
    sink.hangs = True
    exported = Exported(sink.url, queue=100)
    exported.offer(10)
    assert sink.wait_posts(1)

    longest_s = longest_offer_s(exported, 5_000)

    assert longest_s < 0.5  # the machine's own pauses; a hanging export would be 10 s
    assert exported.waiting == 100
    assert exported.dropped.value == 4_900
    sink.release()
    exported.export.close(5.0)
    assert len(sink.spans) == 110


def test_not_like_otel_python_3886_requests_offered_while_it_exports_and_closes_do_not_deadlock(sink: Sink) -> None:
    """There a thread held the processor's lock for its flush, and whoever ended a span waited for it for ever."""
    exported = Exported(sink.url)
    is_over = threading.Event()
    taken = [0]

    def offer() -> None:
        while not is_over.is_set():
            taken[0] += exported.offer(50)

    thread = threading.Thread(target=offer, daemon=True)
    thread.start()
    assert sink.wait_posts(5)
    exported.export.close(10.0)
    is_over.set()
    thread.join(10.0)

    assert not thread.is_alive()
    assert wait_until(lambda: not exported.export._thread.is_alive())


def test_not_like_otel_python_3307_each_started_process_has_an_exporter_of_its_own(sink: Sink) -> None:
    """There workers forked from a parent with a provider had no thread. Ours begins in the worker, after spawn."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_serve_one, args=(sink.url,)) for _ in range(3)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(60.0)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len({span.trace_id for span in sink.spans}) == len(sink.spans) == 3


def test_ids_of_a_forked_child_are_its_own() -> None:
    """A service may fork, and may seed `random`; neither repeats an id."""
    code = """
import os, random
from slipway_signals.traces_record import RequestTrace
random.seed(1)
if os.fork():
    os.wait()
random.seed(1)
print(RequestTrace("/p", "POST", "/p", 1.0, None, False).ids(), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60)

    assert len(set(done.stdout.splitlines())) == 2


def _serve_one(url: str) -> None:
    tracer = started(url)
    route = tracer.route("/predict", slow_s=1.0)
    route.end(route.begin("POST", "/predict", {}, 1.0), 500, 1.5)
    tracer.close()


def started(url: str) -> Tracer:
    slots, _ = Slots.create()
    tracer = start_tracing(TracingConfig(endpoint=url), {}, slots=slots, service="churn")
    assert tracer is not None
    return tracer


def test_an_unreachable_collector_costs_drops_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    exported = Exported(url, queue=50)

    longest_s = longest_offer_s(exported, 1_000)
    exported.export.close(0.2)

    assert longest_s < 0.5
    assert wait_until(lambda: exported.dropped.value == 1_000)
    assert exported.exported.value == 0


@pytest.mark.parametrize("status", [400, 500])
def test_what_the_collector_refuses_is_dropped_and_counted_and_the_next_is_tried(sink: Sink, status: int) -> None:
    sink.status = status
    exported = Exported(sink.url)

    exported.offer(10)
    assert wait_until(lambda: exported.dropped.value == 10)
    sink.status = 200
    exported.offer(5)

    assert len(sink.wait_spans(5)) == 5
    exported.export.close(5.0)
    assert (exported.exported.value, exported.dropped.value, exported.failures.value) == (5, 10, 1)
    assert exported.export._failed_in_a_row == 0  # the next failure waits for the first of the waits, and is logged


def test_a_busy_collector_is_asked_again_with_the_same_spans(sink: Sink) -> None:
    sink.status = 503
    exported = Exported(sink.url)

    exported.offer(3)
    assert sink.wait_posts(1)
    sink.status = 200

    assert len(sink.wait_spans(3)) == 3
    exported.export.close(5.0)
    assert exported.dropped.value == 0


def test_a_collector_that_never_answers_does_not_hold_up_the_end() -> None:
    with silent_server() as url:
        exported = Exported(url)
        exported.offer(20)
        assert wait_until(lambda: exported.waiting == 0)
        exported.offer(7)

        started_at = time.monotonic()
        exported.export.close(0.3)
        took_s = time.monotonic() - started_at

    assert took_s < 2.0
    assert exported.dropped.value == 27
    assert exported.offer(1) == 0


def test_what_waits_at_the_end_is_sent(sink: Sink) -> None:
    exported = Exported(sink.url, gather_s=60.0)
    exported.offer(200)

    exported.export.close(10.0)

    assert len(sink.spans) == exported.exported.value == 200
    assert exported.dropped.value == 0


def test_a_flood_of_sampled_requests_displaces_no_error(sink: Sink) -> None:
    """Anybody may set the sampled flag; only we say what failed."""
    sink.hangs = True
    exported = Exported(sink.url, queue=100)
    exported.offer(1)
    assert sink.wait_posts(1)

    exported.offer(10_000, "sampled")
    errors = exported.offer(100)
    sink.release()
    exported.export.close(10.0)

    assert errors == 100
    assert len(sink.spans) == 201


def test_every_request_is_exported_or_dropped_never_both(sink: Sink) -> None:
    exported = Exported(sink.url, queue=64)

    offered = 0
    for turn in range(40):
        sink.status = 500 if turn % 3 == 0 else 200
        exported.offer(30)
        offered += 30
        assert wait_until(lambda: exported.waiting < 64)
    sink.status = 200
    exported.export.close(10.0)

    assert wait_until(lambda: not exported.export._thread.is_alive())
    assert exported.exported.value + exported.dropped.value == offered
    assert len(sink.spans) == exported.exported.value


def test_headers_and_compression_of_the_environment_are_the_exporters(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=churn")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    exported = Exported(sink.url)

    exported.offer(1)
    exported.export.close(5.0)

    assert sink.headers[0]["x-tenant"] == "churn"
    assert sink.headers[0]["content-encoding"] == "gzip"
    assert len(sink.spans) == 1


def test_without_traces_opentelemetry_is_not_imported() -> None:
    code = """
import sys
from slipway_signals import Slots
from slipway_signals.tracing import TracingConfig, start_tracing
slots, fd = Slots.create()
assert start_tracing(TracingConfig(), {}, slots=slots, service="churn") is None
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry", "requests", "google"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60)

    assert done.stdout.strip() == "[]"


def test_a_process_that_forgets_to_close_ends_all_the_same(sink: Sink) -> None:
    code = f"""
from slipway_signals import Slots
from slipway_signals.tracing import TracingConfig, start_tracing
slots, fd = Slots.create()
tracer = start_tracing(TracingConfig(endpoint={sink.url!r}), {{}}, slots=slots, service="churn")
route = tracer.route("/predict")
route.end(route.begin("POST", "/predict", {{}}, 1.0), 500, 2.0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, timeout=60, env={**os.environ}
    )

    assert (done.returncode, done.stderr) == (0, b"")
