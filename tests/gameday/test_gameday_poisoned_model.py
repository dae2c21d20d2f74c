"""F7: somebody turned the labels of a part of the training data round; the release that was trained on them is wrong.

Its golden examples hold, because they come from the same model, and so does its reference: only labels tell.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from alert_faults import Traffic, address_of, traffic
from alert_stack import AlertStack, eventually
from gameday_drill import Rehearsal, check_outcome
from gameday_fork import Fork, digest_of, slipway
from msgspec.structs import replace
from serve_process import serving
from trained_churn import CHURN

from slipway_signals.slo.openslo import load_slos

pytestmark = [pytest.mark.gameday, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

SCALE = 240
"""An hour takes 15 s; nothing here is about minutes."""

CLIENTS = 8


class Labels:
    """The team that learns what became of customers: it tells the next so many of those that were asked about."""

    def __init__(self, fork: Fork, callers: Traffic) -> None:
        self._fork, self._callers, self._next = fork, callers, 0

    def tell(self, count: int, *, from_now: bool = False) -> None:
        """Labels of `count` requests, once they were answered and captured."""
        if from_now:
            self._next = self._callers._number + CLIENTS
        first, self._next = self._next, self._next + count
        assert eventually(lambda: self._callers._number > self._next + 300, 120)  # and two segments are closed
        self._fork.tell([(number, customer(number)) for number in range(first, self._next)])


def customer(number: int) -> int:
    """About whom a request asks."""
    return 15_000 + number % 5_000


def test_a_poisoned_model_is_gone_when_the_release_before_serves_again(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Accuracy by labels falls with the release, and rises with the one before it."""
    fork = Fork(tmp_path / "churn", capture=tmp_path / "captured")
    previous = fork.build(tmp_path)
    poison(fork)
    released = fork.build(tmp_path)
    promises = load_slos(CHURN / "slo.yaml", name="services/churn/slo.yaml")
    slos = [replace(promises, slos=promises.slos[:1])]
    with (
        serving(previous, store=tmp_path / "store") as served,
        AlertStack(tmp_path / "stack", slos, {"churn": [address_of(served.admin)]}, scale=SCALE, scrape_s=0.5) as stack,
        traffic(served.url, lambda n: ("/predict", fork.row(customer(n))), rate=150, clients=CLIENTS) as callers,
    ):
        labels = Labels(fork, callers)
        labels.tell(200)
        stack.until('slipway:drift_rows:1h{service="churn"} > 1800')
        values = {
            "service": "churn", "model": "churn", "admin": served.admin, "release": released, "previous": previous,
        }  # fmt: skip
        drill = Rehearsal("F7 poisoned model", "poisoned-model", stack, values, tmp_path)

        def release() -> None:
            slipway("swap", released, "--admin", served.admin, home=tmp_path)
            labels.tell(400, from_now=True)

        drill.inject(release, "SlipwayAccuracyLow")
        drill.diagnose()
        drill.mitigate()
        labels.tell(2_600, from_now=True)
        outcome = drill.resolve()
        serves = {labels["digest"] for labels, _ in stack.query('slipway_build_info{service="churn"}')}

    check_outcome(outcome, "the release was trained on other data", record_property)
    assert set(callers.statuses) == {200}
    assert serves == {digest_of(previous, tmp_path)}


def poison(fork: Fork) -> None:
    """Train on data in which customers with a monthly contract left when they stayed."""
    monthly = fork.columns["contract"] == 0
    fork.deliver(slice(None), np.where(monthly, 1 - fork.churned, fork.churned))
    fork.train()
