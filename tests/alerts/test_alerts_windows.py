"""Tickets wait while a service is released, in a declared window or because a new digest appeared; pages never wait.

Alertmanager knows windows to the minute, UTC. The windows here are made around the present so that no minute and no
midnight can end or begin one while the test looks.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from alert_stack import AlertStack, Notification, Page, eventually, metrics_page
from msgspec import Struct
from slo_files import AVAILABILITY, read

from slipway_signals.slo.model import DAYS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs("prometheus", "prometheus-alertmanager"),
    pytest.mark.timeout(240),
]

SCALE = 60
MINUTE = timedelta(minutes=1)
MARGIN_S = 25
"""How long a window that is about to end must still last when the stack starts."""

TICKET = "SlipwayWorkerCrashLoop"
BROKEN = 'slipway_worker_crash_looping{worker="api-0"} 1\n'
ERRORS = 'http_server_request_duration_seconds_count{{http_response_status_code="500"}} {}\n'
STOPPED = 'rollout_info{{name="{}",namespace="shop",phase="Abort",strategy="canary",traffic_router=""}} 1\n'
"""As Argo Rollouts' controller says it; tests/lab has the controller itself."""

DIGEST = 'slipway_build_info{{version="1",digest="{}"}} 1\n'
NAMES = ("churn", "documents", "ranking", "search")


class Windows(Struct, frozen=True):
    """The windows of a run."""

    now: datetime

    @property
    def open(self) -> str:
        """From an hour ago until in an hour."""
        return window(self.now - 60 * MINUTE, self.now + 60 * MINUTE)

    @property
    def shut(self) -> str:
        """In six hours."""
        return window(self.now + 360 * MINUTE, self.now + 400 * MINUTE)

    @property
    def end(self) -> datetime:
        """The next full minute that is far enough."""
        return (self.now + timedelta(seconds=MARGIN_S)).replace(second=0, microsecond=0) + MINUTE

    @property
    def ending(self) -> str:
        """From an hour ago until `end`."""
        return window(self.now - 60 * MINUTE, self.end)


def window(start: datetime, end: datetime) -> str:
    """A deploy window as `slo.yaml` writes it; it may cross midnight."""
    return f"{DAYS[start.weekday()]} {start:%H:%M}-{end:%H:%M} UTC"


def service(name: str, declared: str | None) -> str:
    """An `slo.yaml`."""
    text = AVAILABILITY.replace("churn", name)
    note = f"owner: team-{name}"
    return text if declared is None else text.replace(note, f"{note}\n    slipway.dev/deploy-window: {declared}")


class World:
    """Four services: released now, until the next minute, later, and never."""

    def __init__(self, stack: AlertStack, pages: dict[str, Page], windows: Windows) -> None:
        self.stack, self.pages, self.windows = stack, pages, windows

    def tickets(self, name: str) -> list[Notification]:
        """What was heard of the dying worker of a service."""
        messages = self.stack.received()
        return [one for one in messages if one.body["groupLabels"].get("service") == name and TICKET in one.firing]

    def known(self, name: str) -> list[dict[str, Any]]:
        """What Alertmanager knows of the dying worker of a service, told or not."""
        asked = {"filter": [f'alertname="{TICKET}"', f'service="{name}"']}
        found: list[dict[str, Any]] = httpx.get(f"{self.stack.alertmanager_url}/api/v2/alerts", params=asked).json()
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A worker of each service dies again and again, from the beginning."""
    windows = Windows(datetime.now(UTC))
    declared = (windows.open, windows.ending, windows.shut, None)
    with ExitStack() as stacked:
        pages = {name: stacked.enter_context(metrics_page(BROKEN + ERRORS.format(0))) for name in NAMES}
        services = [read(service(name, when)) for name, when in zip(NAMES, declared, strict=True)]
        targets = {name: [page.address] for name, page in pages.items()}
        stack = AlertStack(tmp_path_factory.mktemp("windows"), services, targets, scale=SCALE)
        stacked.enter_context(stack)
        yield World(stack, pages, windows)


def test_a_ticket_waits_in_the_window_of_its_service_only(world: World) -> None:
    """The two services outside of a window show that the time has come."""
    for name in ("ranking", "search"):
        ticket = world.stack.wait_for(TICKET, service=name)
        assert ticket["receiver"] == f"/ticket/team-{name}"

    assert len(world.known("churn")) == 1
    assert world.tickets("churn") == []


def test_a_page_does_not_wait_in_the_window(world: World) -> None:
    world.pages["churn"].text = BROKEN + ERRORS.format(1_000)

    page = world.stack.wait_for("SlipwaySLOFastBurn", service="churn")

    assert page["receiver"] == "/page/team-churn"
    assert world.tickets("churn") == []


def test_that_a_release_was_stopped_is_told_in_the_window_of_its_service(world: World) -> None:
    world.pages["churn"].text = BROKEN + ERRORS.format(1_000) + STOPPED.format("churn")

    ticket = world.stack.wait_for("SlipwayReleaseAborted", service="churn", namespace="shop")

    assert ticket["receiver"] == "/ticket/team-churn"
    assert world.tickets("churn") == []


def test_while_a_new_digest_is_rolled_out_tickets_wait_without_a_window(world: World) -> None:
    """A quarter of an hour later the ticket arrives, if what it is about has not ended."""
    page, stack = world.pages["search"], world.stack
    page.text = DIGEST.format("sha256:a") + ERRORS.format(0)
    stack.wait_for(TICKET, "resolved", service="search")
    deploying = 'ALERTS{alertname="SlipwayDeployInProgress",service="search",alertstate="firing"}'
    assert eventually(lambda: not stack.query(deploying), 30), "the first digest is no longer new"
    before, told = len(stack.received()), len(world.tickets("search"))

    page.text = DIGEST.format("sha256:b") + BROKEN + ERRORS.format(0) + STOPPED.format("search")
    is_silent = eventually(lambda: any(alert["status"]["inhibitedBy"] for alert in world.known("search")), 20)
    stack.wait_for("SlipwayReleaseAborted", service="search", after=before)  # nobody keeps this quiet
    heard, is_new = world.tickets("search")[told:], bool(stack.query(deploying))
    stack.wait_for(TICKET, service="search", after=before)

    assert is_silent
    assert is_new
    assert heard == []
    assert not stack.query(deploying)


def test_a_ticket_arrives_when_the_window_is_over(world: World) -> None:
    """Last, because it waits for the end of a true minute."""
    world.stack.wait_for(TICKET, timeout=150, service="documents")

    first = world.tickets("documents")[0]
    arrived = datetime.now(UTC) - timedelta(seconds=time.monotonic() - first.at)
    assert first.receiver == "/ticket/team-documents"
    assert world.windows.end <= arrived < world.windows.end + timedelta(seconds=20)
    assert world.tickets("churn") == []
