"""F8: somebody asks for reports, whose model shares processes with the one of the users and takes far longer.

In a pool the scores come late, and their objective burns. In the API worker they are read late: no objective sees it.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from alert_faults import address_of, traffic
from alert_stack import AlertStack
from gameday_drill import Rehearsal, check_outcome
from gameday_history import good_month
from gameday_service import promises, score, write_rehearsed
from serve_process import serving

pytestmark = [
    pytest.mark.gameday,
    pytest.mark.alone,
    pytest.mark.needs("prometheus", "prometheus-alertmanager", "promtool"),
]

SCALE = 60
"""An hour takes a minute."""

RUNTIME = """
[runtime.models.score]
pool = "shared"

[runtime.models.report]
pool = "shared"
max_rows = 1

[runtime.pools.shared]
replicas = 1
hang_ms = 20_000
"""
HELD = """
[runtime.models.report]
max_rows = 1
"""
"""Without a pool: in the API worker."""

SLOS = [promises("rehearsed", "/score", under_ms=25)]
REPORT = "/report", {"tenure_days": 4.0, "mean_charge": 1.0, "items": 4_000_000.0}
"""About 0.08 s of one processor."""

LONG = "/report", {**REPORT[1], "items": 40_000_000.0}
"""About half a second, in which nobody else in the process gets a word in."""


def test_latency_jitter_ends_when_the_noisy_model_has_processes_of_its_own(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Reports are asked for as before; scores no longer wait for them."""
    folder = write_rehearsed(tmp_path / "rehearsed", RUNTIME)
    history = good_month("rehearsed", SLOS[0].slos[0].name, SCALE)
    with (
        serving(folder, store=tmp_path / "store") as served,
        traffic(served.url, lambda _: score(), rate=50, clients=8),
        AlertStack(
            tmp_path / "stack", SLOS, {"rehearsed": [address_of(served.admin)]}, scale=SCALE, history=history
        ) as stack,
        traffic(served.url, lambda _: score(), rate=4, clients=2, patience_ms=20_000) as others,
    ):
        stack.until('sum(increase(http_server_request_duration_seconds_count{service="rehearsed"}[1m])) > 500')
        values = {
            "service": "rehearsed", "slo": SLOS[0].slos[0].name, "folder": str(folder), "admin": served.admin,
            "model": "report",
        }  # fmt: skip
        drill = Rehearsal("F8 latency jitter", "latency-jitter", stack, values, tmp_path)

        drill.inject(lambda: setattr(others, "ask", lambda _: REPORT), "SlipwaySLOFastBurn")
        drill.diagnose()
        drill.mitigate()
        outcome = drill.resolve()

    check_outcome(outcome, "a model that takes long shares the processes", record_property)


def test_requests_are_read_at_once_when_the_noisy_model_has_processes_of_its_own(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """What the users of scores wait in vain for is no late answer by the server's own clock: only the loop tells."""
    folder = write_rehearsed(tmp_path / "rehearsed", HELD)
    slos = [promises("rehearsed", "/score", under_ms=100)]
    name = slos[0].slos[0].name
    history = good_month("rehearsed", name, SCALE)
    with (
        serving(folder, store=tmp_path / "store") as served,
        traffic(served.url, lambda _: score(), rate=50, clients=8),
        AlertStack(
            tmp_path / "stack", slos, {"rehearsed": [address_of(served.admin)]}, scale=SCALE, history=history
        ) as stack,
        traffic(served.url, lambda _: score(), rate=1, clients=1, patience_ms=20_000) as others,
    ):
        stack.until('sum(increase(http_server_request_duration_seconds_count{service="rehearsed"}[1m])) > 500')
        values = {"service": "rehearsed", "slo": name, "folder": str(folder), "admin": served.admin, "model": "report"}
        drill = Rehearsal("F8 unread requests", "latency-jitter", stack, values, tmp_path)

        drill.inject(lambda: setattr(others, "ask", lambda _: LONG), "SlipwayEventLoopHeld")
        drill.diagnose()
        drill.mitigate()
        outcome = drill.resolve()

    check_outcome(outcome, "a model that takes long shares the processes", record_property)
