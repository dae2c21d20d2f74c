import gzip
import http.client
import json
import logging
import os
import shutil
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser
from prometheus_client.registry import Collector

from slipway_signals.admin import Admin, AdminPortError, start_admin
from slipway_signals.collector import MergedCollector, make_registry
from slipway_signals.instruments import ServiceMetrics, SupervisorMetrics
from slipway_signals.slots import Slots


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    """Two workers and a supervisor, each metric with a value."""
    collector = MergedCollector()
    for name in ("api-0.1", "api-1.1"):
        fd = collector.open(name)
        service = ServiceMetrics(Slots.attach(fd), service="churn", version="1", routes=["/predict"], models=["churn"])
        os.close(fd)
        service.request("/predict", "POST", 200, 0.012)
        service.request('/"\\\n', "POST", 404, 0.001)
        service.answered("churn", 8)
        service.batch("churn", 8, 0.001, 0.0002, "full")
        service.refused("churn", "queue_full")
        service.model_loaded("churn", "sha256:ab", 0.4)
    fd = collector.open("supervisor")
    supervisor = SupervisorMetrics(Slots.attach(fd), workers=["api-0", "api-1"])
    os.close(fd)
    supervisor.states({"ready": 2})
    yield make_registry(collector)
    for name in ("api-0.1", "api-1.1", "supervisor"):
        collector.fold(name)


@pytest.fixture
def admin(registry: CollectorRegistry) -> Iterator[Admin]:
    def fails() -> tuple[int, bytes, str]:
        raise ZeroDivisionError

    pages = {
        "/readyz": lambda: (503, b"draining\n", "text/plain"),
        "/debug/workers": lambda: (200, b'{"workers": []}', "application/json"),
        "/fails": fails,
    }
    admin = start_admin(registry, 0, pages=pages)
    yield admin
    admin.close()


def parse_openmetrics(text: str) -> list[Family]:
    return [*parser.text_string_to_metric_families(text)]  # type: ignore[no-untyped-call]  # prometheus_client


def ask(admin: Admin, path: str, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", admin.port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.getheader("Content-Type", ""), body


def test_metrics_are_answered_in_the_text_format(admin: Admin) -> None:
    status, content_type, body = ask(admin, "/metrics")

    assert status == 200
    assert content_type.startswith("text/plain")
    assert b'slipway_inferences_total{model="churn",result="ok"} 16.0' in body


def instance(admin: Admin) -> str:
    with urllib.request.urlopen(f"{admin.url}/metrics", timeout=10) as answer:  # noqa: S310 - our own
        return str(answer.headers["X-Slipway-Instance"])


def test_metrics_are_answered_in_openmetrics_when_asked(admin: Admin) -> None:
    status, content_type, body = ask(admin, "/metrics", Accept="application/openmetrics-text;version=1.0.0")

    text = body.decode()
    families = {family.name: family for family in parse_openmetrics(text)}
    assert status == 200
    assert content_type.startswith("application/openmetrics-text")
    assert families["http_server_request_duration_seconds"].unit == "seconds"
    assert families["slipway_inferences"].type == "counter"


def test_metrics_say_of_which_process_they_are(admin: Admin, registry: CollectorRegistry) -> None:
    """The same at each answer, and another word after each start."""
    again = start_admin(registry, 0)

    said = [instance(one) for one in (admin, admin, again)]

    again.close()
    assert said[0]
    assert said[0] == said[1] != said[2]


def test_metrics_are_compressed_when_asked(admin: Admin) -> None:
    _, _, body = ask(admin, "/metrics", **{"Accept-Encoding": "gzip"})

    assert b"slipway_build_info" in gzip.decompress(body)


def test_pages_are_answered_as_they_say(admin: Admin) -> None:
    assert ask(admin, "/readyz") == (503, "text/plain", b"draining\n")
    assert ask(admin, "/debug/workers") == (200, "application/json", b'{"workers": []}')


def test_an_unknown_path_is_404_and_names_the_known_ones(admin: Admin) -> None:
    status, _, body = ask(admin, "/etc/passwd")

    assert status == 404
    assert body.decode().split() == ["/metrics", "/debug/workers", "/fails", "/readyz"]
    assert ask(admin, "/")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_reading_is_allowed(admin: Admin, method: str) -> None:
    assert ask(admin, "/metrics", method)[0] == 405


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/nothing"])
def test_head_has_no_body(admin: Admin, path: str) -> None:
    with socket.create_connection(("127.0.0.1", admin.port)) as client:
        client.sendall(f"HEAD {path} HTTP/1.0\r\n\r\n".encode())
        with client.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.0 ")
    assert body == b""


def test_a_page_that_fails_is_500_and_logged_and_the_port_lives_on(
    admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        status, _, body = ask(admin, "/fails")

    assert status == 500
    assert b"ZeroDivisionError" not in body
    assert [one.message for one in caplog.records] == ["admin_page_failed"]
    assert ask(admin, "/metrics")[0] == 200


def test_it_listens_on_the_loopback_unless_told_otherwise(admin: Admin) -> None:
    assert admin.host == "127.0.0.1"
    assert admin.url == f"http://127.0.0.1:{admin.port}"


def test_it_listens_on_ipv6(registry: CollectorRegistry) -> None:
    admin = start_admin(registry, 0, "::1")

    connection = http.client.HTTPConnection("::1", admin.port, timeout=10)
    connection.request("GET", "/metrics")
    status = connection.getresponse().status
    connection.close()
    admin.close()

    assert status == 200
    assert admin.url == f"http://[::1]:{admin.port}"


def test_a_port_in_use_is_named_with_a_way_out(registry: CollectorRegistry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(AdminPortError, match=f"admin port 127.0.0.1:{port} cannot be opened") as caught:
            start_admin(registry, port)

    assert "--admin-port" in str(caught.value.hint)


def test_a_port_that_does_not_exist_is_refused(registry: CollectorRegistry) -> None:
    with pytest.raises(AdminPortError, match="0 to 65535"):
        start_admin(registry, 70_000)


def test_a_client_that_says_nothing_does_not_hold_up_the_others(admin: Admin) -> None:
    with socket.create_connection(("127.0.0.1", admin.port)):
        assert ask(admin, "/metrics")[0] == 200


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_to_say(admin: Admin) -> None:
    _, _, body = ask(admin, "/metrics")

    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


class ScrapeCounter(Collector):
    """Opens a gate at the third scrape: by then the first two have been stored."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.scrapes = 0

    def describe(self) -> Iterable[Family]:
        return ()

    def collect(self) -> Iterable[Family]:
        self.scrapes += 1
        if self.scrapes == 3:
            self.gate.set()
        return ()


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed (Debian: prometheus)")
def test_a_real_prometheus_scrapes_it_without_a_warning(registry: CollectorRegistry, tmp_path: Path) -> None:
    counter = ScrapeCounter()
    registry.register(counter)
    admin = start_admin(registry, 0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    target = json.dumps({"targets": [f"127.0.0.1:{admin.port}"]})
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: churn, static_configs: [{target}]}}]\n"
    )
    argv = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data"]
    argv += [f"--web.listen-address=127.0.0.1:{port}", "--log.format=json"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as prometheus:
        try:
            assert counter.gate.wait(30.0), (tmp_path / "log").read_text()
            query = urllib.parse.quote('slipway_inferences_total{result="ok"}')
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={query}") as answer:
                found = json.load(answer)["data"]["result"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/targets") as answer:
                targets = json.load(answer)["data"]["activeTargets"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/metadata") as answer:
                metadata = json.load(answer)["data"]
        finally:
            prometheus.terminate()
            admin.close()

    log_lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    complaints = [one for one in log_lines if one["level"] != "info" and "Received SIGTERM" not in one["msg"]]
    assert [one["value"][1] for one in found] == ["16"]
    assert [(one["health"], one["lastError"]) for one in targets] == [("up", "")]
    assert metadata["http_server_request_duration_seconds"][0]["type"] == "histogram"
    assert complaints == []
