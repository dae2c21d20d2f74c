"""The hard stop: within seconds, for what is absolutely bad, and for nothing else."""

import statistics
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from gate_windows import Arms, gate_plan, load_plan
from msgspec.structs import replace

from slipway_signals.gate.hard_stop import HardStops
from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.judging import Judge
from slipway_signals.gate.margins import Promises
from slipway_signals.gate.plan import Lines
from slipway_signals.gate.records import Arm, Counts, Window
from slipway_signals.gate.verdict import HardStop

TIGHT = Promises(service="churn", digest="sha256:0", error_budget=0.001)
PLAN = gate_plan(load=load_plan(seconds=60.0, rate=100.0))


def windows(failed: Mapping[str, list[int]], per_window: int = 100) -> Iterator[Window]:
    """Windows of a second with so many failed requests."""
    for index, (stable, candidate) in enumerate(zip(failed["stable"], failed["candidate"], strict=True)):
        arms: dict[Arm, Counts] = {}
        for arm, bad in (("stable", stable), ("candidate", candidate)):
            reasons = {"http_500": bad} if bad else {}
            arms["stable" if arm == "stable" else "candidate"] = Counts(
                sent=per_window, succeeded=per_window - bad, failed=reasons
            )
        yield Window(index=index, begin_s=float(index), end_s=index + 1.0, arms=arms)


def stopped(failed: Mapping[str, list[int]], promises: Promises = TIGHT) -> HardStop | None:
    """The first stop."""
    stops = HardStops(PLAN, promises)
    return next((found for window in windows(failed) if (found := stops.add(window)) is not None), None)


def drawn(seed: int, shares: list[float]) -> list[int]:
    """Failed requests of windows, by chance."""
    random = np.random.default_rng(seed)
    return [int(random.binomial(100, share)) for share in shares]


@pytest.mark.parametrize("good_s", [0, 30])
def test_errors_of_one_percent_stop_a_run_within_ten_seconds(good_s: int) -> None:
    """From 0.1 % to 1 % at 100 requests a second; a long good beginning hides nothing."""
    found = []
    for seed in range(200):
        shares = [0.001] * good_s + [0.01] * 60
        stop = stopped({"stable": [0] * len(shares), "candidate": drawn(seed, shares)})
        found.append(stop.at_s - good_s if stop is not None else 60.0)

    assert statistics.median(found) <= 10.0
    assert max(found) < 60.0


def test_a_share_at_the_line_is_hardly_ever_stopped() -> None:
    """At most `p_false` (1 %) of whole runs, by Ville's inequality."""
    runs = 1_000
    at_line = ({"stable": [0] * 60, "candidate": drawn(seed, [0.001] * 60)} for seed in range(runs))

    stops = sum(stopped(failed) is not None for failed in at_line)

    assert stops <= 0.01 * runs


def test_two_errors_stop_nothing() -> None:
    """However improbable they are."""
    assert stopped({"stable": [0] * 10, "candidate": [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]}) is None


def test_one_stall_stops_nothing() -> None:
    """Fifty requests that fail in one window are one event."""
    assert stopped({"stable": [0] * 10, "candidate": [0, 0, 50, 0, 0, 0, 0, 0, 0, 0]}) is None


def test_a_candidate_that_answers_nothing_is_stopped_in_three_windows() -> None:
    """And it says who, what and how improbable an error of ours is."""
    stop = stopped({"stable": [0] * 10, "candidate": [100] * 10})

    assert stop is not None
    assert (stop.at_s, stop.arm, stop.line, stop.bad, stop.p_false) == (3.0, "candidate", "errors", 300, 0.01)


def test_when_stable_breaks_the_line_too_the_run_ends_and_nobody_is_blamed() -> None:
    """Something else is broken."""
    judge = Judge(PLAN, TIGHT)
    for window in windows({"stable": [30] * 10, "candidate": [30] * 10}):
        judge.add(window)

    decision = judge.decision()

    assert judge.is_decided
    assert decision.verdict == "inconclusive"
    assert "stable_breached" in [finding.code for finding in decision.findings]


def test_answers_above_the_promised_latency_stop_a_run() -> None:
    """The line of an objective of latency."""
    promises = Promises(service="churn", digest="sha256:0", latency_threshold_s=0.05, latency_budget=0.01)
    stops = HardStops(PLAN, promises)
    found = None
    for window in Arms(5, rate=100).windows(5):
        slow = replace(window.arms["candidate"], latency_us=Histogram.of([60_000] * 100))
        found = stops.add(replace(window, arms={**window.arms, "candidate": slow}))
        if found is not None:
            break

    assert found is not None
    assert (found.line, found.window) == ("slow", 2)


def test_the_warm_up_can_be_stopped_too() -> None:
    """A candidate that fails from the start should not be asked for long."""
    judge = Judge(PLAN, TIGHT)
    for window in windows({"stable": [0] * 5, "candidate": [100] * 5}):
        judge.add(replace(window, is_warm_up=True))

    decision = judge.decision()

    assert decision.verdict == "fail"
    assert decision.at_s == 3.0


def test_a_line_at_zero_is_broken_by_the_first_few() -> None:
    """Some answers must never be malformed."""
    plan = replace(PLAN, lines=Lines(errors=0.0))
    stops = HardStops(plan, None)
    found = [stops.add(window) for window in windows({"stable": [0] * 5, "candidate": [2, 2, 2, 2, 2]})]

    assert [stop is not None for stop in found] == [False, False, True, True, True]
