"""`slipway gate`: a verdict on the command line, its evidence, and what a program reads."""

import json
from pathlib import Path

import pytest
from cli_commands import Slipway, settled
from gate_servers import BUNDLES, Arm, arms
from gate_windows import Arms

from slipway_signals.gate.evidence import open_evidence
from slipway_signals.gate.records import Window, encode_window

ADDRESSES = ("--stable", "http://127.0.0.1:1", "--candidate", "http://127.0.0.1:2")

PLAN = """
quantiles = [0.5, 0.95]
at_least_s = 3.0
block_s = 1.0
stops_on_pass = true
margins.errors = {margin = 0.1, reason = "a short run"}
margins.malformed = {margin = 0.1, reason = "a short run"}
margins."outputs.*" = {margin = 0.1, reason = "a short run"}
margins."latency.*" = {margin = 2.0, reason = "a shared machine"}
margins.throughput = {margin = 1.5, reason = "a shared machine"}
limits = {slip_p99_s = 0.5, ratio_p = 1e-6}
lines = {errors = 0.05}

[load]
rate = 60.0
seconds = 60.0
warm_up_s = 1.0
timeout_s = 2.0
scenarios = [{path = "/predict", payloads = {source = "file", path = "PAYLOADS"}}]
"""
"""Wide margins: these tests are about what is done, not about how fine it is."""


@pytest.fixture
def windows(tmp_path: Path) -> Path:
    """A file of windows in which the candidate is 40 % slower."""
    return write(tmp_path / "windows.jsonl", Arms(3, slower=1.4).windows(15))


def write(path: Path, windows: list[Window]) -> Path:
    """One a line."""
    path.write_bytes(b"\n".join(map(encode_window, windows)))
    return path


def live(folder: Path, both: tuple[Arm, Arm], *more: str) -> list[str]:
    """The command line for two live servers."""
    payloads = folder / "payloads.jsonl"
    payloads.write_text("\n".join(json.dumps({"x": float(x)}) for x in range(50)))
    (folder / "gate.toml").write_text(PLAN.replace("PAYLOADS", str(payloads)))
    stable, candidate = both
    words = ["--plan", str(folder / "gate.toml"), "--stable", stable.url, "--candidate", candidate.url]
    return ["gate", "run", *words, "--evidence", str(folder / "evidence.json"), *more]


def test_recorded_windows_are_judged_and_the_evidence_replays(slipway: Slipway, windows: Path, tmp_path: Path) -> None:
    """Stdout has the verdict, the exit status says whether it is a pass."""
    evidence = tmp_path / "evidence.json"

    said = slipway("gate", "run", "--windows", windows, "--evidence", evidence)
    replayed = slipway("gate", "replay", evidence)

    assert (said.status, said.out) == (1, "fail\n")
    assert "latency.p50 is worse" in said.err
    assert (replayed.status, replayed.out) == (0, "fail\n")
    assert "gives the same bytes" in replayed.err


def test_evidence_that_was_changed_is_told(slipway: Slipway, windows: Path, tmp_path: Path) -> None:
    """The verdict that is printed is the one that the counts give."""
    evidence = tmp_path / "evidence.json"
    slipway("gate", "run", "--windows", windows, "--evidence", evidence)
    evidence.write_bytes(evidence.read_bytes().replace(b'"verdict":"fail"', b'"verdict":"pass"'))

    said = slipway("gate", "replay", evidence, "--json")

    assert said.status == 1
    assert (said.document["verdict"], said.document["is_same"]) == ("fail", False)
    assert "gives 'fail'" in said.document["difference"]


def test_signed_evidence_names_its_signer(slipway: Slipway, windows: Path, tmp_path: Path) -> None:
    """With the keys of releases."""
    evidence = tmp_path / "evidence.json"
    slipway("keys", "new", "release", "--folder", tmp_path)
    step = ("--rollout", "churn", "--pod-hash", "7c9f", "--stage", "10")

    slipway("gate", "run", "--windows", windows, "--evidence", evidence, "--key", tmp_path / "release.key", *step)
    said = slipway("gate", "replay", evidence, "--signer", tmp_path / "release.pub", "--json")

    assert said.status == 0, said.err
    assert said.document["signer"] == "release"
    subject = open_evidence(evidence.read_bytes()).evidence.subject
    assert subject is not None
    assert (subject.rollout, subject.pod_hash, subject.stage) == ("churn", "7c9f", "10")


def test_a_step_is_said_whole_or_not_at_all(slipway: Slipway, windows: Path) -> None:
    """Half a step would let a verdict count for another."""
    said = slipway("gate", "run", "--windows", windows, "--rollout", "churn")

    assert said.status == 2
    assert "go together" in said.err


def test_a_plan_that_cannot_conclude_is_refused_before_any_traffic(slipway: Slipway) -> None:
    """Nobody listens there, and nobody was asked."""
    short = (*ADDRESSES, "--rate", "20", "--seconds", "30")

    foreseen = slipway("gate", "preflight", *short, "--json")
    refused = slipway("gate", "run", *short)

    assert foreseen.status == 1
    assert foreseen.document["forecasts"][0]["metric"] == "latency.p99"
    assert not foreseen.document["can_conclude"]
    assert refused.status == 2
    assert "the plan cannot conclude: latency.p99 takes about" in refused.err
    assert "`seconds` = " in refused.err


def test_a_run_whose_length_nobody_said_is_as_long_as_it_takes(slipway: Slipway) -> None:
    """The preflight of the same words finds that it can conclude."""
    said = slipway("gate", "preflight", *ADDRESSES, "--rate", "100")

    assert said.status == 0, said.err
    assert said.out.splitlines()[0].startswith("latency.p99")


def test_who_is_not_there_is_no_verdict(slipway: Slipway, tmp_path: Path) -> None:
    """Exit status 3, and no evidence."""
    evidence = tmp_path / "evidence.json"

    said = slipway("gate", "run", *ADDRESSES, "--evidence", evidence)

    assert said.status == 3
    assert "stable at http://127.0.0.1:1 does not answer" in said.err
    assert not evidence.exists()


def test_a_candidate_that_fails_is_stopped_within_seconds_of_real_load(slipway: Slipway, tmp_path: Path) -> None:
    """Real servers, real Locust."""
    with arms(fails=0.5) as both:
        said = slipway(*live(tmp_path, both), "--json")
        asked = both[1].asked

    assert said.status == 1, said.err
    decision = said.document["decision"]
    assert said.document["verdict"] == "fail"
    assert decision["at_s"] <= 6.0
    assert "errors" in decision["reasons"][0] or decision["hard_stop"]["line"] == "errors"
    assert asked < 60 * 12
    assert slipway("gate", "replay", tmp_path / "evidence.json").status == 0


LIVE = {
    "good": ({}, (), "pass", "each of"),
    "slow": ({"takes_s": 0.04, "stable_takes_s": 0.01}, (), "fail", "latency.p"),
    "wrong": ({"adds": 40.0}, (), "fail", "outputs.y is worse"),
    "starved": ({}, ("--rate", "4", "--seconds", "12", "--anyway"), "inconclusive", "expected at least"),
    "strange": ({}, ("--plan-digest",), "inconclusive", "expected sha256:"),
}


@pytest.mark.e2e
@pytest.mark.alone
@pytest.mark.parametrize("what", LIVE)
def test_a_candidate_gets_the_verdict_that_it_deserves(slipway: Slipway, tmp_path: Path, what: str) -> None:
    """Real servers, real Locust, about ten seconds each."""
    faults, more, verdict, reason = LIVE[what]
    with arms(**faults) as both:
        words = live(tmp_path, both)
        if "--plan-digest" in more:
            more = ("--seconds", "8", "--anyway")
            plan = tmp_path / "gate.toml"
            plan.write_text(f'digests = {{candidate = "{BUNDLES["stable"]}"}}\n' + plan.read_text())
        said = settled(
            lambda: slipway(*words, *more), lambda said: said.out == "inconclusive\n" and verdict != "inconclusive"
        )

    assert said.out == f"{verdict}\n", said.err
    assert reason in said.err
    assert slipway("gate", "replay", tmp_path / "evidence.json").out == f"{verdict}\n"
