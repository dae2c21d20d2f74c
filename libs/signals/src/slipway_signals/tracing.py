"""Which requests leave a trace, decided when they end: 1 % of all, and every one that failed or was slow.

    resolved = resolve_tracing(config, os.environ)                               # None: traces are off
    tracer = Tracer(resolved, TraceWriter(pipe_fd, Origin("churn")), slots)      # in the worker
    route = tracer.route("/predict", slow_s=0.1)                                 # once
    trace = route.begin("POST", "/predict", headers, time.monotonic())           # each request
    trace.decoded = time.monotonic()
    …
    is_kept = route.end(trace, 200, time.monotonic())

It makes no span (`traces_spans`) and sends nothing (`traces_export`, in a process of its own): a request costs one
small record and, at its end, a comparison. The invariants: nothing here waits; what cannot be handed over is counted;
OpenTelemetry is never imported here.
"""

import math
import random
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from slipway_bundle import ConfigError
from slipway_signals import metrics, metrics_traces
from slipway_signals.slots import Slots
from slipway_signals.traces_context import TRACEPARENT, TRACESTATE, parse_context
from slipway_signals.traces_pipe import Load, TraceWriter
from slipway_signals.traces_record import RequestTrace, current_trace
from slipway_signals.traces_slow import SlowThreshold

__all__ = ["RouteTracer", "Tracer", "TracingConfig", "resolve_tracing"]

Headers = Mapping[bytes, bytes]

_RATIOS: Final[Mapping[str, float | None]] = {
    "parentbased_always_on": 1.0,
    "parentbased_always_off": 0.0,
    "parentbased_traceidratio": None,
}
"""`OTEL_TRACES_SAMPLER` → the ratio it means; None: `OTEL_TRACES_SAMPLER_ARG` says it. The others overrule the caller,
and a trace with holes is worth less than none."""


class TracingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[runtime.tracing]`. `OTEL_*` environment variables go before it, as they do in every program."""

    endpoint: str = ""
    """URL of an OTLP/HTTP collector, as in `OTEL_EXPORTER_OTLP_ENDPOINT`: `/v1/traces` is added. "": no traces."""
    ratio: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """Share of requests without a caller's decision that is kept whatever comes of them."""
    trust_caller: bool = True
    """Believe `traceparent`. Switch off where anybody may call: a stranger's flag would decide what is kept."""
    slow_ms: Annotated[float, Meta(gt=0)] | None = None
    """Slower answers are kept; None: the objective's threshold, or else the route's own 99th percentile."""
    spans_per_s: Annotated[int, Meta(ge=1, le=100_000)] = 2_000
    """Spans that the exporter makes in a second; each takes about 20 µs of a core."""
    flush_s: Annotated[float, Meta(ge=0, le=60)] = 2.0
    """How long the exporter may take, when the server stops, to send what waits."""


class RouteTracer:
    """The requests of one route. Event loop only."""

    __slots__ = ("_draw", "_ratio", "_template", "_tracer", "_trusts", "threshold")

    def __init__(self, tracer: "Tracer", template: str, config: TracingConfig, threshold: SlowThreshold) -> None:
        self._tracer = tracer
        self._template = template
        self._ratio = config.ratio
        self._trusts = config.trust_caller
        self._draw = tracer.draw
        self.threshold: Final = threshold

    def begin(self, method: str, path: str, headers: Headers, started: float) -> RequestTrace:
        """A request came. HOT.

        Args:
            method: as received.
            path: without the query.
            headers: names in lower case; only `traceparent` and `tracestate` are looked at.
            started: `time.monotonic()`.
        """
        remote = None
        if TRACEPARENT in headers and self._trusts:
            remote = parse_context(headers[TRACEPARENT], headers.get(TRACESTATE))
        is_sampled = self._draw() < self._ratio if remote is None else remote.is_sampled
        trace = RequestTrace(self._template, method, path, started, remote, is_sampled)
        current_trace.set(trace)
        return trace

    def end(self, trace: RequestTrace, status: int, ended: float) -> bool:
        """A request was answered. HOT. What is kept is not to be written to any more.

        Args:
            trace: what `begin` gave.
            status: of the answer; 499 when its client left.
            ended: `time.monotonic()`.

        Returns:
            Whether its trace is kept and will be exported, so that an exemplar may point to it.
        """
        trace.ended = ended
        trace.status = status
        is_slow = self.threshold.judge(ended - trace.started)
        if is_slow or trace.is_sampled or status >= 500 or trace.error_type:
            trace.kept = "error" if status >= 500 or trace.error_type else "slow" if is_slow else "sampled"
            return self._tracer.keep(trace)
        return False


class Tracer:
    """The traces of one process.

    Args:
        config: as `resolve_tracing` gives it.
        writer: to the process that exports.
        slots: of this process.
    """

    def __init__(self, config: TracingConfig, writer: TraceWriter, slots: Slots) -> None:
        self._config = config
        self._writer = writer
        self._kept = {
            reason: slots.counter(metrics_traces.TRACES_KEPT, reason) for reason in ("sampled", "error", "slow")
        }
        self._dropped = slots.counter(metrics.TELEMETRY_DROPPED, metrics_traces.DROPPED_TRACES, "api")
        self.draw: Final = random.Random().random  # noqa: S311 - seeded by the system; a service's `random.seed` is not ours

    def route(self, template: str, *, slow_s: float | None = None) -> RouteTracer:
        """The tracer of one route; once for each.

        Args:
            template: the route template.
            slow_s: threshold of the route's latency objective in seconds; `math.inf` for streams, which last as long
                as their clients read; None to follow the 99th percentile. `slow_ms` of the configuration goes first.
        """
        if self._config.slow_ms is not None and slow_s != math.inf:
            slow_s = self._config.slow_ms / 1_000
        return RouteTracer(self, template, self._config, SlowThreshold(slow_s))

    def keep(self, trace: RequestTrace) -> bool:
        """Hand over an ended request; False, and counted, when there is no room."""
        self._kept[trace.kept or "sampled"].inc()
        if self._writer.write(trace):
            return True
        self._dropped.inc()
        return False

    def loaded(self, model: str, started: float, ended: float, *, digest: str = "", device: str = "") -> None:
        """A model was loaded: a trace of its own, always kept."""
        self._writer.write_load(Load(model, started, ended, digest, device))


def resolve_tracing(config: TracingConfig, environment: Mapping[str, str]) -> TracingConfig | None:
    """`config` under the standard's environment variables; None when traces are off.

    They are off without an endpoint, with `OTEL_SDK_DISABLED=true`, and with `OTEL_TRACES_EXPORTER=none`. Read here:
    `OTEL_EXPORTER_OTLP_(TRACES_)ENDPOINT`, `…_PROTOCOL`, `OTEL_TRACES_SAMPLER(_ARG)`. The exporter reads those of
    headers, certificates, timeout and compression itself, the resource those of `OTEL_SERVICE_NAME` and
    `OTEL_RESOURCE_ATTRIBUTES`.

    Raises:
        ConfigError: a variable that slipway cannot follow; it is named.
    """
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if is_disabled or environment.get("OTEL_TRACES_EXPORTER", "").strip() == "none":
        return None
    endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    if not endpoint:
        base = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or config.endpoint
        endpoint = f"{base.rstrip('/')}/v1/traces" if base else ""
    if not endpoint:
        return None
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(
            f"the endpoint of traces is {endpoint!r}, expected http://… or https://…",
            hint="`[runtime.tracing] endpoint` or OTEL_EXPORTER_OTLP_ENDPOINT, for example http://collector:4318",
        )
    name = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
    if name not in environment:
        name = "OTEL_EXPORTER_OTLP_PROTOCOL"
    protocol = environment.get(name, "http/protobuf").strip()
    if protocol != "http/protobuf":
        raise ConfigError(f"{name} is {protocol!r}, expected http/protobuf", hint="collectors take it at port 4318")
    ratio = _ratio_of(environment, config.ratio)
    return msgspec.structs.replace(config, endpoint=endpoint, ratio=ratio)


def _ratio_of(environment: Mapping[str, str], ratio: float) -> float:
    sampler = environment.get("OTEL_TRACES_SAMPLER", "parentbased_traceidratio").strip()
    if sampler not in _RATIOS:
        raise ConfigError(f"OTEL_TRACES_SAMPLER is {sampler!r}, expected one of {', '.join(sorted(_RATIOS))}")
    fixed = _RATIOS[sampler]
    if fixed is not None:
        return fixed
    text = environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    if not text:
        return ratio
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 <= found <= 1.0:
        raise ConfigError(f"OTEL_TRACES_SAMPLER_ARG is {text!r}, expected a ratio from 0 to 1")
    return found
