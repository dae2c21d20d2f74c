"""Asking a Prometheus: a real one, and what happens when it is not there, slow, endless, or somebody else."""

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from monitoring import Monitoring, eventually

from slipway_signals.prometheus import Prometheus, PrometheusError, Sample

HISTORY = """\
# TYPE visits counter
visits_total{page="a"} 1 1700000000
visits_total{page="b"} 5 1700000000
visits_total{page="a"} 3 1700000010
visits_total{page="b"} 5 1700000010
# EOF
"""
RULES = """\
groups:
- name: always
  interval: 1s
  rules:
  - {alert: Always, expr: vector(7) > 0, labels: {severity: page}, annotations: {summary: hello}}
"""
ALERTMANAGER = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
BEGUN = 1_700_000_000.0


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    files = {"rules/always.yaml": RULES, "alertmanager/alertmanager.yaml": ALERTMANAGER}
    with Monitoring(tmp_path_factory.mktemp("asked"), files, {}, history=HISTORY) as running:
        yield Prometheus(running.url + "/")


real = pytest.mark.needs("prometheus", "prometheus-alertmanager", "promtool")


@real
def test_an_instant_is_a_value_for_each_series(prometheus: Prometheus) -> None:
    found = prometheus.instant("visits_total", at=BEGUN)

    assert sorted(found, key=lambda one: one.value) == [
        Sample({"__name__": "visits_total", "page": "a"}, 1.0),
        Sample({"__name__": "visits_total", "page": "b"}, 5.0),
    ]


@real
def test_no_series_is_an_empty_list_and_nan_stays_nan(prometheus: Prometheus) -> None:
    assert prometheus.instant("visits_total") == []
    assert prometheus.range("visits_total", BEGUN + 9_000, BEGUN + 9_010, 10) == []
    assert math.isnan(prometheus.instant("vector(0) / 0")[0].value)
    assert prometheus.instant("vector(1) / 0") == [Sample({}, math.inf)]
    assert prometheus.instant("scalar(vector(2))") == [Sample({}, 2.0)]


@real
def test_a_range_is_a_line_for_each_series(prometheus: Prometheus) -> None:
    [line] = prometheus.range('visits_total{page="a"}', BEGUN, BEGUN + 10, 10)

    assert line.labels["page"] == "a"
    assert line.points == ((BEGUN, 1.0), (BEGUN + 10, 3.0))


@real
def test_values_of_a_label_are_those_of_the_chosen_series(prometheus: Prometheus) -> None:
    assert prometheus.label_values("page", "visits_total") == ["a", "b"]
    assert prometheus.label_values("page", 'visits_total{page!="a"}') == ["b"]


@real
def test_an_alert_is_told_with_its_words_and_its_time(prometheus: Prometheus) -> None:
    assert eventually(lambda: bool(prometheus.alerts()), 10)
    [alert] = prometheus.alerts()

    assert (alert.name, alert.state, alert.value) == ("Always", "firing", 7.0)
    assert alert.labels == {"alertname": "Always", "severity": "page"}
    assert alert.annotations == {"summary": "hello"}
    assert abs(alert.since - time.time()) < 60


@real
@pytest.mark.parametrize("wrong", ["sum(", 'up{job="}', "visits_total[1m]", "sum by (page (x)"])
def test_a_query_that_is_refused_says_why_in_prometheus_words(prometheus: Prometheus, wrong: str) -> None:
    with pytest.raises(PrometheusError) as refused:
        prometheus.instant(wrong)

    assert wrong in refused.value.message
    assert "parse error" in refused.value.message or "gives a matrix" in refused.value.message


@real
def test_threads_may_share_one(prometheus: Prometheus) -> None:
    answers: list[float] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(prometheus.instant(f"vector({n})")[0].value))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(answers) == [float(n) for n in range(20)]


@contextmanager
def somebody(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server that is no Prometheus; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            answer(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def says(body: bytes, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers so."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.mark.parametrize(
    "body",
    [
        b"<html>log in</html>",
        b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{}}]}}',
        b'{"status":"success","data":null}',
        b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"many"]}]}}',
        b"[]",
        b"\xff\xfe",
        b"",
    ],
)
def test_what_is_no_prometheus_is_said_and_not_believed(body: bytes) -> None:
    with somebody(says(body, status=502)) as url, pytest.raises(PrometheusError) as failed:
        Prometheus(url).instant("up")

    assert url in failed.value.message
    assert "no Prometheus" in failed.value.message


def test_one_that_is_not_there_is_named_at_once() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(PrometheusError, match="Connection refused") as failed:
            Prometheus(url).alerts()

    assert failed.value.exit_status == 3
    assert url in failed.value.message


@pytest.mark.parametrize("url", ["", "prometheus", "http://[::1", "ftp://127.0.0.1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(PrometheusError, match="cannot ask Prometheus"):
        Prometheus(url).alerts()


def test_one_that_does_not_answer_is_left_alone_in_time() -> None:
    over = threading.Event()

    def wait(_: BaseHTTPRequestHandler) -> None:
        over.wait(20)

    with somebody(wait) as url:
        begun = time.monotonic()
        with pytest.raises(PrometheusError, match=r"no answer within 0\.2 s"):
            Prometheus(url, timeout_s=0.2).instant("up")
        took_s = time.monotonic() - begun
        over.set()

    assert took_s < 5


def test_an_answer_that_does_not_end_is_left_alone_in_time() -> None:
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "1000000")
        handler.end_headers()
        while not over.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    with somebody(drip) as url:
        begun = time.monotonic()
        with pytest.raises(PrometheusError, match="does not end"):
            Prometheus(url, timeout_s=0.3).instant("up")
        took_s = time.monotonic() - begun
        over.set()

    assert took_s < 5
