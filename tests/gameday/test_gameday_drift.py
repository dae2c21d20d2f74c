"""F4: other customers come than those of the training; each input moves a little, the answers move much."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from alert_faults import address_of, traffic
from alert_stack import AlertStack
from gameday_drill import Rehearsal, check_outcome
from gameday_fork import Fork
from msgspec.structs import replace
from serve_process import serving
from trained_churn import CHURN

from slipway_signals.slo.openslo import load_slos

pytestmark = [pytest.mark.gameday, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

SCALE = 240
"""An hour takes 15 s; nothing here is about minutes."""

TILT = -2.3
"""Of the share of customers who will stay: the answers' PSI becomes 0.12, no input's more than 0.05."""


def test_drift_ends_with_a_model_that_was_trained_on_the_new_world(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The new customers stay; the model and its reference follow them."""
    fork = Fork(tmp_path / "churn")
    released = fork.build(tmp_path)
    promises = load_slos(CHURN / "slo.yaml", name="services/churn/slo.yaml")
    slos = [replace(promises, slos=promises.slos[:1])]
    count, draw = len(fork.churned), np.random.default_rng(4)
    usual, likely = draw.permutation(count), np.exp(TILT * fork.scores())
    others = draw.choice(count, count, p=likely / likely.sum())
    with (
        serving(released, store=tmp_path / "store") as served,
        AlertStack(tmp_path / "stack", slos, {"churn": [address_of(served.admin)]}, scale=SCALE, scrape_s=0.5) as stack,
        traffic(served.url, lambda n: ("/predict", fork.row(usual[n % count])), rate=150, clients=8) as callers,
    ):
        stack.until('slipway:drift_rows:1h{service="churn"} > 1800')
        stack.until(f'slipway_build_info{{service="churn"}} offset {3 * 3_600 // SCALE}s')  # no release of these hours
        values = {
            "service": "churn", "model": "churn", "folder": str(fork.folder), "admin": served.admin,
            "release": released,
        }  # fmt: skip
        drill = Rehearsal("F4 drift", "drift", stack, values, tmp_path)

        def change_the_world() -> None:
            fork.deliver(others)
            callers.ask = lambda n: ("/predict", fork.row(others[n % count]))

        drill.inject(change_the_world, "SlipwayPredictionDrift")
        drill.diagnose()
        drill.mitigate()
        outcome = drill.resolve()

    check_outcome(outcome, "the world has changed", record_property)
    assert set(callers.statuses) == {200}
