"""An arm whose one address has several servers behind it, as in a cluster: whose counters are compared with whose."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from load_processes import inputs
from serve_folders import write_minimal
from serve_process import Served, serving
from tcp_balancer import balancing

from slipway_signals.gate.evidence import Evidence
from slipway_signals.gate.load_plan import LoadPlan
from slipway_signals.gate.plan import GatePlan, Lines, Override
from slipway_signals.gate.records import Scrape
from slipway_signals.gate.run import run_gate
from slipway_signals.gate.scraping import scrape_of

ROW = {"tenure_days": 10.0, "mean_charge": None}
BURNING = '''

@predict.compute
def burning(weights: Weights, batch: Arrays) -> Arrays:
    """The answers, and BURN_S seconds of a processor for each."""
    answers = weights(batch)
    until = time.thread_time() + BURN_S * len(batch["tenure_days"])
    while time.thread_time() < until:
        pass
    return answers
'''
PAST = 300
"""Requests that one of stable's servers has refused before the run, at next to no cost: its counters are not the
other's."""


def write_burning(folder: Path, burn_s: float) -> Path:
    """A service that takes so much processor time a request."""
    write_minimal(folder, runtime="\n[runtime.server]\ntrust_synthetic = true\n")
    code = folder / "src" / "minimal_service.py"
    text = code.read_text().replace("import Service", "import Arrays, Service, Weights")
    text = text.replace("from typing", "import time\nfrom typing", 1)
    code.write_text(text + BURNING.replace("BURN_S", str(burn_s)))
    return folder


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Served]]:
    """Two of stable, of which one has a past, and one candidate that burns twice as much."""
    folder = tmp_path_factory.mktemp("balanced")
    stable, candidate = write_burning(folder / "stable", 0.003), write_burning(folder / "candidate", 0.006)
    with ExitStack() as stack:
        running = [
            stack.enter_context(serving(code, store=folder / name))
            for name, code in (("a", stable), ("b", stable), ("c", candidate))
        ]
        with running[0].client() as client:
            for _ in range(PAST):
                assert client.post("/predict", json={}).status_code == 422
        yield running


def pages(servers: Sequence[Served]) -> list[Scrape]:
    """What each says of itself now."""
    return [scrape_of(one.metrics(), date=None, now=0.0) for one in servers]


def of_a_request(field: str, before: Sequence[Scrape], after: Sequence[Scrape]) -> float:
    """How much these servers took between two pages, by the requests that they answered."""
    grown, requests = (
        sum(getattr(page, name) or 0.0 for page in after) - sum(getattr(page, name) or 0.0 for page in before)
        for name in (field, "requests")
    )
    return grown / requests


def compared(stable: str, stable_admin: str, candidate: Served, folder: Path) -> Evidence:
    raw = {
        "arms": {
            "stable": {"url": stable, "admin": stable_admin},
            "candidate": {"url": candidate.url, "admin": candidate.admin},
        },
        "scenarios": [{"path": "/predict", "payloads": inputs(folder, ROW)}],
        "rate": 40.0, "seconds": 11.0, "warm_up_s": 1.0, "window_s": 0.25, "caps": {"stable_failed": 1.0},
    }  # fmt: skip
    plan = GatePlan(
        load=msgspec.convert(raw, LoadPlan),
        identity="off",
        block_s=0.75,  # an odd number of windows: a block begins and ends with a page of another server
        # Nothing decides before the end: the candidate is meant to be slower, and the machine may be busy.
        margins={"cpu": Override(margin=4.0, reason="it burns more")},
        without=dict.fromkeys(("latency.*", "throughput", "errors", "malformed", "outputs.*"), "cpu is looked at"),
        lines=Lines(errors=1.0),
        stops_on_pass=False,
    )
    return run_gate(plan, None, [])


@pytest.mark.slow
@pytest.mark.alone
def test_the_counters_of_an_arm_of_two_servers_are_those_of_both(servers: list[Served], tmp_path: Path) -> None:
    """Each scrape is of the other server than the one before."""
    *stable, candidate = servers
    with balancing([one.url for one in stable]) as url, balancing([one.admin for one in stable]) as admin:
        before = pages(servers)

        evidence = compared(url, admin, candidate, tmp_path)

    after = pages(servers)
    true, waits = (
        [of_a_request(field, before[part], after[part]) for part in (slice(0, 2), slice(2, 3))]
        for field in ("cpu_s", "cpu_wait_s")
    )
    (cpu,) = (one for one in evidence.decision.metrics if one.metric == "cpu")
    scrapes = [window.scrapes["stable"] for window in evidence.windows]
    codes = {finding.code for finding in evidence.decision.findings}
    assert cpu.estimate == pytest.approx(true[1] / true[0], rel=0.3)
    assert "cpu_contended" not in codes or waits[1] - waits[0] > 0.001  # where the machine was, it is right
    assert scrapes[-1].processes == len(stable)
