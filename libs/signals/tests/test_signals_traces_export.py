import socket
import threading
import time
from collections.abc import Iterator

import pytest
from otlp_sink import Sink, collector
from piped_traces import Piped, ended, piped, wait_until

from slipway_bundle import ConfigError
from slipway_signals import Slots
from slipway_signals.traces_export import start_export
from slipway_signals.traces_pipe import Ended, Origin, open_pipe
from slipway_signals.traces_spans import ORIGINS, OtlpSender


@pytest.fixture
def sink() -> Iterator[Sink]:
    with collector() as sink:
        yield sink


def longest_write_s(pipe: Piped, count: int) -> float:
    longest = 0.0
    for _ in range(count):
        trace = ended()
        started = time.perf_counter()
        pipe.writer.write(trace)
        longest = max(longest, time.perf_counter() - started)
    return longest


@pytest.mark.alone
def test_not_like_otel_python_3660_a_hanging_collector_holds_up_nobody(sink: Sink) -> None:
    """There an export on the event loop stood still for the exporter's timeout, 10 s and more."""
    sink.hangs = True
    pipe = Piped(sink.url, pipe_bytes=1 << 16)
    taken = pipe.offer(10)
    assert sink.wait_posts(1)

    longest_s = longest_write_s(pipe, 5_000)
    refused = pipe.offer(5_000)

    assert longest_s < 0.5  # the machine's own pauses; a hanging export would be 10 s
    assert (taken, refused) == (10, 0)
    sink.release()
    assert pipe.stop()
    assert 10 < len(sink.spans) < 1_000
    assert pipe.exported.value == len(sink.spans)


def test_not_like_otel_python_3886_requests_that_end_while_it_exports_and_stops_do_not_deadlock(sink: Sink) -> None:
    """There a thread held the processor's lock for its flush, and whoever ended a span waited for it for ever."""
    pipe = Piped(sink.url)
    is_over = threading.Event()

    def offer() -> None:
        while not is_over.is_set():
            pipe.offer(5)
            is_over.wait(0.001)

    thread = threading.Thread(target=offer, daemon=True)
    thread.start()
    assert sink.wait_posts(5)
    is_over.set()
    thread.join(10.0)

    assert not thread.is_alive()
    assert pipe.stop()


@pytest.mark.alone
def test_an_unreachable_collector_costs_drops_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    pipe = Piped(url, pipe_bytes=1 << 16)

    taken = pipe.offer(30)
    longest_s = longest_write_s(pipe, 1_000)

    assert longest_s < 0.5
    assert taken == 30
    assert wait_until(lambda: pipe.dropped.value >= 30, 60.0)
    assert pipe.exported.value == 0


@pytest.mark.parametrize("status", [400, 500])
def test_what_the_collector_refuses_is_dropped_and_counted_and_the_next_is_tried(sink: Sink, status: int) -> None:
    sink.status = status
    with piped(sink.url, gather_s=0.2) as pipe:
        pipe.offer(10)
        assert wait_until(lambda: pipe.dropped.value == 10)
        sink.status = 200
        pipe.offer(5)

        assert len(sink.wait_spans(5)) == 5
    assert (pipe.exported.value, pipe.dropped.value, pipe.failures.value) == (5, 10, 1)


def test_a_busy_collector_is_asked_again_with_the_same_spans(sink: Sink) -> None:
    sink.status = 503
    with piped(sink.url) as pipe:
        pipe.offer(3)
        assert sink.wait_posts(1)
        sink.status = 200

        assert len(sink.wait_spans(3)) == 3
    assert pipe.dropped.value == 0


def test_what_waits_at_the_end_is_sent(sink: Sink) -> None:
    pipe = Piped(sink.url, gather_s=60.0)
    pipe.offer(200)

    assert pipe.stop()
    assert len(sink.spans) == pipe.exported.value == 200
    assert pipe.dropped.value == 0


def test_it_ends_when_nobody_is_left_to_write(sink: Sink) -> None:
    """The supervisor was killed, then the API workers drained: nobody says so."""
    pipe = Piped(sink.url)
    pipe.offer(20)

    pipe.close_writing()

    assert pipe.is_over()
    assert len(sink.spans) == 20


def test_a_flood_of_sampled_requests_displaces_no_error(sink: Sink) -> None:
    """Anybody may set the sampled flag; only we say what failed."""
    sink.hangs = True
    pipe = Piped(sink.url, pipe_bytes=1 << 16)
    pipe.offer(1)
    assert sink.wait_posts(1)

    sampled = pipe.offer(10_000, "sampled")
    errors = pipe.offer(50)
    sink.release()
    assert pipe.stop()

    assert sampled < 200
    assert errors == 50
    assert len(sink.spans) == 1 + sampled + errors


def test_every_request_is_exported_dropped_or_refused_and_never_two_of_them(sink: Sink) -> None:
    pipe = Piped(sink.url, pipe_bytes=1 << 14)

    taken = 0
    for turn in range(40):
        sink.status = 500 if turn % 3 == 0 else 200
        taken += pipe.offer(30)
    sink.status = 200
    assert pipe.stop()

    assert pipe.exported.value + pipe.dropped.value == taken
    assert len(sink.spans) == pipe.exported.value


def test_no_more_spans_are_made_in_a_second_than_allowed(sink: Sink) -> None:
    pipe = Piped(sink.url, spans_per_s=320)

    pipe.offer(192)
    sink.wait_spans(192)

    assert sink.posts == 3
    assert sink.times[2] - sink.times[0] > 2 * 64 / 320 - 0.05  # and never faster, on any machine
    pipe.stop()


def test_headers_and_compression_of_the_environment_are_the_exporters(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=churn")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with piped(sink.url) as pipe:
        pipe.offer(1)
        sink.wait_spans(1)

    assert sink.headers[0]["x-tenant"] == "churn"
    assert sink.headers[0]["content-encoding"] == "gzip"


def test_a_setting_of_the_exporter_that_it_refuses_is_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "nobody")
    slots, _ = Slots.create()

    with pytest.raises(ConfigError, match="nobody"):
        start_export(open_pipe()[0], "http://127.0.0.1:9/v1/traces", slots, spans_per_s=100)


def test_requests_of_several_processes_keep_their_own_resource(sink: Sink) -> None:
    """More than are remembered: a server that is reloaded every minute makes new ones without end."""
    sender = OtlpSender(f"{sink.url}/v1/traces")
    origins = [Origin("churn", "3", f"host/api-{number}") for number in range(ORIGINS * 3)]

    spans = list(sender.spans([Ended(origin, ended()) for origin in origins]))

    assert [span.resource.attributes["service.instance.id"] for span in spans] == [one.instance for one in origins]
    assert sender.send(spans)
    assert len(sink.resources) == len(origins)
