"""Turns remembered requests into OpenTelemetry spans and sends them. The only module that imports OpenTelemetry.

One kept request becomes a server span with children: `receive`, `decode`, for each answer of a model `queue` and
`predict`, `encode`, `send`. A batch of several rows becomes one more span, in a trace of its own, that links to the
`predict` span of every kept member that met in one export, and is linked from each of them: members belong to different
traces, so none can be its parent. Each API worker tells its part of a batch; `slipway.batch.id` joins the parts.

Spans are made by a tracer of a real provider, with ids and times that were remembered. Not thread-safe: one thread's.

Source: semantic conventions 1.44, HTTP server spans and messaging batches (links).
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from slipway_signals.metrics import METHODS
from slipway_signals.traces_context import parse_tracestate
from slipway_signals.traces_export import Load
from slipway_signals.traces_record import BatchTold, RequestTrace, Step, draw_id

__all__ = ["OtlpSender"]

PATH_CHARACTERS: Final = 256
METHOD_OTHER: Final = "_OTHER"
"""What the conventions call a method they do not know."""
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)

Attributes = dict[str, str | int | float | bool]
_BatchKey = tuple[str, str, int, float]


class OtlpSender:
    """Makes spans of one resource and sends them to one OTLP/HTTP collector."""

    def __init__(self, endpoint: str, attributes: Mapping[str, str]) -> None:
        for name in ("opentelemetry.exporter.otlp", "opentelemetry.exporter"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # one line for each try; `traces_export` says it once
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        self._ids = _PrescribedIds()
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=_resource(attributes),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._last = _Last()
        provider.add_span_processor(self._last)
        self._tracer = provider.get_tracer("slipway")

    def spans(self, traces: Sequence[RequestTrace], loads: Sequence[Load]) -> Iterator[ReadableSpan]:
        """The spans of these requests and loads, one at a time; each costs about 15 µs."""
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        batches: dict[_BatchKey, _Batch] = {}
        for trace in traces:
            yield from self._request(trace, batches)
        for batch in batches.values():
            yield self._batch(batch)
        for load in loads:
            yield self._load(load)

    def send(self, spans: Sequence[ReadableSpan]) -> bool:
        """Encode and post them; blocks up to the exporter's timeout (`OTEL_EXPORTER_OTLP_TIMEOUT`, 10 s)."""
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

    def stop(self) -> None:
        """End a wait between two tries."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # OpenTelemetry

    def _request(self, trace: RequestTrace, batches: "dict[_BatchKey, _Batch]") -> Iterator[ReadableSpan]:
        trace_id, span_id = trace.ids()
        state = TraceState(list(parse_tracestate(trace.remote.state))) if trace.remote else TraceState()
        parent = None
        if trace.remote is not None:
            parent = SpanContext(
                trace_id, trace.remote.span_id, is_remote=True, trace_flags=_SAMPLED, trace_state=state
            )
        server = SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED, trace_state=state)
        method = trace.method if trace.method in METHODS else METHOD_OTHER
        status = Status(StatusCode.ERROR, trace.error_type or None) if trace.kept == "error" else None
        yield self._make(
            f"{method if method != METHOD_OTHER else 'HTTP'} {trace.route}",
            server,
            parent,
            trace.started,
            trace.ended,
            _server_attributes(trace, method),
            kind=SpanKind.SERVER,
            status=status,
        )
        for name, start, end in _phases(trace):
            yield self._make(name, _child(server), server, start, end, {})
        for step in trace.steps or ():
            yield from self._step(step, server, batches)

    def _step(self, step: Step, server: SpanContext, batches: "dict[_BatchKey, _Batch]") -> Iterator[ReadableSpan]:
        """The wait for the model and the model. A step that never got a batch has waited to its end."""
        about: Attributes = {"slipway.model": step.model}
        if step.lane:
            about["slipway.lane"] = step.lane
        told = step.batch
        left = step.answered if told is None else min(max(told.sent_at, step.queued), step.answered)
        yield self._make("queue", _child(server), server, step.queued, left, dict(about))
        if told is None:
            return
        about |= _batch_attributes(told)
        predict = _child(server)
        links: list[Link] = []
        if told.rows > 1:
            key = (step.model, told.replica, told.number, told.sent_at)
            batch = batches.get(key)
            if batch is None:
                batch = batches[key] = _Batch(step.model, told, _root())
            batch.members.append(predict)
            links.append(Link(batch.context))
        start = min(max(told.started_at, left), step.answered)
        end = min(start + told.compute_s, step.answered)
        yield self._make("predict", predict, server, start, end, about, links=links)

    def _batch(self, batch: "_Batch") -> ReadableSpan:
        told = batch.told
        start = max(told.started_at, told.sent_at)
        about: Attributes = {"slipway.model": batch.model, **_batch_attributes(told)}
        links = [Link(member) for member in batch.members]
        return self._make("batch", batch.context, None, start, start + told.compute_s, about, links=links)

    def _load(self, load: Load) -> ReadableSpan:
        about: Attributes = {"slipway.model": load.model}
        if load.digest:
            about["slipway.model.digest"] = load.digest
        if load.device:
            about["slipway.device"] = load.device
        return self._make("load", _root(), None, load.started, load.ended, about)

    def _make(
        self,
        name: str,
        own: SpanContext,
        parent: SpanContext | None,
        start: float,
        end: float,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        status: Status | None = None,
        links: Sequence[Link] = (),
    ) -> ReadableSpan:
        """A real span with prescribed ids and times."""
        self._ids.trace_id, self._ids.span_id = own.trace_id, own.span_id
        empty = otel_context.Context()
        within = empty if parent is None else set_span_in_context(NonRecordingSpan(parent), empty)
        span = self._tracer.start_span(
            name, within, kind, attributes, links, start_time=self._unix_ns(start), record_exception=False
        )
        if status is not None:
            span.set_status(status)
        span.end(self._unix_ns(max(start, end)))
        return self._last.taken()

    def _unix_ns(self, seconds: float) -> int:
        return self._offset_ns + int(seconds * 1e9)


class _Batch:
    """A batch that several kept requests may have been in."""

    __slots__ = ("context", "members", "model", "told")

    def __init__(self, model: str, told: BatchTold, context: SpanContext) -> None:
        self.model = model
        self.told = told
        self.context = context
        self.members: list[SpanContext] = []


class _PrescribedIds(IdGenerator):
    """Gives the provider the ids that were drawn when the request was answered."""

    trace_id = 1
    span_id = 1

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class _Last(SpanProcessor):
    """Holds the span that ended last."""

    _span: ReadableSpan | None = None

    def on_end(self, span: ReadableSpan) -> None:
        self._span = span

    def taken(self) -> ReadableSpan:
        span, self._span = self._span, None
        if span is None:
            raise RuntimeError("this is a bug in slipway: a span ended and was not told")
        return span


def _resource(attributes: Mapping[str, str]) -> Resource:
    """Ours, under `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`."""
    return Resource.create(dict(attributes)).merge(OTELResourceDetector().detect())


def _server_attributes(trace: RequestTrace, method: str) -> Attributes:
    about: Attributes = {
        "http.request.method": method,
        "url.scheme": "http",
        "url.path": trace.path[:PATH_CHARACTERS].encode(errors="replace").decode(),
        "http.route": trace.route,
        "http.response.status_code": trace.status,
        "slipway.kept": trace.kept,
    }
    if trace.kept == "error":
        about["error.type"] = trace.error_type or str(trace.status)
    if trace.is_synthetic:
        about["slipway.synthetic"] = True
    return about


def _batch_attributes(told: BatchTold) -> Attributes:
    about: Attributes = {"slipway.batch.id": told.number, "slipway.batch.rows": told.rows}
    if told.reason:
        about["slipway.batch.reason"] = told.reason
    if told.replica:
        about["slipway.replica"] = told.replica
    return about


def _phases(trace: RequestTrace) -> Iterator[tuple[str, float, float]]:
    """The parts of the request that are known, in order; what did not happen is left out."""
    if trace.received:
        yield "receive", trace.started, trace.received
    if trace.decoded:
        yield "decode", trace.received or trace.started, trace.decoded
    if trace.encoding and trace.encoded:
        yield "encode", trace.encoding, trace.encoded
        yield "send", trace.encoded, trace.ended


def _child(parent: SpanContext) -> SpanContext:
    return SpanContext(parent.trace_id, draw_id(8), False, _SAMPLED, parent.trace_state)  # noqa: FBT003 - positional in the API


def _root() -> SpanContext:
    return SpanContext(draw_id(16), draw_id(8), is_remote=False, trace_flags=_SAMPLED)
