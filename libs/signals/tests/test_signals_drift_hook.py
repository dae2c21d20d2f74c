"""Sustained drift becomes one CloudEvent for one episode, delivered to a real receiver in spite of its bad moments."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from slipway_signals.drift.hook import CloudEvent, HookError, PayloadError, events_of, post


def alert(**changes: Any) -> dict[str, Any]:
    """One alert as Alertmanager sends it."""
    labels = {
        "alertname": "SlipwayPredictionDrift", "service": "churn", "model": "churn", "category": "drift",
        "owner": "team-churn", "severity": "ticket",
    }  # fmt: skip
    return {
        "status": changes.get("status", "firing"),
        "labels": {**labels, **changes.get("labels", {})},
        "annotations": {"summary": "The answers moved", "description": "PSI 0.3", "runbook_url": "runbooks/x"},
        "startsAt": changes.get("starts_at", "2026-11-20T10:00:00Z"),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph?g0.expr=x",
        "fingerprint": "f",
    }


def webhook(*alerts: dict[str, Any]) -> bytes:
    return json.dumps({"version": "4", "groupKey": "{}", "receiver": "retraining", "alerts": alerts}).encode()


class Receiver(ThreadingHTTPServer):
    """Takes events, with the statuses it was told to answer."""

    def __init__(self, statuses: Sequence[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = list(statuses)
        self.taken: list[tuple[dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?token=secret"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.taken.append((dict(self.headers.items()), body))
        self.send_response(self.server.statuses.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
        """Say nothing."""


@contextmanager
def receiver(*statuses: int) -> Iterator[Receiver]:
    with Receiver(statuses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def event(**changes: Any) -> CloudEvent:
    return events_of(webhook(alert(**changes)))[0]


def test_a_firing_alert_about_a_model_is_an_event_and_nothing_else_is() -> None:
    payload = webhook(
        alert(),
        alert(status="resolved"),
        alert(labels={"category": "latency"}),
        alert(labels={"model": ""}),
        alert(labels={"category": "quality", "alertname": "SlipwayAccuracyLow"}),
    )

    events = events_of(payload)

    assert [(one.type, one.subject, one.data.alert) for one in events] == [
        ("io.slipway.drift.sustained.v1", "churn/churn", "SlipwayPredictionDrift"),
        ("io.slipway.drift.sustained.v1", "churn/churn", "SlipwayAccuracyLow"),
    ]
    assert events[0].data.description == "PSI 0.3"


def test_an_episode_has_one_id_however_often_it_is_sent() -> None:
    again = event()

    assert event().id == again.id
    assert len({event().id, event(starts_at="2026-11-21T10:00:00Z").id, event(labels={"feature": "income"}).id}) == 3


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "no webhook of Alertmanager"),
        (b'{"version": "3", "alerts": []}', "version '3'"),
        (b'{"version": "4", "alerts": [{"status": "burning", "labels": {}}]}', "burning"),
        (b" " * (4 * 2**20 + 1), "too long"),
    ],
)
def test_what_is_no_webhook_is_refused(payload: bytes, said: str) -> None:
    with pytest.raises(PayloadError, match=said):
        events_of(payload)


def test_an_event_arrives_in_structured_json_after_the_receivers_bad_moments() -> None:
    waited: list[float] = []
    with receiver(503, 429, 202) as there:
        status = post(event(), there.url, headers={"Authorization": "Bearer x"}, wait=waited.append)

    headers, body = there.taken[-1]
    assert status == 202
    assert waited == [0.5, 2.0]
    assert headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert headers["Authorization"] == "Bearer x"
    assert {key: body[key] for key in ("specversion", "type", "source", "time")} == {
        "specversion": "1.0",
        "type": "io.slipway.drift.sustained.v1",
        "source": "slipway/churn",
        "time": "2026-11-20T10:00:00Z",
    }
    assert len({body["id"] for _, body in there.taken}) == 1
    assert body["data"]["model"] == "churn"


def test_a_refusal_is_not_repeated_and_the_token_is_not_told() -> None:
    with receiver(403) as there, pytest.raises(HookError, match="403") as caught:
        post(event(), there.url)

    assert len(there.taken) == 1
    assert "secret" not in str(caught.value)


def test_a_receiver_that_stays_away_is_an_error() -> None:
    waited: list[float] = []
    with receiver() as gone:
        url = gone.url

    with pytest.raises(HookError, match="was not taken by http://127"):
        post(event(), url, wait=waited.append)

    assert waited == [0.5, 2.0, 8.0]


def test_an_event_goes_to_the_web_only() -> None:
    with pytest.raises(PayloadError, match="http or https"):
        post(event(), "file:///etc/passwd")
