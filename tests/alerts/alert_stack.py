"""A real Prometheus and a real Alertmanager around the compiled rules, with a sink for what they send.

Nothing is judged here. The rules are those of `observability/`, with every window and wait divided by `scale`; whoever
scrapes slower than twice in `1m / scale` sees nothing. Alertmanager starts first: Prometheus offers an alert that
nobody took again only after its resend delay. Everything ends with the `with` block, killed by its process group.
"""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import yaml
from msgspec import Struct

from slipway_signals.slo.compile import compile_all
from slipway_signals.slo.durations import duration_text
from slipway_signals.slo.model import ServiceSlos
from slipway_signals.slo.promrules import INTERVAL_S, Timing

PROMETHEUS, ALERTMANAGER = "prometheus", "prometheus-alertmanager"
READY_S = 30.0
LOOK_BACK_S = 300
"""How long Prometheus believes a sample when it is not scaled."""


class Notification(Struct, frozen=True):
    """One message of Alertmanager."""

    receiver: str
    """Path that was called: `/page/<owner>`, `/ticket/<owner>` or `/watchdog`."""

    at: float
    """Monotonic seconds."""

    body: dict[str, Any]
    """https://prometheus.io/docs/alerting/0.25/configuration/#webhook_config"""

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Its alerts: `status`, `labels`, `annotations`, `startsAt`, `endsAt`."""
        found: list[dict[str, Any]] = self.body["alerts"]
        return found

    @property
    def firing(self) -> list[str]:
        """Names of the alerts in it that fire."""
        return [alert["labels"]["alertname"] for alert in self.alerts if alert["status"] == "firing"]


class Sink:
    """The webhook: remembers every message; to a path in `answers` it gives that status instead of 200, and forgets."""

    def __init__(self) -> None:
        self.heard: list[Notification] = []
        self.news = threading.Condition()
        self.answers: dict[str, int] = {}
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = sink.answers.get(self.path, 200)
                if status == 200:
                    with sink.news:
                        sink.heard.append(Notification(self.path, time.monotonic(), body))
                        sink.news.notify_all()
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Running:
    """A process with its log, in a group of its own."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)

    def kill(self) -> None:
        """Kill the group; idempotent."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class AlertStack:
    """Prometheus, Alertmanager and the sink; a context manager.

    Args:
        folder: For configuration, data and logs; made when it is not there.
        services: Whose objectives are compiled; the alerts of the monitoring come with them.
        targets: By service, the addresses (`127.0.0.1:9000`) that are scraped at `/metrics` with the label `service`.
        scale: Every window and wait of the rules is divided by it.
        scrape_s: Seconds between scrapes; at most half of `60 / scale`.
        history: OpenMetrics text with timestamps that Prometheus finds in its store when it starts.
        resend_s: Seconds until Prometheus tells Alertmanager the same again; in earnest it is a minute.
    """

    def __init__(
        self,
        folder: Path,
        services: Sequence[ServiceSlos],
        targets: Mapping[str, Sequence[str]],
        *,
        scale: float = 60,
        scrape_s: float | None = None,
        history: str | None = None,
        resend_s: float = 5,
    ) -> None:
        self.folder = folder
        self.scale = scale
        self.sink = Sink()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.alertmanager_url = f"http://127.0.0.1:{free_port()}"
        self._scrape_s = scrape_s or 60 / scale / 3
        self._services = tuple(services)
        self._targets = {name: tuple(addresses) for name, addresses in targets.items()}
        self._history = history
        self._resend_s = resend_s
        self.prometheus: Running | None = None
        self.alertmanager: Running | None = None

    def __enter__(self) -> "AlertStack":
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            undo.callback(self.close)
            self._write()
            self.start_alertmanager()
            self.start_prometheus()
            undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Kill all of it; idempotent."""
        for running in (self.prometheus, self.alertmanager):
            if running is not None:
                running.kill()
        self.sink.close()

    def start_alertmanager(self) -> None:
        """Start it and wait until it is ready."""
        port = self.alertmanager_url.rpartition(":")[2]
        command = [ALERTMANAGER, f"--config.file={self.folder}/alertmanager/alertmanager.yaml"]
        command += [f"--storage.path={self.folder}/alertmanager-data", f"--web.listen-address=127.0.0.1:{port}"]
        command += ["--cluster.listen-address="]
        self.alertmanager = Running(command, self.folder / "alertmanager.log")
        self._await(self.alertmanager, self.alertmanager_url)

    def start_prometheus(self) -> None:
        """Start it and wait until it is ready; the first scrape comes about 5 s later."""
        port = self.url.rpartition(":")[2]
        back = duration_text(max(LOOK_BACK_S / self.scale, 10 * self._scrape_s))
        command = [PROMETHEUS, f"--config.file={self.folder}/prometheus.yaml"]
        command += [f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
        command += ["--web.enable-lifecycle", f"--query.lookback-delta={back}"]
        command += [f"--rules.alert.resend-delay={duration_text(self._resend_s)}"]
        self.prometheus = Running(command, self.folder / "prometheus.log")
        self._await(self.prometheus, self.url)

    def retarget(self, targets: Mapping[str, Sequence[str]]) -> None:
        """Scrape these from now on; Prometheus takes up to 5 s to notice."""
        self._targets = {name: tuple(addresses) for name, addresses in targets.items()}
        beside = self.folder / "targets.tmp"
        beside.write_text(json.dumps(self._discovered()))
        beside.rename(self.folder / "targets.json")

    def reload(self) -> httpx.Response:
        """Ask Prometheus to read its files again; 200, or 500 with the reason."""
        return httpx.post(f"{self.url}/-/reload", timeout=10)

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """The instant vector: labels and value of each series."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": promql}, timeout=10).json()
        assert answer["status"] == "success", answer
        return [(found["metric"], float(found["value"][1])) for found in answer["data"]["result"]]

    def until(self, promql: str, timeout_s: float = 60) -> list[tuple[dict[str, str], float]]:
        """Ask again and again until the vector has a series; raises AssertionError after `timeout_s`."""
        found: list[tuple[dict[str, str], float]] = []

        def is_there() -> bool:
            found[:] = self.query(promql)
            return bool(found)

        if not eventually(is_there, timeout_s):
            raise AssertionError(f"{promql} had no value within {timeout_s:g} s\n{self.said()}")
        return found

    def received(self) -> list[Notification]:
        """Every message so far, in the order of arrival."""
        with self.sink.news:
            return list(self.sink.heard)

    def wait_for(
        self, alertname: str, status: str = "firing", timeout: float = 60, *, after: int = 0, **labels: str
    ) -> dict[str, Any]:
        """The alert as the webhook got it, as soon as it got it.

        Args:
            alertname: Of the alert.
            status: `firing` or `resolved`.
            timeout: Seconds; then AssertionError, with what was heard and what the logs say.
            after: How many messages to skip: `len(stack.received())` at some moment.
            labels: Which the alert must have.
        """
        wanted = {"alertname": alertname, **labels}
        ends = time.monotonic() + timeout
        with self.sink.news:
            while (found := _find(self.sink.heard[after:], wanted, status)) is None:
                left = ends - time.monotonic()
                if left <= 0:
                    break
                self.sink.news.wait(left)
        if found is None:
            raise AssertionError(f"{wanted} was not {status} within {timeout:g} s\n{self.said()}")
        return {**found[1], "receiver": found[0].receiver}

    def said(self) -> str:
        """What was heard, which alerts hold, and the ends of the logs."""
        heard = [f"  {one.receiver} {_line(alert)}" for one in self.received() for alert in one.alerts]
        with suppress(httpx.HTTPError):
            heard += [f"  holds: {labels}" for labels, _ in self.query("ALERTS")]
        running = [one for one in (self.prometheus, self.alertmanager) if one is not None]
        return "\n".join(["heard:", *heard, *(f"{one.log.name}:\n{one.tail()}" for one in running)])

    def _await(self, running: Running, url: str) -> None:
        def is_ready() -> bool:
            with suppress(httpx.HTTPError):
                return httpx.get(f"{url}/-/ready", timeout=2).status_code == httpx.codes.OK
            return running.process.poll() is not None

        if not eventually(is_ready, READY_S) or running.process.poll() is not None:
            raise AssertionError(f"{running.log.stem} did not start:\n{running.tail()}")

    def _write(self) -> None:
        timing = Timing(self.scale)
        for name, text in compile_all(self._services, timing=timing, webhook=self.sink.url).items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        self.retarget(self._targets)
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(self._config()))
        if self._history is not None:
            (self.folder / "history.txt").write_text(self._history)
            command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "history.txt", "data"]
            subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def _config(self) -> dict[str, Any]:
        alertmanager = self.alertmanager_url.removeprefix("http://")
        scrape = duration_text(self._scrape_s)
        return {
            "global": {
                "scrape_interval": scrape,
                "scrape_timeout": scrape,
                "evaluation_interval": duration_text(INTERVAL_S / self.scale),
            },
            "rule_files": [f"{self.folder}/rules/*.yaml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
            "scrape_configs": [
                {"job_name": "slipway", "file_sd_configs": [{"files": [f"{self.folder}/targets.json"]}]},
                {"job_name": "prometheus", "static_configs": [{"targets": [self.url.removeprefix("http://")]}]},
                {"job_name": "alertmanager", "static_configs": [{"targets": [alertmanager]}]},
            ],
        }

    def _discovered(self) -> list[dict[str, Any]]:
        return [{"targets": list(where), "labels": {"service": name}} for name, where in self._targets.items()]


class Page:
    """`/metrics` over HTTP with the text that is in `text`, for what cannot run here."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = page.text.encode(errors="surrogateescape")  # so that a text can hold what is none
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"


@contextmanager
def metrics_page(text: str = "") -> Iterator[Page]:
    """A `Page` for the length of a `with` block; change its `text` at any time."""
    page = Page(text)
    thread = threading.Thread(target=page.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield page
    finally:
        page.server.shutdown()
        page.server.server_close()
        thread.join()


def eventually(claim: Callable[[], bool], timeout_s: float) -> bool:
    """Ask again and again until it is true; False after `timeout_s`."""
    ends, news = time.monotonic() + timeout_s, threading.Event()
    while not claim():
        if time.monotonic() > ends:
            return False
        news.wait(0.05)
    return True


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _find(
    heard: Sequence[Notification], wanted: Mapping[str, str], status: str
) -> tuple[Notification, dict[str, Any]] | None:
    for one in heard:
        for alert in one.alerts:
            if alert["status"] == status and wanted.items() <= alert["labels"].items():
                return one, alert
    return None


def _line(alert: Mapping[str, Any]) -> str:
    labels = alert["labels"]
    return f"{alert['status']:<8} {labels['alertname']} {labels.get('service')}: {alert['annotations'].get('summary')}"
