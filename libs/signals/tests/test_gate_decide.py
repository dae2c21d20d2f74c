"""A good candidate passes, a worse one fails, and what is not known is inconclusive: the fold over windows."""

import pytest
from gate_windows import PROMISES, Arms, gate_plan, load_plan
from msgspec.structs import replace

from slipway_signals.gate.decide import verdict_of
from slipway_signals.gate.judging import Judge
from slipway_signals.gate.plan import GatePlan, Override
from slipway_signals.gate.records import Pairs
from slipway_signals.gate.verdict import Check, Criterion, Finding, Judged, Role, Verdict


def judged(arms: Arms, plan: GatePlan | None = None, seconds: int = 60) -> Judge:
    """All windows, or as many as it took."""
    judge = Judge(plan or gate_plan(), PROMISES)
    for index in range(seconds):
        judge.add(arms.window(index, is_warm_up=index < 3))
        if judge.is_decided:
            break
    return judge


@pytest.mark.parametrize("seed", [1, 2])
def test_a_candidate_that_is_as_good_passes_before_the_run_ends(seed: int) -> None:
    """And the load is not needed any longer."""
    judge = judged(Arms(seed, rate=300))
    decision = judge.decision()

    assert decision.verdict == "pass", decision.reasons
    assert 10.0 <= decision.at_s < 60.0
    assert {one.verdict for one in decision.metrics} == {"pass"}


WORSE = {
    "slower": (Arms(3, slower=1.2), "latency.p50"),
    "drifted": (Arms(4, drift=0.2), "outputs.score"),
    "hungry": (Arms(5, cpu=3.0), "cpu"),
    "failing": (Arms(6, failing=0.3), "errors"),
    "malformed": (Arms(7, malformed=0.1), "malformed"),
}


@pytest.mark.parametrize("what", WORSE)
def test_a_worse_candidate_fails_and_the_reason_names_the_metric(what: str) -> None:
    """Each in its own way."""
    arms, metric = WORSE[what]

    judge = judged(arms)
    decision = judge.decision()

    assert decision.verdict == "fail"
    assert judge.is_decided
    worse = {one.metric for one in decision.metrics if one.verdict == "fail"}
    stop = decision.hard_stop.line if decision.hard_stop is not None else None
    assert metric in worse or metric == stop
    assert not {"errors", "malformed", "outputs.score", "cpu"} & (worse - {metric})


def test_pairs_that_disagree_fail_where_the_plan_says_how_far_apart_they_may_be() -> None:
    """Another model answers otherwise; only a plan knows whether it may."""
    windows = [replace(one, pairs=Pairs(compared=200, disagreed={"score": 20})) for one in Arms(8).windows(30)]
    told = gate_plan(load=load_plan(tolerances={"score": 0.01}))
    untold, strict = Judge(gate_plan(), PROMISES), Judge(told, PROMISES)
    for window in windows:
        untold.add(window)
        strict.add(window)

    assert "disagreement.score" not in [one.metric for one in untold.criteria]
    assert strict.decision().verdict == "fail"
    assert strict.decision().reasons[0].startswith("disagreement.score is worse")


def test_too_little_traffic_is_inconclusive_and_says_how_much_more() -> None:
    """A starved run ends with an estimate, not with a guess."""
    decision = judged(Arms(9, rate=20)).decision()

    assert decision.verdict == "inconclusive"
    assert decision.needed is not None
    assert decision.needed.requests > 500
    assert decision.needed.seconds == pytest.approx(decision.needed.requests / 20.0, rel=0.05)
    assert "more requests" in decision.reasons[-1]


def test_a_difference_that_does_not_matter_fails_nobody() -> None:
    """Significant and not material: 3 % slower with a margin of 10 %."""
    decision = judged(Arms(10, slower=1.03, rate=400)).decision()

    assert decision.verdict != "fail"


def test_the_margin_of_a_plan_wins_and_its_reason_is_kept() -> None:
    """Somebody may want less; the evidence says who wanted what."""
    wanted = Override(margin=1.5, reason="the new model reads twice as much")
    judge = judged(Arms(11, slower=1.2), gate_plan(margins={"latency.*": wanted}))
    decision = judge.decision()

    assert decision.verdict == "pass", decision.reasons
    latency = next(one for one in judge.criteria if one.metric == "latency.p95")
    assert (latency.margin, latency.origin, latency.reason) == (1.5, "plan", wanted.reason)


def test_a_candidate_that_breaks_a_check_gets_no_traffic() -> None:
    """No window is needed to know."""
    check = Check(name="golden", arm="candidate", status="failed", text="7 of 8 golden examples replay")
    judge = Judge(gate_plan(), PROMISES, [check])

    assert judge.is_decided
    assert judge.decision().verdict == "fail"
    assert judge.decision().reasons == (check.text,)


@pytest.mark.parametrize(("name", "code"), [("golden", "golden_stable"), ("identity", "digest_wrong")])
def test_a_check_that_stable_breaks_passes_nobody(name: str, code: str) -> None:
    """The baseline is not what it should be, which says nothing of the candidate; so nothing is sent."""
    check = Check(name="golden" if name == "golden" else "identity", arm="stable", status="failed", text="no")
    judge = Judge(gate_plan(), PROMISES, [check])
    assert judge.is_decided
    assert judge.decision().verdict == "inconclusive"
    assert code in [finding.code for finding in judge.decision().findings]


def test_load_that_ends_early_passes_nobody() -> None:
    """Half a run is not the run that was planned."""
    judge = Judge(gate_plan(stops_on_pass=False), PROMISES)
    for window in Arms(1).windows(45):
        judge.add(window)

    assert judge.decision().verdict == "pass"
    assert judge.decision(has_load_failed=True, said="no sockets").verdict == "inconclusive"


def test_windows_after_the_decision_change_nothing() -> None:
    """What comes while the load is being stopped."""
    judge = judged(Arms(3, slower=1.2))
    before = judge.decision()

    for window in Arms(12).windows(5, first=60):
        assert judge.add(window) is None
    assert judge.decision() == before


TABLE: list[tuple[list[tuple[Role, Verdict]], list[str], Verdict]] = [
    ([("must", "pass"), ("must", "pass")], [], "pass"),
    ([("must", "pass"), ("must", "inconclusive")], [], "inconclusive"),
    ([("must", "pass"), ("must", "fail")], [], "fail"),
    ([("must", "pass"), ("guard", "inconclusive")], [], "pass"),
    ([("must", "pass"), ("guard", "fail")], [], "fail"),
    ([("must", "pass")], ["pass"], "inconclusive"),
    ([("must", "fail")], ["pass"], "fail"),
    ([("must", "fail")], ["any"], "inconclusive"),
    ([("guard", "pass")], [], "inconclusive"),
    ([], [], "inconclusive"),
]


@pytest.mark.parametrize(("metrics", "findings", "expected"), TABLE)
def test_what_metrics_and_findings_mean_together(
    metrics: list[tuple[Role, Verdict]], findings: list[str], expected: Verdict
) -> None:
    """The whole table of verdicts."""
    criteria = [
        Criterion(
            metric=f"m{place}",
            title="",
            kind="proportion",
            unit="share",
            neutral=0.0,
            margin=0.1,
            role=role,
            origin="default",
            reason="",
        )
        for place, (role, _) in enumerate(metrics)
    ]
    found = [Judged(metric=f"m{place}", verdict=verdict) for place, (_, verdict) in enumerate(metrics)]
    unsound = [Finding(code="x", text="x", voids="any" if voids == "any" else "pass") for voids in findings]

    assert verdict_of(criteria, found, unsound) == expected
