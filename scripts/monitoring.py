"""Prometheus and Alertmanager on this machine, around given rules and targets: started, asked, and stopped again.

`make demo` shows alerts with it, and the live tests of alerts are built on it. It judges nothing and compiles nothing:
the files come from `slipway_signals.slo.compile`. The invariants: nothing listens anywhere but on the loopback
interface; what is started ends with the `with` block, and, where it is guarded, with this process, whatever kills it.
Alertmanager starts first: Prometheus offers an alert that nobody took again only after its resend delay.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import yaml
from msgspec import Struct

from slipway_signals.slo.durations import duration_text
from slipway_signals.slo.promrules import INTERVAL_S

ROOT: Final = Path(__file__).resolve().parent.parent
UNPACKED: Final = ROOT / ".tools" / "system" / "usr" / "bin"
"""Where `system-packages.sh` puts servers whose packages would start them."""
PROMETHEUS: Final = "prometheus"
ALERTMANAGERS: Final = ("prometheus-alertmanager", "alertmanager")
"""What Debian calls it, and what everybody else does."""
GUARD: Final = (sys.executable, str(ROOT / "scripts" / "demo_guard.py"))
READY_S: Final = 30.0
LOOK_BACK_S: Final = 300
"""How long Prometheus believes a sample when it is not scaled."""


class MonitoringError(Exception):
    """Prometheus or Alertmanager is missing, did not start, or did not answer as it must."""


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

    def received(self) -> list[Notification]:
        """Every message so far, in the order of arrival."""
        with self.news:
            return list(self.heard)

    def find(
        self, labels: Mapping[str, str], status: str, timeout_s: float, *, after: int = 0
    ) -> tuple[Notification, dict[str, Any]] | None:
        """The first alert with these labels and this status (`firing`, `resolved`), as soon as it is heard.

        Args:
            labels: Which the alert must have.
            status: `firing` or `resolved`.
            timeout_s: Seconds; then None.
            after: How many messages to skip.
        """
        ends = time.monotonic() + timeout_s
        with self.news:
            while (found := _find(self.heard[after:], labels, status)) is None:
                left = ends - time.monotonic()
                if left <= 0:
                    return None
                self.news.wait(left)
        return found


class Running:
    """A process with its log, in a group of its own.

    Args:
        command: What to run.
        log: Where its stdout and stderr are appended.
        is_guarded: It also ends when this process does, whatever ends it (`demo_guard.py`).
        cwd: Where it runs; None: here.
    """

    def __init__(self, command: Sequence[str], log: Path, *, is_guarded: bool = False, cwd: Path | None = None) -> None:
        self.log = log
        self._is_guarded = is_guarded
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [*GUARD, *command] if is_guarded else command,
                stdin=subprocess.PIPE if is_guarded else subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=cwd,
            )

    def kill(self) -> None:
        """End it, at once and by force unless it is guarded; idempotent."""
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        else:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Monitoring:
    """Prometheus and Alertmanager; a context manager.

    Args:
        folder: For configuration, data and logs; made when it is not there.
        files: Of `slipway_signals.slo.compile.compile_all`, by path: rules, and Alertmanager's configuration.
        targets: By service, the addresses (`127.0.0.1:9000`) that are scraped at `/metrics` with the label `service`.
        scale: By what every window and wait of `files` was divided.
        scrape_s: Seconds between scrapes; at most half of `60 / scale`.
        history: OpenMetrics text with timestamps that Prometheus finds in its store when it starts.
        resend_s: Seconds until Prometheus tells Alertmanager the same again; in earnest it is a minute.
        is_guarded: Both end when this process does.

    Raises:
        MonitoringError: One of them is not installed (at once), or did not start (when it is entered).
    """

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, str],
        targets: Mapping[str, Sequence[str]],
        *,
        scale: float = 60,
        scrape_s: float | None = None,
        history: str | None = None,
        resend_s: float = 5,
        is_guarded: bool = False,
    ) -> None:
        self.folder = folder
        self.scale = scale
        self.url = f"http://127.0.0.1:{free_port()}"
        self.alertmanager_url = f"http://127.0.0.1:{free_port()}"
        self.prometheus: Running | None = None
        self.alertmanager: Running | None = None
        self._programs = find_programs()
        self._files = dict(files)
        self._scrape_s = scrape_s or 60 / scale / 3
        self._targets = {name: tuple(addresses) for name, addresses in targets.items()}
        self._history = history
        self._resend_s = resend_s
        self._is_guarded = is_guarded

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.close)
            self.write()
            self.start_alertmanager()
            self.start_prometheus()
            undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End both; idempotent."""
        for running in (self.prometheus, self.alertmanager):
            if running is not None:
                running.kill()

    def write(self) -> None:
        """Write every file that they read."""
        (self.folder / "rules").mkdir(parents=True, exist_ok=True)
        for name, text in self._files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        self.retarget(self._targets)
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(self._config()))
        if self._history is not None:
            (self.folder / "history.txt").write_text(self._history)
            command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "history.txt", "data"]
            subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def start_alertmanager(self) -> None:
        """Start it and wait until it is ready. Raises MonitoringError."""
        port = self.alertmanager_url.rpartition(":")[2]
        command = [self._programs[1], f"--config.file={self.folder}/alertmanager/alertmanager.yaml"]
        command += [f"--storage.path={self.folder}/alertmanager-data", f"--web.listen-address=127.0.0.1:{port}"]
        command += ["--cluster.listen-address="]
        self.alertmanager = Running(command, self.folder / "alertmanager.log", is_guarded=self._is_guarded)
        _await(self.alertmanager, self.alertmanager_url)

    def start_prometheus(self) -> None:
        """Start it and wait until it is ready; the first scrape comes about 5 s later. Raises MonitoringError."""
        port = self.url.rpartition(":")[2]
        back = duration_text(max(LOOK_BACK_S / self.scale, 10 * self._scrape_s))
        command = [self._programs[0], f"--config.file={self.folder}/prometheus.yaml"]
        command += [f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
        command += ["--web.enable-lifecycle", "--enable-feature=exemplar-storage", f"--query.lookback-delta={back}"]
        command += [f"--rules.alert.resend-delay={duration_text(self._resend_s)}"]
        self.prometheus = Running(command, self.folder / "prometheus.log", is_guarded=self._is_guarded)
        _await(self.prometheus, self.url)

    def retarget(self, targets: Mapping[str, Sequence[str]]) -> None:
        """Scrape these from now on; Prometheus takes up to 5 s to notice."""
        self._targets = {name: tuple(addresses) for name, addresses in targets.items()}
        found = [{"targets": list(where), "labels": {"service": name}} for name, where in self._targets.items()]
        beside = self.folder / "targets.tmp"
        beside.write_text(json.dumps(found))
        beside.rename(self.folder / "targets.json")

    def reload(self) -> httpx.Response:
        """Ask Prometheus to read its files again; 200, or 500 with the reason."""
        return httpx.post(f"{self.url}/-/reload", timeout=10)

    def judge_by(self, files: Mapping[str, str]) -> None:
        """Write these rules too, and have them loaded. Raises MonitoringError, httpx.HTTPError."""
        self._files |= files
        self.write()
        answer = self.reload()
        if not answer.is_success:
            raise MonitoringError(f"Prometheus did not load the rules: {answer.text.strip()}")

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """The instant vector: labels and value of each series. Raises MonitoringError, httpx.HTTPError."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": promql}, timeout=10).json()
        if answer["status"] != "success":
            raise MonitoringError(f"Prometheus refused {promql!r}: {answer['error']}")
        return [(found["metric"], float(found["value"][1])) for found in answer["data"]["result"]]

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


def find_programs() -> tuple[str, str]:
    """Prometheus and Alertmanager: on PATH, or unpacked in `.tools/system`. Raises MonitoringError."""
    prometheus, alertmanager = find_program(PROMETHEUS), find_program(*ALERTMANAGERS)
    if prometheus is None or alertmanager is None:
        missing = [name for name, found in ((PROMETHEUS, prometheus), (ALERTMANAGERS[-1], alertmanager)) if not found]
        raise MonitoringError(f"{' and '.join(missing)} not found on PATH")
    return prometheus, alertmanager


def find_program(*names: str) -> str | None:
    """The first of them that is on PATH, or unpacked in `.tools/system`."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}{UNPACKED}"
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


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


def _await(running: Running, url: str) -> None:
    def is_ready() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{url}/-/ready", timeout=2).status_code == httpx.codes.OK
        return running.process.poll() is not None

    if not eventually(is_ready, READY_S) or running.process.poll() is not None:
        raise MonitoringError(f"{running.log.stem} did not start:\n{running.tail()}")


def _find(
    heard: Sequence[Notification], wanted: Mapping[str, str], status: str
) -> tuple[Notification, dict[str, Any]] | None:
    for one in heard:
        for alert in one.alerts:
            if alert["status"] == status and wanted.items() <= alert["labels"].items():
                return one, alert
    return None
