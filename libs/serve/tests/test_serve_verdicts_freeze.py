"""What keeps a pass from counting at the verdict service: freezes, and a policy on plans; and its metrics."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from gate_evidence import SUBJECT, evidence_of, refused
from gate_windows import DIGESTS, Arms, gate_plan
from msgspec.structs import replace
from verdicts_process import QUERY, now, slipway, text_of, until, verdicts

from slipway_serve.access.keys import new_key
from slipway_signals.gate.evidence import Evidence, encode_evidence
from slipway_signals.gate.plan import Override

pytestmark = pytest.mark.slow

POLICY = '[margins]\n"latency.*" = 1.2\n'
WIDE = Override(reason="in a hurry", margin=1.5)
SHARES = {"errors": 0.05, "slow": 0.2, "malformed": 0.05, "outputs.*": 0.3}
RATIOS = {"latency.*": 1.19, "throughput": 2.0, "cpu": 2.0}
SOON = {name: Override(reason="a test of some seconds", margin=margin) for name, margin in (SHARES | RATIOS).items()}
"""Margins by which a simulated run passes within a dozen windows."""


def judged(margins: dict[str, Override]) -> Evidence:
    """A good candidate's run that asked for these margins."""
    plan = gate_plan(digests=dict(DIGESTS), quantiles=(0.5, 0.95), block_s=1.0, margins=margins)
    return evidence_of(Arms(1).windows(20), plan, finished=now())


class World:
    """One service with a policy and keys; each test has a rollout of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy = folder / "plan-policy.toml"
        self.policy.write_text(POLICY)
        self.keys = folder / "keys.json"
        self.writes = new_key(self.keys, "ci", scopes=("verdicts:write",)).key
        self.reads = new_key(self.keys, "rollouts", scopes=("verdicts:read",)).key
        self.client: httpx.Client
        self.passed = judged(SOON)
        self.wide = judged(SOON | {"latency.p95": WIDE})

    def post(self, evidence: Evidence, rollout: str) -> dict[str, Any]:
        about = replace(evidence, subject=replace(SUBJECT, rollout=rollout))
        return dict(self.client.post("/evidence", content=encode_evidence(about)).json())

    def ask(self, rollout: str) -> tuple[str, str]:
        answer = self.client.get("/verdict", params={**QUERY, "rollout": rollout}).json()
        return answer["verdict"], answer["reason"]

    def freeze(self, **body: object) -> httpx.Response:
        return self.client.put("/freeze", json=body)

    def metrics(self) -> dict[str, float]:
        (url,) = re.findall(r"metrics at (\S+)", text_of(self.folder / "verdicts.log"))
        lines = httpx.get(url, trust_env=False).text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("frozen"))
    options = ("--keys", made.keys, "--plan-policy", made.policy)
    with verdicts(made.folder, *options, key=made.writes) as (client, _):
        made.client = client
        yield made


def test_a_pass_by_a_margin_that_is_too_wide_is_kept_and_does_not_count(world: World) -> None:
    assert (world.passed.decision.verdict, world.wide.decision.verdict) == ("pass", "pass")

    kept = world.post(world.wide, "wide")

    said = "the margin of latency.p95 is 1.5, expected at most 1.2"
    assert (kept["verdict"], said in kept["reason"]) == ("inconclusive", True)
    verdict, reason = world.ask("wide")
    assert (verdict, said in reason) == ("inconclusive", True)
    assert world.client.get(f"/evidence/{kept['evidence']}").status_code == 200


def test_a_policy_that_changes_counts_for_what_was_posted_before(world: World) -> None:
    world.post(world.wide, "later")
    try:
        world.policy.write_text(POLICY.replace("1.2", "2.0"))
        assert until(lambda: world.ask("later")[0], "pass")
        world.policy.write_text("[margins]\nlatency = nonsense")
        assert until(lambda: "not read again" in text_of(world.folder / "verdicts.log"), True)
        assert world.ask("later")[0] == "pass"
    finally:
        world.policy.write_text(POLICY)

    assert until(lambda: world.ask("later")[0], "inconclusive")


def test_a_frozen_rollout_waits_and_the_others_do_not(world: World) -> None:
    for rollout in ("shop/frozen", "shop/free"):
        assert world.post(world.passed, rollout)["verdict"] == "pass"

    frozen = world.freeze(rollout="shop/frozen", reason="incident 4711", until="2099-01-01T09:00:00+01:00")

    assert (frozen.status_code, frozen.json()["by"]) == (200, "ci")
    assert world.ask("shop/frozen") == ("inconclusive", "frozen: incident 4711 (until 2099-01-01T08:00:00Z)")
    assert world.ask("shop/free")[0] == "pass"
    assert world.client.delete("/freeze", params={"rollout": "shop/frozen"}).status_code == 200
    assert world.ask("shop/frozen")[0] == "pass"


def test_a_freeze_of_all_holds_for_each_and_a_fail_stays_a_fail(world: World) -> None:
    world.post(world.passed, "good")
    world.post(refused(SUBJECT.stage, now()), "bad")
    world.freeze(rollout="good", reason="its own")
    world.freeze(rollout="*", reason="holidays")
    try:
        told = [world.ask(rollout) for rollout in ("good", "bad", "nobody")]
        listed = world.client.get("/freeze").json()["frozen"]
    finally:
        ended = [world.client.delete("/freeze", params={"rollout": name}).status_code for name in ("good", "*")]

    assert told[0] == ("inconclusive", "frozen: its own; frozen: holidays")
    assert told[1][0] == "fail"
    assert told[2] == ("inconclusive", "frozen: holidays")
    assert [one["rollout"] for one in listed] == ["*", "good"]
    assert ended == [200, 200]
    assert world.client.get("/freeze").json() == {"frozen": []}


def test_a_freeze_ends_by_itself(world: World) -> None:
    world.post(world.passed, "short")
    soon = datetime.now(UTC) + timedelta(seconds=1)

    world.freeze(rollout="short", reason="a moment", until=soon.isoformat())

    assert world.ask("short")[0] == "inconclusive"
    assert until(lambda: world.ask("short")[0], "pass")
    assert world.client.get("/freeze").json() == {"frozen": []}


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({"rollout": "r", "reason": "r", "until": "2020-01-01T00:00:00Z"}, "freeze_past", "expected later than"),
        ({"rollout": "r", "reason": "r", "until": "2099-01-01T00:00:00"}, "freeze_invalid", "timezone"),
        ({"rollout": "r"}, "freeze_invalid", "`reason`"),
        ({"rollout": "", "reason": "r"}, "freeze_invalid", "$.rollout"),
        ({"rollout": "r", "reason": "r", "untli": None}, "freeze_invalid", "untli"),
    ],
)
def test_what_is_no_freeze_is_refused_in_words(world: World, body: dict[str, object], code: str, said: str) -> None:
    answer = world.freeze(**body)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert said in answer.json()["detail"]


def test_only_who_may_write_freezes(world: World) -> None:
    reader = {"authorization": f"Bearer {world.reads}"}

    answers = [
        world.client.put("/freeze", json={"rollout": "*", "reason": "r"}, headers=reader),
        world.client.delete("/freeze", params={"rollout": "*"}, headers=reader),
        world.client.get("/freeze", headers=reader),
        world.client.get("/freeze", headers={"authorization": "Bearer nobody"}),
    ]

    assert [one.status_code for one in answers] == [403, 403, 200, 401]
    assert world.client.delete("/freeze", params={"rollout": "never"}).json()["code"] == "freeze_unknown"


def test_metrics_say_what_was_posted_told_and_kept(world: World) -> None:
    before = world.metrics()
    world.post(world.passed, "counted")
    world.post(world.passed, "counted")
    world.post(world.wide, "counted")
    world.client.post("/evidence", content=b"{")
    world.ask("counted")
    world.freeze(rollout="counted", reason="r")
    after = world.metrics()
    world.client.delete("/freeze", params={"rollout": "counted"})

    def more(name: str) -> float:
        return after[f"slipway_verdicts_{name}"] - before.get(f"slipway_verdicts_{name}", 0.0)

    outcomes = {name: more(f'posts_total{{outcome="{name}"}}') for name in ("pass", "again", "inconclusive", "fail")}
    assert outcomes == {"pass": 1, "again": 1, "inconclusive": 1, "fail": 0}
    assert more('refused_total{code="evidence_invalid"}') == 1
    assert more('answers_total{verdict="pass"}') == 1
    assert more('kept{verdict="pass"}') == 2  # as they were judged: the policy is no part of what is kept
    assert more("freezes") == 1
    assert after["slipway_verdicts_up"] == 1
    assert after["slipway_verdicts_store_bytes"] > 4096
    assert 0 <= after["slipway_verdicts_newest_age_seconds"] <= after["slipway_verdicts_oldest_age_seconds"] < 600


@pytest.mark.e2e
def test_a_person_freezes_and_unfreezes_by_the_command(world: World) -> None:
    (world.folder / "key").write_text(world.writes)
    about = ["--to", str(world.client.base_url), "--key-file", str(world.folder / "key")]

    frozen = slipway("gate", "freeze", *about, "--rollout", "shop/churn", "--reason", "budget spent", "--for", "12h")
    asked = slipway("gate", "ask", *about, "--rollout", "shop/churn", "--pod-hash", "h", "--stage", "10", "--json")
    ended = slipway("gate", "unfreeze", *about, "--rollout", "shop/churn")
    again = slipway("gate", "unfreeze", *about, "--rollout", "shop/churn")

    assert (frozen.stdout, frozen.returncode) == ("shop/churn\n", 0), frozen.stderr
    assert frozen.stderr.startswith("frozen: budget spent (until ")
    assert json.loads(asked.stdout)["reason"].startswith("frozen: budget spent (until ")
    assert (ended.stdout, ended.returncode) == ("shop/churn\n", 0), ended.stderr
    assert (again.stdout, again.returncode) == ("", 3)
    assert "'shop/churn' is not frozen by this name" in again.stderr


@pytest.mark.e2e
def test_a_freeze_outlives_a_kill(tmp_path: Path) -> None:
    with verdicts(tmp_path) as (client, process):
        assert client.put("/freeze", json={"rollout": "*", "reason": "before the kill"}).status_code == 200
        process.kill()
        process.wait(10)

    with verdicts(tmp_path) as (client, _):
        told = client.get("/verdict", params=QUERY).json()

    assert (told["verdict"], told["reason"]) == ("inconclusive", "frozen: before the kill")
