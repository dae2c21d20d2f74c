"""F3: a release needs a package that no lock holds; somebody installs an older one, and the worker starts again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from alert_faults import address_of, kill, traffic
from alert_stack import AlertStack
from gameday_drill import Rehearsal, check_outcome
from gameday_fork import Fork, digest_of
from serve_process import serving
from trained_churn import CHURN

from slipway_signals.slo.openslo import load_slos

pytestmark = [pytest.mark.gameday, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

SCALE = 60
"""An hour takes a minute."""

NEEDS = "\nfrom tariffs import tariff_of  # of tariffs 2\n\nCHEAPEST = tariff_of(0.0)\n"
INSTALLED = {
    2: '"""Tariffs."""\n\n\ndef tariff_of(charge: float) -> str:\n    """Its name."""\n    return "small"\n',
    1: '"""Tariffs."""\n',
}


def install(site: Path, version: int) -> None:
    """Put that version of the package where the machine's packages are."""
    (site / "tariffs").mkdir(parents=True, exist_ok=True)
    (site / "tariffs" / "__init__.py").write_text(INSTALLED[version])


def test_a_dependency_mismatch_ends_with_a_release_that_this_machine_can_run(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Nobody answers until the release before, which needs no such package, takes over in the same server."""
    site, fork = tmp_path / "site", Fork(tmp_path / "churn")
    previous = fork.build(tmp_path)
    code = fork.folder / "src" / "churn_service" / "service.py"
    code.write_text(code.read_text() + NEEDS)
    install(site, 2)
    env = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    released = fork.build(tmp_path, **env)
    slos = [load_slos(CHURN / "slo.yaml", name="services/churn/slo.yaml")]
    with (
        serving(released, store=tmp_path / "store", env=env) as served,
        AlertStack(tmp_path / "stack", slos, {"churn": [address_of(served.admin)]}, scale=SCALE) as stack,
        traffic(served.url, lambda n: ("/predict", fork.row(n)), rate=20) as callers,
    ):
        stack.until('sum(increase(slipway_inferences_total{service="churn",result="ok"}[5s])) > 50')
        values = {"service": "churn", "admin": served.admin, "release": released, "previous": previous}
        drill = Rehearsal("F3 dependency mismatch", "dependency-mismatch", stack, values, tmp_path, env)

        def upgrade_the_machine() -> None:
            install(site, 1)
            kill(served, "worker")

        drill.inject(upgrade_the_machine, "SlipwayServiceDown")
        answered = callers.statuses[200]
        drill.diagnose()
        assert callers.statuses[200] == answered, "somebody answers: then this is no drill"
        drill.mitigate()
        outcome = drill.resolve()
        stack.until('sum(increase(slipway_inferences_total{service="churn",result="ok"}[5s])) > 50')
        serves = {labels["digest"] for labels, _ in stack.query('slipway_build_info{service="churn"}')}

    check_outcome(outcome, "workers die as soon as they start", record_property)
    assert callers.statuses[200] > answered
    assert serves == {digest_of(previous, tmp_path)}
