"""F5: an autoscaler without a cap starts another instance, and nobody needs it."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest
from alert_faults import address_of, traffic
from alert_stack import AlertStack
from gameday_drill import Rehearsal, check_outcome
from gameday_history import week_ago
from gameday_service import promises, score, write_rehearsed
from serve_process import Served, serving

pytestmark = [pytest.mark.gameday, pytest.mark.needs("prometheus", "prometheus-alertmanager", "promtool")]

RUNTIME = "\n[runtime.cost]\nusd_per_hour = 1.0\n"
SCALE = 240
"""An hour takes 15 s; nothing here is about minutes."""

SLOS = [promises("rehearsed", "/score")]
RATE = 20.0


@contextmanager
def discovery(stack: AlertStack, servers: Mapping[str, Served]) -> Iterator[None]:
    """What a cluster does: whoever says that it is ready is scraped, and whoever drains no longer."""
    is_over = Event()

    def look() -> None:
        known: list[str] = []
        while not is_over.wait(0.2):
            ready = [address_of(one.admin) for one in list(servers.values()) if is_ready(one)]
            if ready != known:
                stack.retarget({"rehearsed": ready})
                known = ready

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield
        finally:
            is_over.set()
            looking.result()


def is_ready(served: Served) -> bool:
    try:
        return httpx.get(f"{served.admin}/readyz", timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def test_a_cost_spike_ends_when_the_surplus_is_drained(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Traffic is as last week; what an inference costs doubles, and is as before when the surplus has drained."""
    folder = write_rehearsed(tmp_path / "rehearsed", RUNTIME)
    surplus = serving(folder, store=tmp_path / "other" / "store", flags={"drain_s": 6.0})
    (tmp_path / "other").mkdir()
    with (
        serving(folder, store=tmp_path / "store") as served,
        traffic(served.url, lambda _: score(), rate=RATE) as callers,
        AlertStack(
            tmp_path / "stack", SLOS, {"rehearsed": [address_of(served.admin)]}, scale=SCALE, scrape_s=0.5,
            history=week_ago("rehearsed", SCALE, 1.0, RATE),
        ) as stack,
    ):  # fmt: skip
        stack.until('sum(increase(slipway_inferences_total{service="rehearsed",result="ok"}[15s])) > 280')
        servers = {"first": served}
        values = {"service": "rehearsed", "folder": str(folder), "admin": served.admin}
        drill = Rehearsal("F5 cost spike", "cost-spike", stack, values, tmp_path)
        with discovery(stack, servers), ThreadPoolExecutor(1) as reaper:
            drill.inject(lambda: servers.update(second=surplus.__enter__()), "SlipwayCostRising")
            drill.diagnose()
            drill.know(pid=str(servers["second"].process.pid))
            ended = reaper.submit(servers["second"].process.wait, 180)  # as init would
            drill.mitigate()
            outcome = drill.resolve()
        surplus.__exit__(None, None, None)

    check_outcome(outcome, "more instances than last week", record_property)
    assert ended.result() == 0
    assert set(callers.statuses) == {200}
