import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from otlp_sink import Sink, collector, values
from piped_traces import Piped

from slipway_bundle import ConfigError
from slipway_signals import Slots
from slipway_signals.traces_record import RequestTrace, Step, current_trace
from slipway_signals.tracing import RouteTracer, Tracer, TracingConfig, resolve_tracing

TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
TRACE_ID = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")


@pytest.fixture
def sink() -> Iterator[Sink]:
    with collector() as sink:
        yield sink


@dataclass
class Traced:
    """A tracer whose requests go to a sink."""

    sink: Sink
    config: TracingConfig = field(default_factory=lambda: TracingConfig(ratio=0.0))
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        resolved = resolve_tracing(self.config, {"OTEL_EXPORTER_OTLP_ENDPOINT": self.sink.url, **self.environment})
        assert resolved is not None
        self.pipe = Piped(self.sink.url)
        self.tracer = Tracer(resolved, self.pipe.writer, Slots.create()[0])

    def close(self) -> None:
        """All that was kept is exported."""
        assert self.pipe.stop()

    def route(self, slow_s: float | None = 10.0) -> RouteTracer:
        return self.tracer.route("/predict", slow_s=slow_s)


@pytest.fixture
def traced(sink: Sink) -> Iterator[Traced]:
    traced = Traced(sink)
    yield traced
    traced.close()


@dataclass
class Batch:
    """What an answer brings along about its batch."""

    number: int = 7
    rows: int = 1
    sent_at: float = 0.0
    started_at: float = 0.0
    compute_s: float = 0.0
    reason: str = "full"
    replica: str = "churn-0"


def named(spans: list[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


def ask(route: RouteTracer, status: int = 200, headers: dict[bytes, bytes] | None = None, took_s: float = 0.01) -> bool:
    now = time.monotonic()
    trace = route.begin("POST", "/predict", headers or {}, now - took_s)
    return route.end(trace, status, now)


def test_a_kept_request_is_a_server_span_with_its_parts_as_children(traced: Traced) -> None:
    route, now = traced.route(), time.monotonic()
    trace = route.begin("POST", "/predict", {b"traceparent": TRACEPARENT + b"1", b"tracestate": b"a=1"}, now - 0.2)
    trace.received, trace.decoded = now - 0.19, now - 0.18
    trace.step(
        Step("churn", now - 0.17, now - 0.05, Batch(sent_at=now - 0.15, started_at=now - 0.14, compute_s=0.05), "pool")
    )
    trace.encoding, trace.encoded = now - 0.04, now - 0.03

    is_kept = route.end(trace, 200, now)
    wall = time.time_ns()

    spans = traced.sink.wait_spans(7)
    found = named(spans)
    server = found["POST /predict"]
    assert is_kept
    assert sorted(found) == ["POST /predict", "decode", "encode", "predict", "queue", "receive", "send"]
    assert {span.trace_id for span in spans} == {TRACE_ID}
    assert server.parent_span_id.hex() == "b7ad6b7169203331"
    assert {span.parent_span_id for span in spans if span is not server} == {server.span_id}
    assert len({span.span_id for span in spans}) == 7
    assert {span.trace_state for span in spans} == {"a=1"}
    took = {name: round((span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, 3) for name, span in found.items()}
    assert took == {
        "POST /predict": 0.2,
        "receive": 0.01,
        "decode": 0.01,
        "queue": 0.02,
        "predict": 0.05,
        "encode": 0.01,
        "send": 0.03,
    }
    assert abs(server.end_time_unix_nano - wall) < 1e9
    assert found["predict"].start_time_unix_nano > found["queue"].end_time_unix_nano


def test_spans_carry_the_attributes_of_the_conventions(traced: Traced) -> None:
    route, now = traced.route(), time.monotonic()
    trace = route.begin("POST", "/predict", {b"traceparent": TRACEPARENT + b"1", b"authorization": b"secret"}, now)
    trace.step(Step("churn", now, now + 1, Batch(rows=1), "pool"))

    route.end(trace, 200, now)

    found = named(traced.sink.wait_spans(3))
    server, predict = found["POST /predict"], found["predict"]
    assert server.kind == Span.SPAN_KIND_SERVER
    assert values(server.attributes) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "url.path": "/predict",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "slipway.kept": "sampled",
    }
    assert values(predict.attributes) == {
        "slipway.model": "churn",
        "slipway.lane": "pool",
        "slipway.batch.id": 7,
        "slipway.batch.rows": 1,
        "slipway.batch.reason": "full",
        "slipway.replica": "churn-0",
    }
    assert server.status.code == Status.STATUS_CODE_UNSET
    assert traced.sink.resources[0]["service.name"] == "churn"
    assert traced.sink.resources[0]["service.version"] == "3"


@pytest.mark.parametrize("status", [500, 503, 504])
def test_every_server_error_is_kept_although_its_caller_did_not_sample_it(traced: Traced, status: int) -> None:
    route = traced.route()

    kept = [ask(route, status, {b"traceparent": TRACEPARENT + b"0"}) for _ in range(20)]

    spans = traced.sink.wait_spans(20)
    assert all(kept)
    assert {span.status.code for span in spans} == {Status.STATUS_CODE_ERROR}
    assert {values(span.attributes)["error.type"] for span in spans} == {str(status)}
    assert {values(span.attributes)["slipway.kept"] for span in spans} == {"error"}


def test_every_slow_request_is_kept_and_no_other(traced: Traced) -> None:
    route = traced.route(slow_s=0.1)

    kept = [ask(route, took_s=took_s) for took_s in (0.05, 0.2, 0.09, 0.3)]

    spans = traced.sink.wait_spans(2)
    assert kept == [False, True, False, True]
    assert [values(span.attributes)["slipway.kept"] for span in spans] == ["slow", "slow"]


@pytest.mark.parametrize("status", [200, 301, 404, 422, 429, 499])
def test_what_is_no_error_and_not_slow_leaves_nothing(traced: Traced, status: int) -> None:
    kept = ask(traced.route(), status, {b"traceparent": TRACEPARENT + b"0"})

    assert not kept


def test_a_stream_that_failed_after_its_200_is_an_error(traced: Traced) -> None:
    route, now = traced.route(), time.monotonic()
    trace = route.begin("POST", "/talk", {}, now)
    trace.error_type = "ModelFailed"

    assert route.end(trace, 200, now)
    span = traced.sink.wait_spans(1)[0]
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "ModelFailed")


def test_the_share_of_requests_without_a_caller_is_the_ratio(sink: Sink) -> None:
    traced = Traced(sink, TracingConfig(ratio=0.01))
    route = traced.route()

    kept = sum(ask(route, headers={}) for _ in range(50_000))
    traced.close()

    assert 400 <= kept <= 600  # 500 ± 4.5 standard deviations


def test_a_stranger_does_not_decide_what_is_kept(sink: Sink) -> None:
    traced = Traced(sink, TracingConfig(ratio=0.0, trust_caller=False))
    route = traced.route()

    kept = ask(route, headers={b"traceparent": TRACEPARENT + b"1"})
    ask(route, 500, headers={b"traceparent": TRACEPARENT + b"1"})
    traced.close()

    assert not kept
    assert [span.parent_span_id for span in sink.spans] == [b""]
    assert sink.spans[0].trace_id != TRACE_ID


def test_a_batch_links_to_its_kept_members_and_they_to_it(traced: Traced) -> None:
    route, now = traced.route(), time.monotonic()
    batch = Batch(rows=3, sent_at=now - 0.05, started_at=now - 0.04, compute_s=0.02)
    for flags in (b"1", b"0", b"1"):
        trace = route.begin("POST", "/predict", {b"traceparent": TRACEPARENT + flags}, now - 0.1)
        trace.step(Step("churn", now - 0.06, now - 0.01, batch, "pool"))
        route.end(trace, 200, now)

    spans = traced.sink.wait_spans(7)

    predicts = [span for span in spans if span.name == "predict"]
    one = named(spans)["batch"]
    assert len(predicts) == 2
    assert {link.span_id for link in one.links} == {span.span_id for span in predicts}
    assert [[link.span_id for link in span.links] for span in predicts] == [[one.span_id], [one.span_id]]
    assert one.trace_id != TRACE_ID
    assert values(one.attributes)["slipway.batch.rows"] == 3


def test_a_request_that_never_got_a_batch_has_waited_to_its_end(traced: Traced) -> None:
    route, now = traced.route(), time.monotonic()
    trace = route.begin("POST", "/predict", {}, now - 1)
    trace.step(Step("churn", now - 0.9, now - 0.1))

    route.end(trace, 504, now)

    found = named(traced.sink.wait_spans(2))
    assert sorted(found) == ["POST /predict", "queue"]
    assert found["queue"].end_time_unix_nano - found["queue"].start_time_unix_nano == pytest.approx(8e8, abs=1e6)


def test_a_load_is_a_trace_of_its_own(traced: Traced) -> None:
    now = time.monotonic()

    traced.tracer.loaded("churn", now - 2, now, digest="sha256:ab", device="cpu")

    span = traced.sink.wait_spans(1)[0]
    assert (span.name, span.parent_span_id) == ("load", b"")
    assert values(span.attributes) == {
        "slipway.model": "churn",
        "slipway.model.digest": "sha256:ab",
        "slipway.device": "cpu",
    }


def test_the_task_of_a_request_knows_its_trace(traced: Traced) -> None:
    route = traced.route()

    trace = route.begin("POST", "/predict", {}, 0.0)

    assert current_trace.get() is trace


def test_hostile_strings_reach_the_collector_harmless(traced: Traced) -> None:
    """A lone surrogate, which protobuf refuses, would cost the 63 requests beside it."""
    route, now = traced.route(), time.monotonic()
    trace = route.begin("PO\nST", "/\udc80" + "x" * 10_000, {b"traceparent": b"\xff" * 55}, now)

    route.end(trace, 500, now)

    span = traced.sink.wait_spans(1)[0]
    assert span.name == "HTTP /predict"
    assert values(span.attributes)["http.request.method"] == "_OTHER"
    assert len(str(values(span.attributes)["url.path"])) == 256


def test_the_standards_variables_go_before_the_file(sink: Sink) -> None:
    environment = {"OTEL_TRACES_SAMPLER_ARG": "1.0"}
    traced = Traced(sink, TracingConfig(ratio=0.0, endpoint="http://nowhere:1"), environment)

    ask(traced.route())
    traced.close()

    assert len(sink.spans) == 1


def test_the_resource_is_the_environments(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "renamed")
    traced = Traced(sink)

    ask(traced.route(), 500)
    traced.close()

    assert sink.resources[0]["deployment.environment.name"] == "prod"
    assert sink.resources[0]["service.name"] == "renamed"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_an_endpoint_there_are_no_traces(environment: dict[str, str]) -> None:
    assert resolve_tracing(TracingConfig(), environment) is None


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', expected http/protobuf"),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, "OTEL_TRACES_SAMPLER is 'always_on', expected one of parentbased_"),
        ({"OTEL_TRACES_SAMPLER_ARG": "1 %"}, "OTEL_TRACES_SAMPLER_ARG is '1 %', expected a ratio from 0 to 1"),
        ({"OTEL_TRACES_SAMPLER_ARG": "nan"}, "expected a ratio from 0 to 1"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "expected http://"),
    ],
)
def test_a_variable_that_cannot_be_followed_is_named(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_tracing(TracingConfig(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", **environment})

    assert words in caught.value.message


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x"}, "http://c/x"),
        ({}, "http://file:4318/v1/traces"),
    ],
)
def test_the_endpoint_is_made_as_the_standard_says(environment: dict[str, str], endpoint: str) -> None:
    resolved = resolve_tracing(TracingConfig(endpoint="http://file:4318"), environment)

    assert resolved is not None
    assert resolved.endpoint == endpoint


def test_the_configured_threshold_goes_before_an_objective_and_an_estimate(sink: Sink) -> None:
    traced = Traced(sink, TracingConfig(slow_ms=50.0))

    assert traced.route(slow_s=None).threshold.slow_s == 0.05
    assert traced.route(slow_s=0.2).threshold.slow_s == 0.05
    traced.close()


def test_a_request_that_asks_models_without_end_is_remembered_to_a_bound() -> None:
    trace = RequestTrace("/p", "POST", "/p", 1.0, None, False)

    for _ in range(1_000):
        trace.step(Step("churn", 1.0, 2.0))

    assert len(trace.steps or []) == 64
