"""Who hears of what: each owner its own, one message for many replicas, silence where one alert says all.

The rules and the routes are the compiled ones; what breaks is real traffic in real counters, or a target that is gone.
Each test has a service of its own, so that none waits until another's budget is whole again.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import Any

import httpx
import pytest
from alert_exporter import Exporter
from alert_stack import AlertStack, Notification, Page, eventually, metrics_page
from slo_files import AVAILABILITY, LATENCY, read

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs("prometheus", "prometheus-alertmanager"),
    pytest.mark.timeout(180),
]

SCALE = 60
QUIETER = LATENCY.replace("owner: team-churn", "owner: team-churn\n    slipway.dev/severity: ticket")
SERVICES = (
    f"{AVAILABILITY}---\n{QUIETER}",  # errors page, slow answers are a ticket
    *(AVAILABILITY.replace("churn", name) for name in ("documents", "ranking", "search")),
)
ROUTE = "/predict"
GONE = [f"127.0.0.{host}:9" for host in range(2, 32)]
"""Thirty replicas where nobody listens."""

HOSTILE = (
    'quotes " and \\ backslash',
    "two\nlines",
    "{{ .Labels }}{{ $value }}{{ template",
    "</script><!channel> \u0027 or 1=1;--",
    "漢字 \U0001f525 \u202e right to left",
    "x" * 10_240,
)


class World:
    """The services and those who hear of them."""

    def __init__(self, stack: AlertStack, exporters: dict[str, Exporter], search: Page) -> None:
        self.stack, self.exporters, self.search = stack, exporters, search

    def targets(self, **replaced: list[str]) -> None:
        """What Prometheus finds: the healthy ones, unless others are given."""
        found = {name: [exporter.address] for name, exporter in self.exporters.items()}
        self.stack.retarget({**found, "search": [self.search.address], **replaced})

    def told(self, service: str) -> list[Notification]:
        """Every message about a service, in the order of arrival."""
        return [one for one in self.stack.received() if one.body["groupLabels"].get("service") == service]

    def inhibited(self, **labels: str) -> list[dict[str, Any]]:
        """What Alertmanager keeps quiet because of another alert."""
        asked = {"filter": [f'{name}="{value}"' for name, value in labels.items()]}
        found = httpx.get(f"{self.stack.alertmanager_url}/api/v2/alerts", params=asked).json()
        return [alert for alert in found if alert["status"]["inhibitedBy"]]


@contextmanager
def traffic(exporter: Exporter, *answers: tuple[int, float]) -> Iterator[None]:
    """A hundred requests a second with each of these statuses and seconds, for the length of a `with` block."""
    is_over = Event()

    def ask() -> None:
        while not is_over.wait(0.01):
            for status, seconds in answers:
                exporter.metrics.request(ROUTE, "POST", status, seconds)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield
        finally:
            is_over.set()
            asking.result()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All is well, and nobody has been told of anything."""
    with ExitStack() as stacked:
        exporters = {
            name: stacked.enter_context(Exporter(name, digest="sha256:a", routes=(ROUTE,), thresholds_s=(0.05,)))
            for name in ("churn", "documents", "ranking")
        }
        search = stacked.enter_context(metrics_page())
        services = [read(text) for text in SERVICES]
        stack = stacked.enter_context(AlertStack(tmp_path_factory.mktemp("routing"), services, {}, scale=SCALE))
        found = World(stack, exporters, search)
        found.targets()
        stack.until("count(up == 1) == 6")
        yield found


@pytest.fixture(scope="module")
def fallen(world: World) -> World:
    """All replicas of documents are gone, and thirty of ranking, which has another."""
    world.targets(documents=GONE[:3], ranking=[world.exporters["ranking"].address, *GONE])
    world.stack.wait_for("SlipwayTargetDown", service="ranking")
    return world


def test_a_dead_service_is_one_page_and_its_symptoms_are_silent(fallen: World) -> None:
    page = fallen.stack.wait_for("SlipwayServiceDown", service="documents")
    asked = {"alertname": "SlipwayTargetDown", "service": "documents"}
    is_silent = eventually(lambda: len(fallen.inhibited(**asked)) == 3, 30)
    messages = fallen.told("documents")

    assert page["receiver"] == "/page/team-documents"
    assert is_silent, fallen.stack.said()
    assert [(one.receiver, one.firing) for one in messages] == [("/page/team-documents", ["SlipwayServiceDown"])]


def test_a_dead_service_silences_no_other(fallen: World) -> None:
    """Thirty replicas of one service are one message, too."""
    first = fallen.told("ranking")[0]

    assert first.receiver == "/ticket/team-ranking"
    assert first.firing == ["SlipwayTargetDown"] * len(GONE)
    assert {alert["labels"]["instance"] for alert in first.alerts} == set(GONE)
    assert fallen.inhibited(service="ranking") == []


def test_when_it_is_back_that_is_one_message_and_the_symptoms_stay_untold(fallen: World) -> None:
    fallen.targets()
    over = [
        fallen.stack.wait_for(name, "resolved", service=service)
        for name, service in (
            ("SlipwayServiceDown", "documents"),
            ("SlipwayTargetDown", "ranking"),
        )
    ]

    assert [alert["receiver"] for alert in over] == ["/page/team-documents", "/ticket/team-ranking"]
    assert {alert["labels"]["alertname"] for one in fallen.told("documents") for alert in one.alerts} == {
        "SlipwayServiceDown"
    }


def test_a_page_silences_the_tickets_of_its_objective_and_no_others(world: World) -> None:
    stack = world.stack

    with traffic(world.exporters["churn"], (500, 0.001), (200, 1.0)):
        page = stack.wait_for("SlipwaySLOFastBurn", slo="churn-availability")
        ticket = stack.wait_for("SlipwaySLOSlowBurn", slo="churn-latency")
        asked = {"alertname": "SlipwaySLOSlowBurn", "slo": "churn-availability"}
        is_silent = eventually(lambda: len(world.inhibited(**asked)) == 2, 30)

    assert page["receiver"] == "/page/team-churn"
    assert ticket["receiver"] == "/ticket/team-churn"
    assert is_silent, stack.said()
    labels = [(one.receiver, alert["labels"]) for one in world.told("churn") for alert in one.alerts]
    told = {(receiver, found["slo"]) for receiver, found in labels if "slo" in found}
    assert told == {("/page/team-churn", "churn-availability"), ("/ticket/team-churn", "churn-latency")}


def test_hostile_label_values_arrive_as_they_are(world: World) -> None:
    """In a message of all models, and in one message for each."""
    stack = world.stack
    for errors in (0, 50):
        lines = [f'slipway_model_ready{{model="{escaped(name)}"}} 0' for name in HOSTILE]
        for result in ("ok", "error"):
            lines += [
                f'slipway_inferences_total{{model="{escaped(name)}",result="{result}"}} {errors}' for name in HOSTILE
            ]
        world.search.text = "\n".join([*lines, ""])
        stack.until(f'slipway_inferences_total{{service="search"}} == {errors}')

    told = {
        (alert, name): stack.wait_for(alert, service="search", model=name)
        for alert in ("SlipwayModelNotReady", "SlipwayInferenceErrors")
        for name in HOSTILE
    }

    for (_, name), alert in told.items():
        assert alert["receiver"] == "/ticket/team-search"
        assert f"the model {name} " in alert["annotations"]["description"]
    groups = [one.body["groupLabels"] for one in world.told("search")]
    assert {labels["model"] for labels in groups if labels["category"] == "quality"} == set(HOSTILE)
    assert all("model" not in labels for labels in groups if labels["category"] == "restart")


def test_bytes_that_are_no_text_are_refused_as_a_whole(world: World) -> None:
    """Prometheus believes nothing of such a page, so nobody reads half of a name: the target counts as down."""
    world.search.text = 'slipway_model_ready{model="\udcff"} 0\n'

    page = world.stack.wait_for("SlipwayServiceDown", service="search")

    assert page["receiver"] == "/page/team-search"


def escaped(value: str) -> str:
    """A label value as the text format writes it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
