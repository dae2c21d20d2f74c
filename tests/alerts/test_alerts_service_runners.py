"""Rows that fail, rows that kill, workers that die, models that do not load, too many rows: a ticket for each.

An hour takes 30 s, five minutes 2.5 s. What counts events of an hour resolves an hour later, so that the faults come
one after another and the silence after them is waited for once. A crash loop is over after a true minute.
"""

from collections.abc import Iterator

import httpx
import pytest
from alert_faults import (
    Story,
    StoryStack,
    address_of,
    children,
    environment_of,
    kill,
    moody_slos,
    row,
    traffic,
    write_moody,
)
from alert_stack import eventually
from serve_process import Served, serving

pytestmark = [pytest.mark.e2e, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

RUNTIME = """
[runtime.models.moody]
max_rows = 4
queue_rows = 32
pool = { replicas = 2, hang_ms = 5000 }
"""
DIE, RAISE, SLOW = 1.0, 3.0, 4.0
RESTARTS = ["SlipwayWorkerRestarts", "SlipwayWorkerCrashLoop"]
DEATHS = ["SlipwayPoisonedRequests", "SlipwayReplicaLosses", "SlipwayColdStarts"]
FIRES = [
    "SlipwayInferenceErrors", "SlipwayQueueWait", "SlipwayShedding", *RESTARTS, *DEATHS, "SlipwayModelNotReady",
    "SlipwayModelLoadSlow",
]  # fmt: skip


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("runners")
    moody = write_moody(folder / "moody", RUNTIME)
    faults = moody / "faults"
    with (
        serving(moody, store=folder / "store", env=environment_of(moody), flags={"workers": 2}) as served,
        StoryStack(folder / "stack", [moody_slos()], {"moody": [address_of(served.admin)]}, scale=120) as stack,
        traffic(served.url, lambda _: row(), rate=40) as callers,
    ):
        story = Story(stack)
        stack.until('sum(increase(slipway_inferences_total{service="moody",result="ok"}[5s])) > 100')
        story.fault(FIRES[:1], lambda: setattr(callers, "ask", lambda n: row(RAISE if n % 5 == 0 else 0.0)))
        callers.ask = lambda _: row()
        story.fault(RESTARTS, lambda: kill_first(served, times=3))
        story.fault(DEATHS, lambda: poison(served))
        story.quiet(["SlipwayModelNotReady"])  # nor was it while both replicas waited to be started again
        (faults / "no-load").touch()
        story.fault(["SlipwayModelNotReady"], lambda: kill(served, "runner"))
        (faults / "slow-load").touch()
        story.fault(["SlipwayModelLoadSlow"], (faults / "no-load").unlink)
        (faults / "slow-load").unlink()
        stack.until('sum(slipway_pool_replicas{state="active"}) == 2')
        with traffic(served.url, lambda _: row(SLOW), rate=400, clients=64):
            story.fault(["SlipwayQueueWait", "SlipwayShedding"], lambda: None)
        yield story


def kill_first(served: Served, times: int) -> None:
    """Kill one of the API workers again and again; the other one answers."""
    killed: set[int] = set()

    def kill_it() -> bool:
        for process in children(served, "worker"):
            if process.pid not in killed and '"name":"api-0"' in " ".join(process.cmdline()):
                killed.add(process.pid)
                process.kill()
        return len(killed) >= times

    assert eventually(kill_it, 30)


def poison(served: Served) -> None:
    """Rows that kill whoever computes them; each ends when it has killed two."""
    with httpx.Client(base_url=served.url, timeout=60, headers={"x-slipway-timeout-ms": "30000"}) as client:
        for number in range(4):
            path, body = row(DIE, tenure_days=100.0 + number)
            assert client.post(path, json=body).status_code >= httpx.codes.BAD_REQUEST


@pytest.mark.parametrize("name", FIRES)
def test_a_ticket_comes_with_its_fault_and_goes_with_it(story: Story, name: str) -> None:
    fired = story.check(name, "ticket", resolve_s=120)

    assert fired["labels"]["service"] == "moody"
