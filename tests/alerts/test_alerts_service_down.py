"""A service that nobody can reach, and one whose workers cannot start though its supervisor is scraped: one page."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from alert_faults import assert_told, environment_of, kill, moody_slos, traffic, write_moody
from alert_stack import AlertStack, eventually, free_port
from serve_process import Served, serving
from trained_churn import CHURN, trained_churn

from slipway_signals.slo.openslo import load_slos

pytestmark = [pytest.mark.e2e, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

CUSTOMER: dict[str, object] = {
    "tenure_months": 2.0, "monthly_charges": 96.5, "support_calls": 5, "income": None, "contract": "monthly",
}  # fmt: skip


class World(NamedTuple):
    """A stack, the service `moody` that runs, and where `churn` will."""

    stack: AlertStack
    moody: Served
    faults: Path
    flags: dict[str, object]
    store: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("down")
    flags: dict[str, object] = {"port": free_port(), "admin_port": free_port(), "workers": 2}
    services = [load_slos(CHURN / "slo.yaml", name="services/churn/slo.yaml"), moody_slos()]
    moody = write_moody(folder / "moody")
    with serving(moody, store=folder / "store-moody", env=environment_of(moody)) as served:
        targets = {"churn": [f"127.0.0.1:{flags['admin_port']}"], "moody": [served.admin.removeprefix("http://")]}
        with AlertStack(folder / "stack", services, targets, scale=60) as stack:
            yield World(stack, served, moody / "faults", flags, folder / "store")


def test_killing_the_service_sends_one_page_and_nothing_else(world: World) -> None:
    """Callers see every request fail, its target is down, nothing is counted: one message says it."""
    stack = world.stack
    with (
        serving(trained_churn(), store=world.store, flags=world.flags) as served,
        traffic(served.url, lambda _: ("/predict", CUSTOMER), rate=50),
    ):
        stack.until('slipway:slo_total:rate1h{slo="churn-availability"} > 10')
        stack.until('absent(ALERTS{alertname="SlipwayServiceDown",service="churn"})')  # of the time before
        before = len(stack.received())

        os.killpg(served.process.pid, signal.SIGKILL)
        page = stack.wait_for("SlipwayServiceDown", service="churn", after=before)
        stack.until('ALERTS{alertname="SlipwayTargetDown",service="churn",alertstate="firing"}')
        let_alertmanager_speak(stack)

    told = [one for one in stack.received()[before:] if "churn" in one.receiver and one.firing]
    assert_told(page, "page")
    assert [(one.receiver, one.firing) for one in told] == [("/page/team-churn", ["SlipwayServiceDown"])]

    before = len(stack.received())
    with serving(trained_churn(), store=world.store, flags=world.flags):
        stack.wait_for("SlipwayServiceDown", "resolved", service="churn", after=before)


def test_a_supervisor_without_a_worker_that_can_answer_is_a_service_that_is_down(world: World) -> None:
    """`up` stays 1, and nobody is there to count a failed request."""
    stack = world.stack
    stack.until('slipway_server_ready{service="moody"} == 1')
    before = len(stack.received())

    (world.faults / "no-load").touch()
    kill(world.moody, "worker")
    page = stack.wait_for("SlipwayServiceDown", service="moody", after=before)

    assert stack.until('up{service="moody"} == 1 and on (instance) slipway_server_ready == 0')
    assert_told(page, "page")
    (world.faults / "no-load").unlink()
    stack.wait_for("SlipwayServiceDown", "resolved", service="moody", after=before)


def let_alertmanager_speak(stack: AlertStack) -> None:
    """Until it has had the time to send what it held back: a group waits five minutes, the watchdog comes each one."""
    heard = len([one for one in stack.received() if one.receiver == "/watchdog"])
    assert eventually(lambda: len([o for o in stack.received() if o.receiver == "/watchdog"]) >= heard + 11, 60)
