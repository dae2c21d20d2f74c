"""Which requests are slow, which caller is believed, and what several services of one server must agree on."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from otlp_sink import Sink, collector, values
from pool_folders import write_obedient
from serve_folders import write_minimal
from serve_process import serving
from test_signals_slo_latencies import objectives

from slipway_bundle import ConfigError
from slipway_serve.agreement import check_agreement
from slipway_serve.config import load_runtime

ROW = {"tenure_days": 4.0, "mean_charge": 1.0, "action": 0.0}
RAISE, SLOW = 3.0, 4.0
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
UNSAMPLED = f"00-{TRACE}-{PARENT}-00"
SLOWER = objectives(('http_route="/predict"', "0.01", "0.99"))


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A collector."""
    with collector() as sink:
        yield sink


def environment(sink: Sink) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_TRACES_SAMPLER_ARG": "0"}


@pytest.mark.parametrize(
    ("slo", "runtime", "expected"),
    [
        (SLOWER, "", {"slow": 1, "error": 1}),
        (SLOWER, "\n[runtime.tracing]\nslow_ms = 30000\n", {"error": 1}),
        (None, "", {"error": 1}),
    ],
    ids=["objective", "slow_ms", "neither"],
)
def test_a_request_that_breaks_its_route_s_objective_is_kept(
    tmp_path: Path, sink: Sink, slo: bytes | None, runtime: str, expected: dict[str, int]
) -> None:
    folder = write_obedient(tmp_path / "o", runtime)
    if slo is not None:
        (folder / "slo.yaml").write_bytes(slo)
    with serving(folder, store=tmp_path / "store", env=environment(sink)) as served, served.client() as client:
        assert client.post("/predict", json={**ROW, "action": SLOW}).status_code == 200  # takes 20 ms
        assert client.post("/predict", json={**ROW, "action": RAISE}).status_code == 500

    told = [values(span.attributes) for span in sink.spans if span.name == "POST /predict"]  # stopping flushes
    reasons = [attributes["slipway.kept"] for attributes in told]
    assert {reason: reasons.count(reason) for reason in set(reasons)} == expected


def test_two_parents_are_none_and_a_tracestate_in_two_parts_is_one(tmp_path: Path, sink: Sink) -> None:
    folder = write_obedient(tmp_path / "o", "")
    sampled = f"00-{TRACE}-{PARENT}-01"
    with serving(folder, store=tmp_path / "store", env=environment(sink)) as served:
        twice = [("traceparent", UNSAMPLED), ("traceparent", sampled)]
        httpx.post(f"{served.url}/predict", json={**ROW, "action": RAISE}, headers=twice)
        parts = [("traceparent", sampled), ("tracestate", "a=1"), ("accept", "*/*"), ("tracestate", "b=2")]
        httpx.post(f"{served.url}/predict", json=ROW, headers=parts)

    servers = [span for span in sink.wait_spans(2) if span.name == "POST /predict"]
    (orphan,) = [span for span in servers if not span.parent_span_id]
    (child,) = [span for span in servers if span.parent_span_id]
    assert orphan.trace_id.hex() != TRACE
    assert values(orphan.attributes)["slipway.kept"] == "error"
    assert (child.trace_id.hex(), child.trace_state) == (TRACE, "a=1,b=2")


CAPTURED = {"enabled": True, "folder": "/nowhere"}


@pytest.mark.parametrize(
    ("one", "other", "field"),
    [
        ({"tracing": {"ratio": 0.1}}, {}, "tracing.ratio"),
        ({"logging": {"level": "debug"}}, {"logging": {"level": "error"}}, "logging.level"),
        ({"server": {"trust_synthetic": True}}, {}, "server.trust_synthetic"),
        (
            {"capture": {**CAPTURED, "subject_header": "x-a"}},
            {"capture": {**CAPTURED, "subject_header": "x-b"}},
            "capture.subject_header",
        ),
        ({"capture": {**CAPTURED, "subject_header": "x-a"}}, {"capture": CAPTURED}, "capture.subject_header"),
    ],
)
def test_services_that_differ_in_what_they_share_are_refused_by_name(
    one: dict[str, object], other: dict[str, object], field: str
) -> None:
    first, second = (load_runtime(table, {}, {})[0] for table in (one, other))

    with pytest.raises(ConfigError, match=rf"'ada' and 'bob'.*`runtime\.{field}`"):
        check_agreement([("ada", first), ("eve", first), ("bob", second)])


def test_services_may_differ_in_what_is_their_own() -> None:
    one = {"capture": {**CAPTURED, "subject_header": "X-A", "rate": 0.5}, "server": {"port": 1}}
    other = {"capture": {**CAPTURED, "subject_header": "x-a"}, "server": {"port": 2}, "publish": ["a"]}
    uncaptured = {"capture": {"subject_header": "x-b"}}

    check_agreement(
        [(name, load_runtime(table, {}, {})[0]) for name, table in (("a", one), ("b", other), ("c", uncaptured))]
    )


def test_a_server_of_services_that_disagree_does_not_start(tmp_path: Path) -> None:
    first = write_minimal(tmp_path / "ada", "ada", "\n[runtime.tracing]\nratio = 0.5\n")
    second = write_minimal(tmp_path / "bob", "bob")

    with (
        pytest.raises(AssertionError, match=r"'ada' and 'bob'[^`]*`runtime\.tracing\.ratio`, got 0\.5 and 0\.01"),
        serving(first, second, store=tmp_path / "store"),
    ):
        pass
