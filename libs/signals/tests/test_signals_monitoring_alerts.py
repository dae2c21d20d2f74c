"""Counters of the monitoring as they really grow, where a drill's steady growth would hide a gap."""

from pathlib import Path

import pytest
from slo_files import run_part

from slipway_signals.slo.compile import Part, platform_part
from slipway_signals.slo.drills import Case, firing
from slipway_signals.slo.promrules import Timing
from slipway_signals.slo.series import Known

pytestmark = pytest.mark.needs("promtool")

FAILED = 'alertmanager_notifications_failed_total{integration="webhook"}'
TOLD = {"alertname": "SlipwayNotificationsFailing"}


def stairs(steps: list[int], samples: int) -> str:
    """A counter that grows by one at each of these samples, of which one is taken every 30 s."""
    return " ".join(str(sum(step <= at for step in steps)) for at in range(samples))


@pytest.mark.parametrize("every", [10, 11], ids=["5m", "5m30s"])
def test_a_receiver_that_fails_once_in_each_group_interval_is_told(every: int, tmp_path: Path) -> None:
    """Alertmanager tries for `group_interval`, counts one failure, and begins again at once."""
    series = {FAILED: stairs(list(range(20, 100, every)), 160)}
    checks = (
        firing(600 + 900 - 60, TOLD),
        firing(600 + 900 + 90, TOLD, count=1),
        firing(2_940, TOLD, count=1),
        firing(2_940 + 900, TOLD),
    )

    run = run_case(Case(name="stairs", series=series, checks=checks), tmp_path)

    assert run == ""


def test_one_message_that_was_lost_is_not_told(tmp_path: Path) -> None:
    checks = tuple(firing(at_s, TOLD) for at_s in range(0, 3_600, 30))

    assert run_case(Case(name="one", series={FAILED: stairs([20], 160)}, checks=checks), tmp_path) == ""


def run_case(case: Case, folder: Path) -> str:
    """What promtool has against it."""
    groups = platform_part(Timing(), Known()).groups
    run = run_part(Part(name="x", source="x", groups=groups, cases=(case,)), folder)
    return "" if run.returncode == 0 else run.stdout + run.stderr
