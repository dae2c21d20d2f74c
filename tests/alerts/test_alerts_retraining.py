"""Drift starts one training: a real Alertmanager, the real `slipway drift hook`, a receiver that takes its events."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from alert_stack import AlertStack, Running, eventually, free_port, metrics_page
from event_sink import EventSink, event_sink
from slo_files import AVAILABILITY, read

from slipway_signals.slo.model import ServiceSlos

LABELS = {
    "alertname": "SlipwayPredictionDrift", "service": "churn", "model": "churn", "category": "drift",
    "owner": "team-churn", "severity": "ticket",
}  # fmt: skip
FACTS = {"statistic": "psi", "value": "0.31", "releases": "sha256:aa=1.2", "moved": "income=0.31"}
BINS = ("low", "b01", "b02", "b03", "high", "missing")
KNOWN, MOVED = (0, 40, 30, 30, 0, 0), (0, 10, 20, 70, 0, 0)


class Hook:
    """`slipway drift hook` on a port of its own; it can be killed and started again."""

    def __init__(self, folder: Path, to: EventSink) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._folder = folder
        self._to = to
        self._running: Running | None = None

    @property
    def services(self) -> list[ServiceSlos]:
        """Churn, whose drift this hook hears."""
        note = f"slipway.dev/owner: team-churn\n    slipway.dev/retraining: http://{self.address}/alerts"
        return [read(AVAILABILITY.replace("slipway.dev/owner: team-churn", note))]

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "slipway_cli", "drift", "hook", "--to", self._to.url]
        command += ["--listen", self.address, "--sustained", "0"]
        self._running = Running(command, self._folder / "hook.log")
        assert eventually(lambda: self.counted() is not None, 30), self._running.tail()

    def kill(self) -> None:
        """As the kernel would, short of memory."""
        if self._running is not None:
            self._running.kill()

    def counted(self) -> dict[str, Any] | None:
        """What /healthz says; None while it does not answer."""
        with suppress(httpx.HTTPError):
            found: dict[str, Any] = httpx.get(f"http://{self.address}/healthz", timeout=2).json()
            return found
        return None

    def has_heard(self, webhooks: int) -> bool:
        return bool((self.counted() or {"webhooks": 0})["webhooks"] >= webhooks)


@contextmanager
def hooked(folder: Path, sink: EventSink) -> Iterator[Hook]:
    folder.mkdir(parents=True, exist_ok=True)
    hook = Hook(folder, sink)
    try:
        yield hook
    finally:
        hook.kill()


@contextmanager
def alertmanager(stack: AlertStack) -> Iterator[AlertStack]:
    """Alertmanager alone: the test says what Prometheus would."""
    try:
        stack.write()
        stack.start_alertmanager()
        yield stack
    finally:
        stack.close()


def say(stack: AlertStack, began: datetime, *, ended: bool = False) -> None:
    """What Prometheus tells Alertmanager."""
    end = datetime.now(UTC) if ended else datetime.now(UTC) + timedelta(minutes=5)
    alert = {"labels": LABELS, "annotations": FACTS, "startsAt": began.isoformat(), "endsAt": end.isoformat()}
    httpx.post(f"{stack.alertmanager_url}/api/v2/alerts", json=[alert], timeout=10).raise_for_status()


@pytest.mark.slow
@pytest.mark.needs("prometheus-alertmanager")
def test_a_killed_hook_loses_nothing_and_an_episode_is_one_event(tmp_path: Path) -> None:
    began = datetime.now(UTC)
    with event_sink() as sink, hooked(tmp_path, sink) as hook:
        stack = AlertStack(tmp_path / "stack", hook.services, {}, scale=600)
        stack.folder.mkdir()
        with alertmanager(stack):
            say(stack, began)  # nobody listens yet
            sink.holds.clear()
            hook.start()
            sink.wait_taken(1)
            hook.kill()  # with the event in its hand, and no answer to Alertmanager
            hook.start()
            sink.holds.set()
            sink.wait_taken(2)
            assert eventually(lambda: hook.has_heard(2), 60)  # Alertmanager repeats itself
            first = ids(sink)
            say(stack, began, ended=True)
            assert eventually(lambda: hook.has_heard(3), 60)
            say(stack, datetime.now(UTC))
            sink.wait_taken(3)

    assert len(first) == 2
    assert first[0] == first[1]  # the one that was killed had sent it: whoever remembers ids starts one training
    assert len(set(ids(sink))) == 2


@pytest.mark.e2e
@pytest.mark.needs("prometheus", "prometheus-alertmanager")
def test_drift_that_is_counted_arrives_as_one_event_with_its_figures(tmp_path: Path) -> None:
    with event_sink() as sink, hooked(tmp_path, sink) as hook, metrics_page() as page:
        hook.start()
        targets = {"churn": [page.address]}
        with AlertStack(tmp_path / "stack", hook.services, targets, scale=120, resend_s=1) as stack:
            counts = Counted()
            assert eventually(lambda: counts.show(page, MOVED) and bool(sink.taken), 240), stack.said()
            heard = (hook.counted() or {})["webhooks"]
            assert eventually(lambda: counts.show(page, MOVED) and hook.has_heard(heard + 1), 90)
            stopped = len(sink.taken)
            assert eventually(lambda: counts.show(page, KNOWN) and not firing(stack), 120), stack.said()

    ((_, event),) = sink.taken
    data = event["data"]
    assert stopped == 1
    assert (data["service"], data["model"], data["owner"]) == ("churn", "churn", "team-churn")
    assert data["releases"] == [{"digest": "sha256:aa", "version": "1.2"}]
    assert [moved["feature"] for moved in data["features"]] == ["income"]
    assert data["features"][0]["psi"] == pytest.approx(0.8, abs=0.1)
    assert {cause["alert"] for cause in data["causes"]} >= {"SlipwayPredictionDrift"}
    assert data["causes"][0]["statistic"] == "psi"
    assert event["time"] == data["since"]


class Counted:
    """What a server that drifts would show: every call is another hundred rows."""

    def __init__(self) -> None:
        self._rows = [0] * len(BINS)

    def show(self, page: Any, shares: Sequence[int]) -> bool:
        self._rows = [rows + share for rows, share in zip(self._rows, shares, strict=True)]
        total = sum(self._rows)
        lines = [
            'slipway_build_info{version="1.2",digest="sha256:aa",slipway_version="0"} 1',
            f'slipway_drift_rows_total{{model="churn"}} {total}',
            f'slipway_drift_squared_weights_total{{model="churn"}} {total}',
            'slipway_feature_reference_rows{model="churn"} 15000',
            'slipway_prediction_reference_rows{model="churn"} 5000',
        ]
        for label, rows, known in zip(BINS, self._rows, KNOWN, strict=True):
            lines += [
                f'slipway_feature_bin_total{{model="churn",feature="income",bin="{label}"}} {rows}',
                f'slipway_feature_reference_share{{model="churn",feature="income",bin="{label}"}} {known / 100}',
                f'slipway_prediction_bin_total{{model="churn",bin="{label}"}} {rows}',
                f'slipway_prediction_reference_share{{model="churn",bin="{label}"}} {known / 100}',
            ]
        page.text = "\n".join(lines) + "\n"
        return True


def ids(sink: EventSink) -> list[str]:
    return [body["id"] for _, body in sink.taken]


def firing(stack: AlertStack) -> bool:
    return bool(stack.query('ALERTS{alertstate="firing",category="drift"}'))
