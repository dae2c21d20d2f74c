"""Each alert about the monitoring itself: its real fault, the message, its end. docs/slo.md has the table.

All faults begin together and end together, because they do not touch each other and each takes half a minute.
"""

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from alert_exporter import Exporter
from alert_stack import ALERTMANAGER, AlertStack, Page, Running, eventually, free_port, metrics_page
from msgspec import Struct

from slipway_signals.slo.build import load_services

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs("prometheus", "prometheus-alertmanager"),
    pytest.mark.timeout(300),
]

ROOT = Path(__file__).resolve().parents[2]
SCALE = 40
MINUTE_S = 60 / SCALE
OLD, NEW = "sha256:a", "sha256:b"

GOOD = "sum by (service) (up) * on (service) count by (service) (up)"
MANY_TO_ONE = "sum by (service) (up) / on (service) up"
SLOW = 'sum(elsewhere{slow="yes"})'


class Fault(Struct, frozen=True):
    """An alert that must be told while its fault lasts."""

    alert: str
    receiver: str
    labels: dict[str, str] = {}
    words: str = ""
    """Part of the description."""

    @property
    def id(self) -> str:
        """Name of the test."""
        return "-".join([self.alert.removeprefix("Slipway"), *self.labels.values(), self.receiver.split("/")[1]])


FAULTS = (
    Fault("SlipwayRuleFailures", "/ticket/platform", words="own.yaml;own-failing have been failing"),
    Fault("SlipwayRulesLate", "/ticket/platform", words="own.yaml;own-slow have been skipped"),
    Fault("SlipwayConfigNotLoaded", "/ticket/platform", {"job": "prometheus"}, "prometheus at 127.0.0.1:"),
    Fault("SlipwayConfigNotLoaded", "/ticket/platform", {"job": "alertmanager"}, "alertmanager at 127.0.0.1:"),
    Fault("SlipwayMonitoringDown", "/ticket/platform", {"job": "alertmanager"}, "alertmanager at 127.0.0.1:"),
    Fault("SlipwayNotificationsFailing", "/ticket/platform", words="to deliver by webhook"),
    Fault("SlipwayNotificationsFailing", "/page/platform", words="to deliver by webhook"),
    Fault("SlipwayMetricsUnreadable", "/ticket/team-documents", {"service": "documents"}, "metrics of 1 workers"),
    Fault("SlipwayMetricsAbsent", "/ticket/team-documents", {"slo": "documents-latency"}, "1 targets of documents"),
    Fault("SlipwayTargetDown", "/ticket/team-documents", {"service": "documents"}, "of documents could not be scraped"),
)


class World:
    """Two services, the monitoring, and what is wrong with them."""

    def __init__(self, stack: AlertStack, documents: Exporter, spare: "Spare", pages: dict[str, Page]) -> None:
        self.stack, self.documents, self.spare, self.pages = stack, documents, spare, pages
        self.tarpit = socket.create_server(("127.0.0.1", 0))
        """Takes connections and never answers."""
        self._config = stack.folder / "prometheus.yaml"
        self._routes = stack.folder / "alertmanager" / "alertmanager.yaml"

    def prepare(self) -> None:
        """A rule of a team's own, a store elsewhere that it may ask, and a second Alertmanager that is watched."""
        config = yaml.safe_load(self._config.read_text())
        where = f"http://127.0.0.1:{self.tarpit.getsockname()[1]}/read"
        config["remote_read"] = [{"url": where, "remote_timeout": "1s", "required_matchers": {"slow": "yes"}}]
        config["scrape_configs"][2]["static_configs"][0]["targets"].append(self.spare.address)
        self._config.write_text(yaml.safe_dump(config))
        self._own_rules(GOOD, "vector(1)")
        assert self.stack.reload().status_code == httpx.codes.OK

    def spoil(self) -> None:
        """All faults at once."""
        self._own_rules(MANY_TO_ONE, SLOW)
        assert self.stack.reload().status_code == httpx.codes.OK
        self._config.write_text(self._config.read_text() + "nonsense: true\n")
        assert self.stack.reload().status_code != httpx.codes.OK
        self._routes.write_text(self._routes.read_text() + "nonsense: true\n")
        assert not httpx.post(f"{self.stack.alertmanager_url}/-/reload").is_success
        self.spare.stop()
        self.stack.sink.answers["/ticket/team-churn"] = 500
        self.stack.retarget(self._targets("gone"))
        self.documents.release(NEW, routes=("/renamed",))
        self.documents.damage_slot()

    def mend(self) -> None:
        """All of them end; the receiver is back first, because nobody is told that something ended before it began."""
        del self.stack.sink.answers["/ticket/team-churn"]
        self.stack.wait_for("SlipwayTargetDown", service="churn")
        for path in (self._config, self._routes):
            path.write_text(path.read_text().replace("nonsense: true\n", ""))
        self._own_rules(GOOD, "vector(1)")
        assert self.stack.reload().status_code == httpx.codes.OK
        assert httpx.post(f"{self.stack.alertmanager_url}/-/reload").is_success
        self.spare.start()
        self.stack.retarget(self._targets("back"))
        self.documents.release(NEW, routes=("/infer",))

    def _targets(self, second: str) -> dict[str, list[str]]:
        """Both services with a second target, which is there or not."""
        other = self.pages["second"].address if second == "back" else "127.0.0.1:9"
        return {"churn": [self.pages["churn"].address, other], "documents": [self.documents.address, other]}

    def _own_rules(self, failing: str, slow: str) -> None:
        groups = [
            {"name": "own-failing", "interval": "750ms", "rules": [{"record": "own:a", "expr": failing}]},
            {"name": "own-slow", "interval": "200ms", "rules": [{"record": "own:b", "expr": slow}]},
        ]
        (self.stack.folder / "rules" / "own.yaml").write_text(yaml.safe_dump({"groups": groups}))


class Spare:
    """A second Alertmanager, to which nothing is sent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: Running | None = None
        self.address = f"127.0.0.1:{free_port()}"

    def start(self) -> None:
        """Start it; Prometheus sees when it is up."""
        command = [ALERTMANAGER, f"--config.file={self._folder}/alertmanager.yaml", "--cluster.listen-address="]
        command += [f"--storage.path={self._folder}/data", f"--web.listen-address={self.address}"]
        self._running = Running(command, self._folder / "spare.log")

    def stop(self) -> None:
        """Kill it."""
        if self._running is not None:
            self._running.kill()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything runs, and nobody is told of anything."""
    folder = tmp_path_factory.mktemp("monitoring")
    churn_text = 'http_server_request_duration_seconds_count{http_route="/predict"} 1\n'
    churn_text += 'http_server_request_duration_seconds_bucket{http_route="/predict",le="0.05"} 1\n'
    with ExitStack() as stacked:
        documents = stacked.enter_context(Exporter("documents", digest=OLD, routes=("/infer",), thresholds_s=(5.0,)))
        pages = {name: stacked.enter_context(metrics_page(churn_text)) for name in ("churn", "second")}
        targets = {"churn": [pages["churn"].address], "documents": [documents.address]}
        stack = AlertStack(folder, load_services(ROOT), targets, scale=SCALE, resend_s=MINUTE_S)
        stacked.enter_context(stack)
        (folder / "spare").mkdir()
        shutil.copy(folder / "alertmanager" / "alertmanager.yaml", folder / "spare")
        spare = Spare(folder / "spare")
        spare.start()
        stacked.callback(spare.stop)
        world = World(stack, documents, spare, pages)
        stacked.callback(world.tarpit.close)
        world.prepare()
        yield world


@pytest.fixture(scope="module")
def spoilt(healthy: World) -> World:
    """The same in trouble."""
    stack = healthy.stack
    stack.until('count(up == 1) == 5 and on() count(slipway_build_info{service="documents"})')
    quiet = 'count(ALERTS{severity=~"page|ticket"}) or vector(0)'
    assert eventually(lambda: stack.query(quiet)[0][1] == 0, 30), stack.said()
    told_of = {name for one in stack.received() if one.receiver != "/watchdog" for name in one.firing}
    assert told_of <= {"SlipwayServiceDown"}, stack.said()  # before the first scrape
    for name in told_of:
        stack.wait_for(name, "resolved")
    healthy.spoil()
    return healthy


@pytest.fixture(scope="module")
def mended(spoilt: World) -> tuple[World, int]:
    """The trouble is over; with the number of messages that came before its end."""
    for fault in FAULTS:
        told(spoilt, fault)
    before = len(spoilt.stack.received())
    spoilt.mend()
    return spoilt, before


def told(world: World, fault: Fault, status: str = "firing", *, after: int = 0) -> dict[str, Any]:
    """The alert as its receiver got it, as soon as it got it."""
    wanted = {"alertname": fault.alert, **fault.labels}
    found: list[dict[str, Any]] = []

    def is_heard() -> bool:
        alerts = (
            alert for one in world.stack.received()[after:] if one.receiver == fault.receiver for alert in one.alerts
        )
        found.extend(each for each in alerts if each["status"] == status and wanted.items() <= each["labels"].items())
        return bool(found)

    assert eventually(is_heard, 120), f"{fault.id} is not {status}\n{world.stack.said()}"
    return found[0]


def test_a_new_digest_is_a_deploy_and_nobody_is_told(spoilt: World) -> None:
    """First, because a quarter of an hour later it is over."""
    asked = f'ALERTS{{alertname="SlipwayDeployInProgress",digest="{NEW}",alertstate="firing"}}'
    spoilt.stack.until(asked, 30)

    def known() -> list[list[dict[str, str]]]:
        answer = httpx.get(f"{spoilt.stack.alertmanager_url}/api/v2/alerts", params={"filter": f'digest="{NEW}"'})
        return [alert["receivers"] for alert in answer.json()]

    assert eventually(lambda: known() == [[{"name": "nobody"}]], 10), known()
    assert eventually(lambda: not spoilt.stack.query(asked), 15 * MINUTE_S + 10)
    assert all("SlipwayDeployInProgress" not in one.firing for one in spoilt.stack.received())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_its_fault_is_told_to_its_owner_in_words(spoilt: World, fault: Fault) -> None:
    alert = told(spoilt, fault)

    assert alert["labels"]["severity"] == "ticket"
    assert fault.receiver.endswith("/" + alert["labels"]["owner"])
    assert fault.words in alert["annotations"]["description"]
    assert (ROOT / alert["annotations"]["runbook_url"]).exists()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_it_resolves_when_its_fault_is_over(mended: tuple[World, int], fault: Fault) -> None:
    world, before = mended

    alert = told(world, fault, "resolved", after=before)

    assert alert["endsAt"] > alert["startsAt"]


def test_what_could_not_be_delivered_arrives_when_the_receiver_is_back(mended: tuple[World, int]) -> None:
    world, before = mended

    for status in ("firing", "resolved"):
        alert = world.stack.wait_for("SlipwayTargetDown", status, after=before, service="churn")
        assert alert["receiver"] == "/ticket/team-churn"
