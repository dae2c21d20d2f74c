"""A small OTLP/HTTP collector for tests: it decodes with OpenTelemetry's own protocol, and can misbehave.

Our own fake of the protocol: a real Tempo is not there to be run.
"""

import gzip
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

Value = str | int | float | bool


class Sink:
    """What was sent, and how it is answered: `status` for each POST; while `hangs`, not at all."""

    def __init__(self) -> None:
        self.status = 200
        self.hangs = False
        self.posts = 0
        self.times: list[float] = []
        self.spans: list[Span] = []
        self.resources: list[dict[str, Value]] = []
        self.headers: list[dict[str, str]] = []
        self._changed = threading.Condition()
        self._released = threading.Event()
        self.url = ""

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """One POST; returns the status to answer with."""
        with self._changed:
            self.posts += 1
            self.times.append(time.monotonic())
            self._changed.notify_all()
        if self.hangs:
            self._released.wait(30.0)
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            if self.status == 200:
                self.headers.append(headers)
                for resource in request.resource_spans:
                    self.resources.append(values(resource.resource.attributes))
                    self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self._changed.notify_all()
        return self.status

    def wait_spans(self, count: int, timeout_s: float = 20.0) -> list[Span]:
        """The spans, once there are `count`."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.spans) >= count, timeout_s)
            return list(self.spans)

    def wait_named(self, name: str, timeout_s: float = 20.0) -> list[Span]:
        """All spans, once there is one of that name."""
        with self._changed:
            self._changed.wait_for(lambda: any(span.name == name for span in self.spans), timeout_s)
            return list(self.spans)

    def wait_posts(self, count: int, timeout_s: float = 20.0) -> bool:
        """Whether `count` POSTs have come."""
        with self._changed:
            return self._changed.wait_for(lambda: self.posts >= count, timeout_s)

    def release(self) -> None:
        """Let those that hang go on."""
        self.hangs = False
        self._released.set()


def values(attributes: "Iterable[KeyValue]") -> dict[str, Value]:
    """Attributes as a dictionary."""
    found: dict[str, Value] = {}
    for pair in attributes:
        found[pair.key] = getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
    return found


@contextmanager
def collector() -> Iterator[Sink]:
    """A sink that listens; its `url` is what goes into `OTEL_EXPORTER_OTLP_ENDPOINT`."""
    sink = Sink()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = sink.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status if self.path == "/v1/traces" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        sink.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield sink
        finally:
            sink.release()
            server.shutdown()
