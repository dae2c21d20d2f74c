"""What is heard when the monitoring itself is dead: docs/slo.md, "Who watches the watchers".

Nobody can be told by what is dead. The dead-man's switch hears silence, and a second Prometheus, with the same
configuration, tells of the first.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import httpx
import pytest
import yaml
from alert_stack import PROMETHEUS, AlertStack, Notification, Running, eventually, free_port, metrics_page
from slo_files import AVAILABILITY, read

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs("prometheus", "prometheus-alertmanager"),
    pytest.mark.timeout(180),
]

SCALE = 60
MINUTE_S = 60 / SCALE
HEARTBEAT = "/watchdog"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlertStack]:
    """One healthy service, watched."""
    text = 'http_server_request_duration_seconds_count{http_response_status_code="500"} 1\n'
    with (
        metrics_page(text) as page,
        AlertStack(
            tmp_path_factory.mktemp("dead"),
            [read(AVAILABILITY)],
            {"churn": [page.address]},
            scale=SCALE,
            resend_s=MINUTE_S,
        ) as stack,
    ):
        yield stack


@pytest.fixture
def stack(started: AlertStack) -> AlertStack:
    """All parts are up, and the heartbeat arrives."""
    before = len(started.received())
    started.until('up{job="alertmanager"} == 1 and on() up{job="prometheus"} == 1')
    started.wait_for("SlipwayWatchdog", after=before)
    return started


@pytest.fixture(scope="module")
def peer(started: AlertStack) -> Iterator[Running]:
    """A second Prometheus with the same configuration, which also watches the first and has the same Alertmanager."""
    url = f"127.0.0.1:{free_port()}"
    folder = started.folder / "peer"
    folder.mkdir()
    (folder / "prometheus.yaml").write_text((started.folder / "prometheus.yaml").read_text())
    command = [PROMETHEUS, f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address={url}", "--rules.alert.resend-delay=1s", "--query.lookback-delta=5s"]
    running = Running(command, started.folder / "peer.log")

    def is_watching() -> bool:
        with suppress(httpx.HTTPError, ValueError, IndexError):
            asked = httpx.get(f"http://{url}/api/v1/query", params={"query": 'count(up{job!="slipway"} == 1)'})
            return bool(asked.json()["data"]["result"][0]["value"][1] == "2")
        return False

    try:
        assert eventually(is_watching, 30), running.tail()
        yield running
    finally:
        running.kill()


def heartbeats(stack: AlertStack) -> list[Notification]:
    """What the dead-man's switch has heard."""
    return [one for one in stack.received() if one.receiver == HEARTBEAT]


def silence_s(stack: AlertStack) -> float:
    """Seconds since the last heartbeat."""
    return time.monotonic() - heartbeats(stack)[-1].at


def test_the_heartbeat_comes_every_minute_and_ends_with_prometheus(stack: AlertStack) -> None:
    """Alertmanager believes Prometheus for four minutes more; then silence, and no message that it "resolved"."""
    before = len(heartbeats(stack))
    assert eventually(lambda: len(heartbeats(stack)) >= before + 6, 30), stack.said()
    at = [one.at for one in heartbeats(stack)[before:]]
    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert sorted(gaps)[len(gaps) // 2] == pytest.approx(MINUTE_S, rel=0.5)
    assert stack.prometheus is not None

    stack.prometheus.kill()
    died = time.monotonic()

    is_silent = eventually(lambda: silence_s(stack) > 5 * MINUTE_S, 30)
    last = heartbeats(stack)[-1].at
    stack.start_prometheus()

    assert is_silent
    assert last - died < 6 * MINUTE_S
    assert {alert["status"] for one in heartbeats(stack) for alert in one.alerts} == {"firing"}


def test_without_alertmanager_there_is_silence_and_the_loss_is_told_when_it_is_back(stack: AlertStack) -> None:
    assert stack.alertmanager is not None

    stack.alertmanager.kill()
    before = len(stack.received())
    for name in ("SlipwayMonitoringDown", "SlipwayAlertsNotSent"):
        stack.until(f'ALERTS{{alertname="{name}",alertstate="firing"}}', 60)
    assert silence_s(stack) > 5 * MINUTE_S
    assert len(stack.received()) == before

    stack.start_alertmanager()
    told = stack.wait_for("SlipwayAlertsNotSent", after=before)
    stack.wait_for("SlipwayWatchdog", after=before)
    over = stack.wait_for("SlipwayAlertsNotSent", "resolved", after=before)

    assert told["receiver"] == over["receiver"] == "/ticket/platform"
    assert "has been dropping alerts" in told["annotations"]["description"]


def test_a_prometheus_without_alertmanager_is_told_by_its_peer(stack: AlertStack, peer: Running) -> None:
    path, before = stack.folder / "prometheus.yaml", len(stack.received())
    config = yaml.safe_load(path.read_text())
    blind = {name: part for name, part in config.items() if name != "alerting"}

    path.write_text(yaml.safe_dump(blind))
    stack.reload()
    told = stack.wait_for("SlipwayNoAlertmanager", after=before)
    path.write_text(yaml.safe_dump(config))
    stack.reload()
    over = stack.wait_for("SlipwayNoAlertmanager", "resolved", after=before)

    assert told["labels"]["instance"] == stack.url.removeprefix("http://")
    assert told["receiver"] == over["receiver"] == "/ticket/platform"
    assert "has had nobody to send alerts to" in told["annotations"]["description"]


def test_a_dead_prometheus_is_told_by_its_peer_and_the_heartbeat_goes_on(stack: AlertStack, peer: Running) -> None:
    assert stack.prometheus is not None
    before = len(stack.received())

    stack.prometheus.kill()
    told = stack.wait_for("SlipwayMonitoringDown", after=before, job="prometheus")
    heard = len(heartbeats(stack))
    goes_on = eventually(lambda: len(heartbeats(stack)) >= heard + 10, 30)  # longer than the dead one is believed
    stack.start_prometheus()
    over = stack.wait_for("SlipwayMonitoringDown", "resolved", after=before, job="prometheus")

    assert goes_on
    assert told["receiver"] == over["receiver"] == "/ticket/platform"
    assert stack.url.removeprefix("http://") in told["annotations"]["description"]
