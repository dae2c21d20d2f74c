"""F2: a nightly job sends its rows all at once, and a batch of them takes more memory than a replica may."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest
from alert_faults import address_of, traffic
from alert_stack import AlertStack
from gameday_drill import Rehearsal, check_outcome
from gameday_service import promises, score, write_rehearsed
from serve_process import serving

pytestmark = [pytest.mark.gameday, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

RUNTIME = """
[runtime.models.score]
pool = "scorers"
max_rows = 8
gather_ms = 20.0

[runtime.pools.scorers]
replicas = 3
memory_mb = 160
hang_ms = 20_000
"""
SCALE = 60
"""An hour takes a minute."""

SLOS = [promises("rehearsed", "/score")]
ROWS = 4
MEBIBYTES = 100.0
"""Of each: one fits into a replica, two do not; four at once are two in some replica, and leave one alive."""


class Nightly:
    """Sends four large rows at once, every five seconds, until told to stop; counts the answers."""

    def __init__(self, url: str) -> None:
        self.statuses: list[int] = []
        self.is_over = Event()
        self._url = url

    def run(self) -> None:
        """Until `is_over`."""
        path, body = score(MEBIBYTES)
        headers = {"x-slipway-timeout-ms": "30000"}
        with httpx.Client(base_url=self._url, timeout=60, headers=headers) as client, ThreadPoolExecutor(ROWS) as pool:
            while not self.is_over.wait(5):
                rows = [pool.submit(client.post, path, json=body) for _ in range(ROWS)]
                self.statuses += [row.result().status_code for row in rows]


@contextmanager
def nightly(url: str) -> Iterator[Nightly]:
    """A job that may be begun, and ends with the block."""
    job = Nightly(url)
    try:
        yield job
    finally:
        job.is_over.set()


def test_running_out_of_memory_ends_with_smaller_batches(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The job goes on, and each of its rows is answered, also while replicas die of it."""
    folder = write_rehearsed(tmp_path / "rehearsed", RUNTIME)
    with (
        serving(folder, store=tmp_path / "store", flags={"drain_s": 3.0}) as served,
        AlertStack(tmp_path / "stack", SLOS, {"rehearsed": [address_of(served.admin)]}, scale=SCALE) as stack,
        traffic(served.url, lambda _: score(), rate=60, clients=16, patience_ms=20_000) as callers,
        ThreadPoolExecutor(1) as background,
        nightly(served.url) as job,
    ):
        stack.until('sum(increase(slipway_inferences_total{service="rehearsed",result="ok"}[5s])) > 300')
        values = {"service": "rehearsed", "folder": str(folder), "admin": served.admin}
        drill = Rehearsal("F2 out of memory", "out-of-memory", stack, values, tmp_path)

        drill.inject(lambda: background.submit(job.run), "SlipwayReplicaLosses")
        drill.diagnose()
        drill.mitigate()
        outcome = drill.resolve()

    check_outcome(outcome, "batches are larger than the memory of a replica", record_property)
    assert set(job.statuses) == {200}
    assert set(callers.statuses) == {200}
