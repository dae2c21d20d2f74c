"""Nothing passes on a measurement that is not sound, and nothing fails because of it."""

from collections.abc import Callable, Sequence

import pytest
from gate_windows import DIGESTS, PROMISES, Arms, changed, gate_plan, load_plan
from msgspec.structs import replace

from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.judging import Judge
from slipway_signals.gate.load_plan import Target
from slipway_signals.gate.plan import GatePlan
from slipway_signals.gate.records import Generator, Pairs, Scrape, Window
from slipway_signals.gate.verdict import Decision

SECONDS = 25
EASY = {
    "alpha": 0.2,
    "quantiles": (0.5,),
    "without": {"outputs.*": "not here", "malformed": "not here", "slow": "not here", "cpu": "not here"},
    "stops_on_pass": False,
}
"""What a good candidate passes in a few seconds, so that a finding is all that keeps it from passing."""


def decided(windows: Sequence[Window], plan: GatePlan) -> Decision:
    """What comes of the windows."""
    judge = Judge(plan, PROMISES)
    for window in windows:
        judge.add(window)
    return judge.decision()


def good(seconds: int = SECONDS, seed: int = 7) -> list[Window]:
    """Windows of a candidate that is as good as stable."""
    return Arms(seed).windows(seconds)


def easy(**more: object) -> GatePlan:
    """The plan, with something else in places."""
    return gate_plan(**(EASY | more))


def generators(**more: object) -> list[Window]:
    """Good windows of a generator that is not."""
    return [replace(one, generator=replace(one.generator, **more)) for one in good()]


def test_a_sound_measurement_of_a_good_candidate_passes() -> None:
    """The twin of all tests below: without the fault there is no finding."""
    decision = decided(good(), easy())

    assert decision.verdict == "pass", decision.reasons
    assert decision.findings == ()


UNSOUND: dict[str, Callable[[], tuple[list[Window], GatePlan]]] = {
    "generator_slip": lambda: (generators(slip_us=Histogram.of([90_000] * 200)), easy()),
    "cpu_contended": lambda: (Arms(3, waiting_s=4e-4).windows(SECONDS), easy()),
    "generator_cpu": lambda: (generators(cpu_share=0.99), easy()),
    "generator_dropped": lambda: (generators(dropped=3), easy()),
    "generator_sockets": lambda: (generators(sockets=960), easy()),
    "generator_clock": lambda: (generators(clock_offset_s=-0.3), easy()),
    "sample_ratio": lambda: (changed(good(), "candidate", sent=150, first_sent=90), easy()),
    "order_ratio": lambda: (changed(changed(good(), "candidate", first_sent=170), "stable", first_sent=30), easy()),
    "digest_wrong": lambda: (good(), easy(digests={"candidate": "sha256:" + "c" * 64})),
    "digests_mixed": lambda: (
        changed(good(), "candidate", digests={DIGESTS["candidate"]: 190, "sha256:" + "c" * 64: 10}),
        easy(),
    ),
    "digest_unknown": lambda: (changed(good(), "stable", digests={"": 200}), easy()),
    "digest_same": lambda: (changed(good(), "candidate", digests={DIGESTS["stable"]: 200}), easy()),
    "payloads_differ": lambda: ([replace(one, pairs=Pairs(compared=20)) for one in good()], easy()),
    "window_missing": lambda: ([one for one in good() if one.index != 15], easy()),
    "window_empty": lambda: (good(15) + changed(good()[15:], "candidate", sent=0), easy()),
    "too_few_requests": lambda: (good(), easy(at_least=100_000)),
    "too_short": lambda: (good(), easy(at_least_s=300.0)),
    "unsettled": lambda: (changed(good(), "candidate", sent=202, first_sent=100), easy()),
    "metric_missing": lambda: (good(), easy(required=("gpu",))),
    "clock_skew": lambda: (
        [replace(one, scrapes={"stable": Scrape(ok=True, skew_s=-40.0)}) for one in good()],
        easy(),
    ),
    "scrape_missing": lambda: (
        [replace(one, scrapes={"candidate": Scrape(ok=False, problem="refused")}) for one in good()],
        easy(),
    ),
}


@pytest.mark.parametrize("code", UNSOUND)
def test_an_unsound_measurement_is_inconclusive_and_says_why(code: str) -> None:
    """Each finding, by itself, keeps a good candidate from passing."""
    windows, plan = UNSOUND[code]()

    decision = decided(windows, plan)

    assert code in [finding.code for finding in decision.findings]
    assert decision.verdict == "inconclusive"
    assert decision.reasons


def test_a_scrape_that_the_plan_asks_for_and_nobody_makes_is_missing() -> None:
    """An admin address in the plan is a promise of figures."""
    load = load_plan()
    arms = {arm: replace(target, admin="http://127.0.0.1:3") for arm, target in load.arms.items()}
    windows = [replace(one, scrapes={}) for one in good()]

    decision = decided(windows, easy(load=replace(load, arms=arms)))

    assert [finding.code for finding in decision.findings] == ["scrape_missing", "scrape_missing"]
    assert isinstance(arms["stable"], Target)
    assert decision.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("health", "verdict"),
    [(Generator(offered=200, cpu_share=0.3), "fail"), (Generator(offered=200, cpu_share=1.0), "inconclusive")],
)
def test_a_comparison_by_a_sick_generator_fails_nobody(health: Generator, verdict: str) -> None:
    """What was measured is the generator, perhaps."""
    windows = [replace(one, generator=health) for one in Arms(3, slower=2.0).windows(SECONDS)]

    decision = decided(windows, gate_plan())

    assert decision.verdict == verdict, decision.reasons


@pytest.mark.parametrize(("waiting_s", "verdict"), [(2e-5, "fail"), (6e-4, "fail"), (3e-3, "inconclusive")])
def test_a_difference_that_is_somebody_elses_work_on_the_machine_fails_nobody(waiting_s: float, verdict: str) -> None:
    """4 ms more a request: that a request waited 0.6 ms of them for a processor excuses nothing, 3 ms do."""
    windows = Arms(3, slower=2.0, waiting_s=waiting_s).windows(SECONDS)

    decision = decided(windows, gate_plan())

    assert decision.verdict == verdict, decision.reasons


def test_a_resource_that_only_stable_shows_is_not_passed() -> None:
    """A missing series is no evidence."""
    windows = []
    for one in good():
        bare = replace(one.scrapes["candidate"], cpu_s=None)
        windows.append(replace(one, scrapes={**one.scrapes, "candidate": bare}))
    plan = easy(without={key: why for key, why in EASY["without"].items() if key != "cpu"})  # type: ignore[attr-defined]  # a table

    decision = decided(windows, plan)

    assert decision.verdict == "inconclusive"
    assert any(reason.startswith("cpu has no data") for reason in decision.reasons)


def test_no_window_at_all_is_inconclusive() -> None:
    """An empty run has an answer, too."""
    decision = decided([], gate_plan())

    assert decision.verdict == "inconclusive"
    assert [finding.code for finding in decision.findings] == ["no_answers"]


def test_a_split_has_the_share_that_was_planned() -> None:
    """A tenth to the candidate is right when a tenth was meant, and wrong when half was."""
    windows = [replace(one, pairs=Pairs()) for one in changed(good(), "candidate", sent=22, first_sent=0)]

    meant = decided(windows, easy(load=None, source="split", candidate_share=0.1))
    other = decided(windows, easy(load=None, source="split", candidate_share=0.5))

    assert [finding.code for finding in meant.findings] == []
    assert [finding.code for finding in other.findings] == ["sample_ratio"]


def test_a_shadow_is_always_asked_second() -> None:
    """Order is a matter of load runs only."""
    windows = changed(changed(good(), "candidate", first_sent=0), "stable", first_sent=200)

    decision = decided(windows, easy(load=None, source="shadow"))

    assert decision.verdict == "pass", decision.reasons
