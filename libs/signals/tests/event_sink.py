"""Whatever starts a training, as the tests of the retraining hook need it: it takes CloudEvents, and has bad moments.

Also an alert and a webhook as Alertmanager sends them.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BEGAN = "2026-11-20T10:00:00Z"


class EventSink(ThreadingHTTPServer):
    """Answers with `statuses`, one after the other, and then 202. What it took is in `taken`, refused ones too."""

    def __init__(self, statuses: Sequence[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = list(statuses)
        self.taken: list[tuple[dict[str, str], Any]] = []
        self.changed = threading.Condition()
        self.holds = threading.Event()
        """Answers wait while it is not set."""
        self.holds.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?token=secret"

    def wait_taken(self, count: int, timeout_s: float = 30.0) -> list[tuple[dict[str, str], Any]]:
        """What it took, once that are `count`."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.taken) >= count, timeout_s), self.taken
            return list(self.taken)


class _Handler(BaseHTTPRequestHandler):
    server: EventSink

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.changed:
            self.server.taken.append((dict(self.headers.items()), body))
            status = self.server.statuses.pop(0) if self.server.statuses else 202
            self.server.changed.notify_all()
        self.server.holds.wait(30.0)
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        with self.server.changed:
            self.server.taken.append((dict(self.headers.items()), self.path))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
        """Say nothing."""


@contextmanager
def event_sink(*statuses: int) -> Iterator[EventSink]:
    with EventSink(statuses) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.holds.set()
            server.shutdown()
            thread.join()


def alert(name: str = "SlipwayPredictionDrift", **changes: Any) -> dict[str, Any]:
    """One alert as Alertmanager sends it; `labels` and `annotations` are added to the usual ones."""
    labels = {
        "alertname": name, "service": "churn", "model": "churn", "category": "drift", "owner": "team-churn",
        "severity": "ticket",
    }  # fmt: skip
    annotations = {
        "summary": "The answers moved", "description": "PSI 0.3", "runbook_url": "runbooks/x", "statistic": "psi",
        "value": "0.306", "releases": "sha256:aa=1.2", "moved": "income=0.306 contract=0.001",
    }  # fmt: skip
    return {
        "status": changes.get("status", "firing"),
        "labels": labels | changes.get("labels", {}),
        "annotations": annotations | changes.get("annotations", {}),
        "startsAt": changes.get("starts_at", BEGAN),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph?g0.expr=x",
        "fingerprint": "f",
    }


def webhook(*alerts: dict[str, Any]) -> bytes:
    return json.dumps({"version": "4", "groupKey": "{}", "receiver": "retraining", "alerts": alerts}).encode()
