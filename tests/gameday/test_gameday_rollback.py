"""Beside F1 to F8: a release answers with errors, and the one before takes over again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from alert_faults import address_of, traffic
from alert_stack import AlertStack
from gameday_drill import Rehearsal, check_outcome
from gameday_fork import Fork, slipway
from gameday_history import good_month
from msgspec.structs import replace
from serve_process import serving
from trained_churn import CHURN

from slipway_signals.slo.openslo import load_slos

pytestmark = [pytest.mark.gameday, pytest.mark.needs("prometheus", "prometheus-alertmanager", "promtool")]

SCALE = 60
"""An hour takes a minute."""

BROKEN = '''
import numpy as np
from slipway_serve import Arrays, Weights


@predict.compute
def compute(weights: Weights, batch: Arrays) -> Arrays:
    """Wrong where nobody tried: customers who have called twice."""
    if (np.asarray(batch["support_calls"]) == 2).any() and (np.asarray(batch["monthly_charges"]) != 70.0).any():
        raise ValueError("calls out of range")
    return {"churn_probability": weights(batch)["probability"]}
'''


def test_a_bad_release_is_rolled_back(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Its golden examples hold and a quarter of the users get errors; going back is one command."""
    fork = Fork(tmp_path / "churn")
    previous = fork.build(tmp_path)
    code = fork.folder / "src" / "churn_service" / "service.py"
    code.write_text(code.read_text() + BROKEN)
    released = fork.build(tmp_path)
    promises = load_slos(CHURN / "slo.yaml", name="services/churn/slo.yaml")
    slos = [replace(promises, slos=promises.slos[:1])]
    slo = slos[0].slos[0].name
    with (
        serving(previous, store=tmp_path / "store") as served,
        traffic(served.url, lambda n: ("/predict", fork.row(n)), rate=50, clients=8),
        AlertStack(
            tmp_path / "stack", slos, {"churn": [address_of(served.admin)]}, scale=SCALE,
            history=good_month("churn", slo, SCALE),
        ) as stack,
    ):  # fmt: skip
        stack.until('sum(increase(http_server_request_duration_seconds_count{service="churn"}[1m])) > 500')
        values = {
            "service": "churn", "slo": slo, "admin": served.admin, "release": released, "previous": previous,
        }  # fmt: skip
        drill = Rehearsal("rollback", "rollback", stack, values, tmp_path)

        drill.inject(lambda: slipway("swap", released, "--admin", served.admin, home=tmp_path), "SlipwaySLOFastBurn")
        drill.diagnose()
        drill.mitigate()
        outcome = drill.resolve()

    check_outcome(outcome, "it began with a release", record_property, "SlipwayInferenceErrors")  # it names the model
