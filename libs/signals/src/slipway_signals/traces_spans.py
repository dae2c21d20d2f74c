"""Turns remembered requests into OpenTelemetry spans and sends them. The only module that imports OpenTelemetry.

One kept request becomes a server span with children: `receive`, `decode`, for each answer of a model `queue` and
`predict`, `encode`, `send`. A batch of several rows becomes one more span, in a trace of its own, that links to the
`predict` span of every kept member that met in one export, and is linked from each of them: members belong to different
traces, so none can be its parent. Parts that were exported apart are joined by `slipway.batch.id`.

Each is a `ReadableSpan`, which is what the SDK's own processors hand to exporters. Not thread-safe: one thread's.

Source: semantic conventions 1.44, HTTP and gRPC server spans and messaging batches (links).
"""

import functools
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from slipway_signals.metrics import METHODS
from slipway_signals.traces_context import parse_tracestate
from slipway_signals.traces_pipe import PATH_CHARACTERS, Ended, Load, Origin
from slipway_signals.traces_record import BatchTold, RequestTrace, Step, draw_id

__all__ = ["OtlpSender"]

_SCOPE: Final = InstrumentationScope("slipway")
_UNSET: Final = Status()
ORIGINS: Final = 64
"""Resources that are remembered: each API worker of each generation is one."""
METHOD_OTHER: Final = "_OTHER"
"""What the conventions call a method they do not know."""
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)

Attributes = dict[str, str | int | float | bool]
_BatchKey = tuple[str, str, int, float]


class OtlpSender:
    """Makes spans and sends them to one OTLP/HTTP collector at `endpoint`, the URL of its traces."""

    def __init__(self, endpoint: str) -> None:
        for name in ("opentelemetry.exporter.otlp", "opentelemetry.exporter"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # one line for each try; `traces_export` says it once
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        self._resources: dict[Origin, Resource] = {}
        self._resource = self._resource_of(Origin(""))  # a variable that is refused is refused at the start

    def spans(self, ended: Sequence[Ended]) -> Iterator[ReadableSpan]:
        """The spans of these requests and loads, one at a time; each costs about 3 µs."""
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        batches: dict[_BatchKey, _Batch] = {}
        for one in ended:
            self._resource = self._resource_of(one.origin)
            if one.request is not None:
                yield from self._request(one.request, batches)
            if one.load is not None:
                yield self._load(one.load)
        for batch in batches.values():
            self._resource = batch.resource
            yield self._batch(batch)

    def _resource_of(self, origin: Origin) -> Resource:
        resource = self._resources.get(origin)
        if resource is None:
            if len(self._resources) >= ORIGINS:
                self._resources.clear()
            resource = self._resources[origin] = _Resource.of(origin)
        return resource

    def send(self, spans: Sequence[ReadableSpan]) -> bool:
        """Encode and post them; blocks up to the exporter's timeout (`OTEL_EXPORTER_OTLP_TIMEOUT`, 10 s)."""
        return self._exporter.export(spans) is SpanExportResult.SUCCESS

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
            trace.route[1:] if trace.rpc_status else f"{method if method != METHOD_OTHER else 'HTTP'} {trace.route}",
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
                batch = batches[key] = _Batch(step.model, told, self._resource, _root())
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
        return ReadableSpan(
            name,
            own,
            parent,
            self._resource,
            attributes,
            links=links,
            kind=kind,
            status=_UNSET if status is None else status,
            start_time=self._unix_ns(start),
            end_time=self._unix_ns(max(start, end)),
            instrumentation_scope=_SCOPE,
        )

    def _unix_ns(self, seconds: float) -> int:
        return self._offset_ns + int(seconds * 1e9)


class _Batch:
    """A batch that several kept requests may have been in; of several processes, the first tells of it."""

    __slots__ = ("context", "members", "model", "resource", "told")

    def __init__(self, model: str, told: BatchTold, resource: Resource, context: SpanContext) -> None:
        self.model = model
        self.told = told
        self.resource = resource
        self.context = context
        self.members: list[SpanContext] = []


class _Resource(Resource):
    """The SDK's, hashed once: its own hash writes JSON, and the encoder asks for it at every span."""

    @classmethod
    def of(cls, origin: Origin) -> "_Resource":
        """Ours, under `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`."""
        own = {
            "service.name": origin.service,
            "service.version": origin.version,
            "service.instance.id": origin.instance,
        }
        told = Resource.create({key: value for key, value in own.items() if value}).merge(
            OTELResourceDetector().detect()
        )
        return cls(told.attributes, told.schema_url)

    @functools.cached_property
    def _hash(self) -> int:
        return super().__hash__()

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)


def _server_attributes(trace: RequestTrace, method: str) -> Attributes:
    about: Attributes = {"slipway.kept": trace.kept}
    if trace.rpc_status:
        about |= {
            "rpc.system.name": "grpc",
            "rpc.method": trace.route[1:],
            "rpc.response.status_code": trace.rpc_status,
        }
    else:
        about |= {
            "http.request.method": method,
            "url.scheme": "http",
            "url.path": trace.path[:PATH_CHARACTERS],
            "http.route": trace.route,
            "http.response.status_code": trace.status,
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
