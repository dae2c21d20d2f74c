"""What Argo Rollouts' controller says of a rollout, as it says it, and who is told of which phase. Live: tests/lab."""

from pathlib import Path

import pytest
from slo_files import AVAILABILITY, read, run_part

from slipway_signals.slo.compile import Part, parts_of, platform_part
from slipway_signals.slo.drills import Case, firing, gauge
from slipway_signals.slo.promrules import Timing
from slipway_signals.slo.series import Known

pytestmark = pytest.mark.needs("promtool")

PHASES = ("Completed", "Progressing", "Paused", "Timeout", "Error", "Abort", "InvalidSpec")
"""All that `calculatePhase` of the controller gives."""

MINUTE_S = 60
ABORTED = {"alertname": "SlipwayReleaseAborted"}
WAITS = {"alertname": "SlipwayReleaseWaits"}
SILENT = {"alertname": "SlipwayRolloutsSilent"}


def said(phase: str, name: str = "churn", space: str = 'namespace="shop"') -> str:
    """The series of a rollout in a phase."""
    return f'rollout_info{{name="{name}",{space},phase="{phase}",strategy="canary"}}'


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_that_has_stopped_is_told_at_once_and_a_pause_after_half_an_hour(phase: str, tmp_path: Path) -> None:
    stopped, paused = phase in {"Timeout", "Abort", "InvalidSpec"}, phase == "Paused"
    checks = (
        firing(2 * MINUTE_S, ABORTED, count=int(stopped)),
        firing(29 * MINUTE_S, WAITS),
        firing(33 * MINUTE_S, WAITS, count=int(paused)),
        firing(33 * MINUTE_S, ABORTED, count=int(stopped)),
    )

    assert judged(Case(name=phase, series={said(phase): gauge([(3_600, 1)])}, checks=checks), tmp_path) == ""


def test_each_rollout_is_one_alert_however_often_its_controller_is_scraped(tmp_path: Path) -> None:
    """Two namespaces, one with two scrapes of which one has renamed the namespace; and a service of another name."""
    twice = 'namespace="argo-rollouts",exported_namespace="shop"'
    series = [
        said("Abort"),
        said("Abort", space=f'{twice},pod="a"'),
        said("Abort", space=f'{twice},pod="b"'),
        said("Abort", space='namespace="shop-eu"'),
        said("Abort", name="churn-training"),
        said("Abort", name="documents"),
    ]
    checks = tuple(firing(300, {**ABORTED, "namespace": space}, count=1) for space in ("shop", "shop-eu"))
    checks += (firing(300, ABORTED, count=2),)

    assert judged(Case(name="x", series=dict.fromkeys(series, gauge([(600, 1)])), checks=checks), tmp_path) == ""


def test_a_release_that_goes_on_between_its_pauses_is_not_told(tmp_path: Path) -> None:
    series = {
        said("Paused"): gauge([(1_500, 1), (60, None), (1_500, 1), (60, None), (1_500, 1)]),
        said("Progressing"): gauge([(1_500, None), (60, 1), (1_500, None), (60, 1), (1_500, None)]),
    }
    checks = tuple(firing(at_s, WAITS) for at_s in range(60, 4_600, 300))

    assert judged(Case(name="steps", series=series, checks=checks), tmp_path) == ""


def test_nobody_misses_a_controller_where_no_pod_is_of_a_rollout(tmp_path: Path) -> None:
    """On a machine without a cluster, and in a cluster where a service is a Deployment."""
    series = {'up{service="churn",track="stable",namespace="shop"}': gauge([(3_600, 1)])}
    checks = (firing(3_000, SILENT),)

    assert judged(Case(name="none", series=series, checks=checks), tmp_path) == ""


def test_a_controller_that_is_replaced_within_ten_minutes_is_not_told(tmp_path: Path) -> None:
    gone = [(600, 1), (540, None), (900, 1)]
    series = {'up{service="churn",rollouts_pod_template_hash="a"}': gauge([(2_040, 1)]), said("Completed"): gauge(gone)}
    checks = tuple(firing(at_s, SILENT) for at_s in range(600, 2_040, 120))

    assert judged(Case(name="replaced", series=series, checks=checks), tmp_path) == ""


def judged(case: Case, folder: Path) -> str:
    """What promtool has against it."""
    parts = [part for part in parts_of(read(AVAILABILITY), Timing(), Known()) if part.name == "churn.operation"]
    groups = tuple(group for part in (*parts, platform_part(Timing(), Known())) for group in part.groups)
    run = run_part(Part(name="x", source="x", groups=groups, cases=(case,)), folder)
    return "" if run.returncode == 0 else run.stdout + run.stderr
