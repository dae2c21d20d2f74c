"""What traces and log lines cost: a request, a kept request, and what the export takes from an event loop.

    uv run python benchmarks/telemetry.py

Costs of a call are the best of five rounds. For the loop, one process answers requests of 50 µs of Python each, as
fast as it can, and keeps 1 % of them with six spans each; exporter and collector are other processes of the machine.
Beside ours stands OpenTelemetry's own `BatchSpanProcessor` with the same spans. To have all on one core, as in
`serving.py`, put `taskset -c 0` before it.
"""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from slipway_signals import Slots
from slipway_signals.logs_lines import JsonFormatter
from slipway_signals.logs_requests import RequestLog
from slipway_signals.traces_context import parse_context
from slipway_signals.traces_pipe import Ended, Origin, TraceWriter, open_pipe
from slipway_signals.traces_record import RequestTrace, Step, headers_out
from slipway_signals.tracing import RouteTracer, Tracer, TracingConfig

ROUNDS = 5
CALLS = 50_000
LOOP_S = 6.0
WORK = 2_400
"""Turns of an empty loop that are a request: about 50 µs here with its task."""
PLAIN = {b"host": b"churn", b"content-type": b"application/json", b"content-length": b"180"}
CALLED = {**PLAIN, b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}

SINK = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

EXPORTER = """
import os, sys
from slipway_signals import Slots
from slipway_signals.traces_export import start_export
os.nice(10)
start_export(int(sys.argv[1]), sys.argv[2], Slots.create()[0], spans_per_s=2_000)(int(sys.argv[3]))
"""


@dataclass
class Batch:
    """What comes back with an answer."""

    number: int = 7
    rows: int = 8
    sent_at: float = 0.0
    started_at: float = 0.0
    compute_s: float = 0.0005
    reason: str = "full"
    replica: str = ""


def best_us(call: Callable[[], object], calls: int = CALLS) -> float:
    """Microseconds a call, the best round."""
    return min(timeit.repeat(call, number=calls, repeat=ROUNDS)) / calls * 1e6


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """A collector in a process of its own."""
    with subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


@contextlib.contextmanager
def tracing(url: str, ratio: float) -> Iterator[Tracer]:
    """A tracer, and its exporter in a process of its own; "" as URL: nobody reads the pipe."""
    reading, writing = open_pipe()
    awake, wakes = os.pipe()
    tracer = Tracer(TracingConfig(ratio=ratio), TraceWriter(writing, Origin("churn")), Slots.create()[0])
    if not url:
        yield tracer
    else:
        command = [sys.executable, "-c", EXPORTER, str(reading), f"{url}/v1/traces", str(awake)]
        with subprocess.Popen(command, pass_fds=(reading, awake)) as process:
            try:
                yield tracer
            finally:
                os.write(wakes, b"x")
                process.wait(30)
    for fd in (reading, writing, awake, wakes):
        os.close(fd)


def request(route: RouteTracer, headers: dict[bytes, bytes], batch: Batch) -> None:
    """One request as a route of the server tells it, with every mark and one model."""
    now = time.monotonic
    trace = route.begin("POST", "/predict", headers, now())
    trace.received = now()
    trace.decoded = queued = now()
    trace.encoding = answered = now()
    trace.step(Step("churn", queued, answered, batch, "in_process"))
    trace.encoded = now()
    route.end(trace, 200, now())


def clock_reads() -> None:
    """The clock that a request reads, for the table: six times."""
    now = time.monotonic
    (now(), now(), now(), now(), now(), now())


def request_rows() -> list[tuple[str, float, str]]:
    batch = Batch()
    nothing = best_us(lambda: None)
    with tracing("", 0.0) as unsampled, tracing("", 1.0) as sampled:
        fixed, adaptive = unsampled.route("/predict", slow_s=10.0), unsampled.route("/adaptive")
        always = sampled.route("/predict", slow_s=10.0)
        trace = fixed.begin("POST", "/predict", CALLED, 1.0)
        trace.ids()
        rows = [
            ("six reads of the clock (in every row below)", best_us(clock_reads), ""),
            ("request, unsampled", best_us(lambda: request(fixed, PLAIN, batch)), "1.5"),
            ("request, unsampled, threshold learned", best_us(lambda: request(adaptive, PLAIN, batch)), "1.5"),
            ("request, unsampled, with traceparent", best_us(lambda: request(fixed, CALLED, batch)), "2.5"),
            ("  of this parse_context", best_us(lambda: parse_context(CALLED[b"traceparent"])), "1.0"),
            ("request, kept, handed over", best_us(lambda: request(always, PLAIN, batch), 150), ""),
            ("request, kept, pipe full", best_us(lambda: request(always, PLAIN, batch)), ""),
            ("headers_out", best_us(lambda: headers_out(trace)), ""),
        ]
    return [(name, cost - nothing, limit) for name, cost, limit in rows]


def span_rows() -> list[tuple[str, float, str]]:
    """What one kept request costs the exporter."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    from slipway_signals.traces_spans import OtlpSender

    sender = OtlpSender("http://127.0.0.1:9/v1/traces")
    trace = RequestTrace("/predict", "POST", "/predict", 1.0, None, is_sampled=True, kept="sampled", status=200)
    trace.received, trace.decoded, trace.encoding, trace.encoded, trace.ended = 1.1, 1.2, 1.4, 1.5, 1.6
    trace.step(Step("churn", 1.2, 1.4, Batch(rows=1, sent_at=1.25, started_at=1.3)))
    ended = [Ended(Origin("churn"), trace)] * 64
    spans = list(sender.spans(ended))
    made = best_us(lambda: list(sender.spans(ended)), 20) / len(spans)
    encoded = best_us(lambda: encode_spans(spans).SerializeToString(), 20) / len(spans)
    return [("span, made", made, ""), ("span, encoded", encoded, "")]


def log_rows() -> list[tuple[str, float, str]]:
    requests = RequestLog(ratio=0.0, per_s=50, lose=lambda: None)
    record = logging.makeLogRecord(
        {"name": "slipway_serve.worker", "msg": "dispatcher_lost", "why": "it is gone", "n": 3}
    )
    trace = RequestTrace("/predict", "POST", "/predict", 1.0, None, is_sampled=False)
    line = JsonFormatter("api-0")
    rows = [
        ("RequestLog.completed, no line", best_us(lambda: requests.completed("/p", "POST", 200, 0.01, trace)), "0.5"),
        ("JsonFormatter.format", best_us(lambda: line.format(record)), ""),
    ]
    return [(name, cost - best_us(lambda: None), limit) for name, cost, limit in rows]


Answer = Callable[[int], None]


def nothing_told(number: int) -> None:
    """No traces."""


def told_to_ours(url: str) -> tuple[Answer, Callable[[], None]]:
    stack = contextlib.ExitStack()
    route, batch = stack.enter_context(tracing(url, 0.01)).route("/predict", slow_s=10.0), Batch(rows=1)
    return (lambda _: request(route, PLAIN, batch)), stack.close


def told_to_the_sdk(url: str) -> tuple[Answer, Callable[[], None]]:
    """The SDK as its documentation uses it, six spans for 1 % of the requests."""
    from opentelemetry import trace as api
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(0.01), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    tracer = provider.get_tracer("bench")
    attributes = {"http.request.method": "POST", "http.route": "/predict", "url.scheme": "http"}

    def answer(_: int) -> None:
        with tracer.start_as_current_span("POST /predict", attributes=attributes, kind=api.SpanKind.SERVER) as span:
            for name in ("receive", "decode", "queue", "predict", "encode"):
                tracer.start_span(name).end()
            span.set_attribute("http.response.status_code", 200)

    return answer, provider.shutdown


async def served(answer: Answer, seconds: float) -> list[float]:
    """Seconds of each request, one after another on an event loop."""

    async def one(number: int) -> None:
        for _ in range(WORK):
            pass
        answer(number)

    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while (started := time.perf_counter()) < ends:
        await asyncio.create_task(one(len(taken)))
        taken.append(time.perf_counter() - started)
    return taken


def at(taken: Sequence[float], share: float) -> float:
    return sorted(taken)[int(share * len(taken))] * 1e6


def loop_rows(url: str) -> list[str]:
    rows = []
    cases: list[tuple[str, Callable[[], tuple[Answer, Callable[[], None]]]]] = [
        ("no traces", lambda: (nothing_told, lambda: None)),
        ("ours, 1 % kept", lambda: told_to_ours(url)),
        ("BatchSpanProcessor, 1 % sampled", lambda: told_to_the_sdk(url)),
        ("no traces, again", lambda: (nothing_told, lambda: None)),
    ]
    for name, begin in cases:
        answer, close = begin()
        asyncio.run(served(answer, 1.0))
        taken = asyncio.run(served(answer, LOOP_S))
        close()
        rate = len(taken) / LOOP_S
        figures = [at(taken, share) for share in (0.5, 0.99, 0.999, 0.9999)]
        rows.append(f"{name:<34} {rate:>9,.0f} " + " ".join(f"{one:>9.0f}" for one in figures))
    return rows


def main() -> None:
    """Print the tables."""
    logging.disable()
    with sink() as url:
        print(f"{'what':<46} {'µs':>8}  limit")
        for name, cost, limit in [*request_rows(), *span_rows(), *log_rows()]:
            print(f"{name:<46} {cost:>8.2f}  {limit}")
        print(f"\n{'on an event loop':<34} {'req/s':>9} {'p50 µs':>9} {'p99':>9} {'p99.9':>9} {'p99.99':>9}")
        for row in loop_rows(url):
            print(row)


if __name__ == "__main__":
    main()
