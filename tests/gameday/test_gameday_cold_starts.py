"""F1: the machine under the only replica is taken away again and again; its weights take 1.5 s to load."""

from collections.abc import Callable
from pathlib import Path

import pytest
from alert_faults import address_of, children, kill, traffic
from alert_stack import AlertStack
from gameday_drill import Rehearsal, check_outcome
from gameday_service import promises, score, write_rehearsed
from serve_process import Served, serving

pytestmark = [pytest.mark.gameday, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

RUNTIME = """
[runtime.models.score]
pool = "scorers"

[runtime.pools.scorers]
replicas = 1
standby = 0
"""
SCALE = 60
"""An hour takes a minute."""

SLOS = [promises("rehearsed", "/score")]
COLD = 'sum(slipway_cold_requests_total{service="rehearsed"})'


def test_cold_starts_end_when_a_replica_stands_by(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The replicas go on being taken away; nobody waits for it any more."""
    folder = write_rehearsed(tmp_path / "rehearsed", RUNTIME)
    with (
        serving(folder, store=tmp_path / "store", env={"REHEARSED_LOAD_S": "1.5"}, flags={"drain_s": 2.0}) as served,
        AlertStack(tmp_path / "stack", SLOS, {"rehearsed": [address_of(served.admin)]}, scale=SCALE) as stack,
        traffic(served.url, lambda _: score(), rate=20, clients=16, patience_ms=20_000) as callers,
    ):
        stack.until('sum(increase(slipway_inferences_total{service="rehearsed",result="ok"}[5s])) > 50')
        values = {"service": "rehearsed", "folder": str(folder), "admin": served.admin}
        drill = Rehearsal("F1 cold starts", "cold-starts", stack, values, tmp_path)

        drill.inject(lambda: take_away(served, stack, times=2), "SlipwayColdStarts")
        drill.diagnose()
        drill.mitigate()
        outcome = drill.resolve()
        before = stack.query(COLD)
        os_kill_one(served)
        stack.until('sum(increase(slipway_pool_replica_losses_total{service="rehearsed"}[5s])) >= 1')
        after = stack.query(COLD)

    check_outcome(outcome, "replicas die, and none stands by", record_property)
    assert after == before
    assert set(callers.statuses) == {200}


def take_away(served: Served, stack: AlertStack, times: int) -> None:
    """Kill the replica, each time when it is back."""
    for _ in range(times):
        stack.until('sum(slipway_pool_replicas{service="rehearsed",state="active"}) == 1')
        before = stack.query(COLD)[0][1]
        kill(served, "runner")
        stack.until(f"{COLD} > {before:g}", 20)


def os_kill_one(served: Served) -> None:
    """Kill one of the replicas."""
    children(served, "runner")[0].kill()
