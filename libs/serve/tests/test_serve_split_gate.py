"""Mirrored and split traffic, judged by the gate: a candidate that answers otherwise or fails does not get through."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from split_arms import application, read, reply
from split_process import splitting

from slipway_signals.gate.plan import Override, make_plan
from slipway_signals.gate.run import judge_windows
from slipway_signals.gate.verdict import Decision

pytestmark = pytest.mark.e2e

INPUTS, ENOUGH_WINDOWS = 2_000, 25
"""Of windows the first nine are no evidence; a fast machine has sent its inputs before."""
LATENCY = {"latency.*": "two ASGI applications in one process of a test say nothing about latency"}
TOLD = {"disagreement.probability": Override(reason="the same model", margin=0.02)}
WINDOWS = '[windows]\nfile = "windows.jsonl"\nseconds = 0.1\nwarm_up_s = 0\n'


class Arm:
    """Answers by the input; `answer` gets its number."""

    def __init__(self, answer: Callable[[int], tuple[int, float]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        number = json.loads(await read(receive))["n"]
        status, probability = self._answer(number)
        await reply(send, b'{"probability":%.4f}' % probability, status)


def same(number: int) -> tuple[int, float]:
    return 200, number % 97 / 97


def drifted(number: int) -> tuple[int, float]:
    return 200, min(1.0, number % 97 / 97 + 0.15)


def failing(number: int) -> tuple[int, float]:
    return (500 if number % 12 == 0 else 200), number % 97 / 97


def judged(folder: Path, answer: Callable[[int], tuple[int, float]], source: str) -> Decision:
    """What the gate says of a candidate, from the windows of a split."""
    is_shadow = source == "shadow"
    tables = ("[shadow]\nqueue = 5000\n" if is_shadow else '[sticky]\nfield = "n"\n') + WINDOWS
    with application(Arm(same)) as stable, application(Arm(answer)) as candidate:
        arms = {"stable": (stable, 1.0), "candidate": (candidate, 0.0 if is_shadow else 1.0)}
        with splitting(folder, arms, tables, 'repeatable = ["/predict"]') as split, split.client() as client:
            sent = 0
            while sent < INPUTS or len((folder / "windows.jsonl").read_bytes().splitlines()) < ENOUGH_WINDOWS:
                for number in range(sent, sent + 100):
                    client.post("/predict", json={"n": number})
                sent += 100
            if is_shadow:
                split.until(lambda: split.metric("slipway_split_copies_total") == sent)
            assert split.stop() == 0
    plan = make_plan(
        {"source": source, "identity": "off", "at_least_s": 0.1, "without": LATENCY, "stops_on_pass": False}
    )
    told = make_plan({**{name: getattr(plan, name) for name in plan.__struct_fields__}, "margins": TOLD})
    return judge_windows(told, None, folder / "windows.jsonl").decision


@pytest.mark.parametrize(
    ("source", "answer", "reason"),
    [("shadow", drifted, "probability is worse"), ("split", failing, "requests to candidate failed|errors is worse")],
)
def test_a_candidate_that_is_wrong_or_fails_is_refused(
    source: str, answer: Callable[[int], tuple[int, float]], reason: str, tmp_path: Path
) -> None:
    decision = judged(tmp_path, answer, source)

    assert decision.verdict == "fail"
    assert re.search(reason, " ".join(decision.reasons))


def test_a_candidate_that_answers_the_same_is_not_refused_and_its_pairs_agree(tmp_path: Path) -> None:
    decision = judged(tmp_path, same, "shadow")

    verdicts = {metric.metric: metric.verdict for metric in decision.metrics}
    assert decision.verdict != "fail"
    assert verdicts["disagreement.probability"] == "pass"
    assert decision.findings == ()
