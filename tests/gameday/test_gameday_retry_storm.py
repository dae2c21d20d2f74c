"""F6: a neighbour says "not now" to every fifth call, and each is asked again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from alert_faults import address_of, traffic
from alert_stack import AlertStack
from gameday_drill import Rehearsal, check_outcome
from gameday_service import promises, write_rehearsed
from serve_process import serving
from upstream_servers import Reply, neighbour

pytestmark = [pytest.mark.gameday, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

RUNTIME = """
[runtime.resources.neighbour]
url = "{url}"

[runtime.resources.neighbour.limits]
retries = 2
"""
SCALE = 60
"""An hour takes a minute."""

SLOS = [promises("rehearsed", "/predict")]


def test_a_retry_storm_ends_when_nothing_is_repeated(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The neighbour's trouble goes on; what ends is our part of it, and every call is answered all the time."""
    with neighbour() as beside:
        folder = write_rehearsed(tmp_path / "rehearsed", RUNTIME.format(url=beside.url))
        with (
            serving(folder, store=tmp_path / "store", flags={"drain_s": 1.0}) as served,
            AlertStack(tmp_path / "stack", SLOS, {"rehearsed": [address_of(served.admin)]}, scale=SCALE) as stack,
            traffic(served.url, lambda _: ("/predict", {"tenure_days": 4.0}), rate=20) as callers,
        ):
            stack.until('sum(increase(slipway_client_attempts_total{service="rehearsed"}[5s])) > 50')
            values = {"service": "rehearsed", "folder": str(folder), "admin": served.admin}
            drill = Rehearsal("F6 retry storm", "retry-storm", stack, values, tmp_path)

            drill.inject(
                lambda: setattr(beside, "answer", lambda number: Reply(503 if number % 5 == 0 else 200)),
                "SlipwayRetryStorm",
            )
            drill.diagnose()
            drill.mitigate()
            outcome = drill.resolve()

    check_outcome(outcome, 'the peer answers "not now"', record_property)
    assert set(callers.statuses) == {200}
