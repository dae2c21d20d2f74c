import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_runtime.resilience import (
    BreakerLimits,
    BudgetLimits,
    CircuitBreaker,
    JitterLimits,
    RetryBudget,
    jittered_wait_s,
)

LIMITS = BreakerLimits(min_outcomes=10, failure_ratio=0.5, window_s=10.0, open_s=1.0, open_ceiling_s=8.0, probes=3)

steps = st.lists(st.tuples(st.sampled_from(("ask", "retry", "wait")), st.integers(1, 40)), max_size=60)


@given(steps, st.sampled_from((0.0, 0.1, 0.25)), st.sampled_from((0.0, 1.0, 3.0)))
def test_retries_never_exceed_their_part_of_the_requests_and_the_floor(
    steps: list[tuple[str, int]], ratio: float, floor: float
) -> None:
    budget = RetryBudget(BudgetLimits(ratio=ratio, floor=floor, window_s=60.0), now=0.0)
    now, asked, retried = 0.0, 0, 0

    for step, times in steps:
        for _ in range(times):
            if step == "ask":
                budget.asked(now)
                asked += 1
            elif step == "retry":
                retried += budget.spend(now)
            else:
                now += 0.5

    assert retried <= floor + ratio * asked + floor * now / 60.0 + 1e-6


def test_when_everything_fails_a_tenth_more_is_sent() -> None:
    budget = RetryBudget(BudgetLimits(floor=3.0), now=0.0)
    sent = 0

    for _ in range(1_000):
        budget.asked(0.0)
        sent += 1 + budget.spend(0.0)

    assert sent == 1_103


def test_ten_requests_earn_one_retry() -> None:
    """Ten times 0.1 is a little less than 1."""
    budget = RetryBudget(BudgetLimits(ratio=0.1, floor=0.0), now=0.0)
    for _ in range(10):
        budget.asked(0.0)

    assert [budget.spend(0.0), budget.spend(0.0)] == [True, False]


def test_a_quiet_client_may_retry_now_and_then() -> None:
    """Requests alone would earn the first retry after ten of them."""
    budget = RetryBudget(BudgetLimits(floor=3.0, window_s=60.0), now=0.0)

    now_and_then = [budget.spend(0.0) for _ in range(4)] + [budget.spend(at) for at in (19.0, 21.0, 22.0)]

    assert now_and_then == [True, True, True, False, False, True, False]


def test_a_day_of_success_does_not_pay_for_a_storm() -> None:
    budget = RetryBudget(BudgetLimits(burst=10.0), now=0.0)
    for second in range(86_400):
        budget.asked(float(second))

    assert sum(budget.spend(86_400.0) for _ in range(100)) == 10


def failing(breaker: CircuitBreaker, times: int, now: float) -> None:
    for _ in range(times):
        permit = breaker.enter(now)
        assert permit is not None
        breaker.leave(permit, succeeded=False, now=now)


def opened(now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker(LIMITS)
    failing(breaker, LIMITS.min_outcomes, now)
    return breaker


def test_an_open_breaker_lets_nothing_through_until_its_time_is_over() -> None:
    breaker = opened(now=5.0)

    assert breaker.state(5.9) == "open"
    assert [breaker.enter(at) for at in (5.0, 5.5, 5.999)] == [None, None, None]
    assert breaker.retry_after_s(5.25) == 0.75
    assert breaker.enter(6.0) is not None


def test_a_few_failures_among_few_requests_open_nothing() -> None:
    breaker = CircuitBreaker(LIMITS)
    failing(breaker, LIMITS.min_outcomes - 1, 0.0)

    assert breaker.state(0.0) == "closed"


@pytest.mark.parametrize(("failures", "state"), [(49, "closed"), (50, "open")])
def test_it_opens_at_its_ratio(failures: int, state: str) -> None:
    breaker = CircuitBreaker(LIMITS)
    permits = [breaker.enter(0.0) for _ in range(100)]

    for number, permit in enumerate(permits):
        assert permit is not None
        breaker.leave(permit, succeeded=number < 100 - failures, now=0.0)

    assert breaker.state(0.0) == state


def test_failures_outside_the_window_are_forgotten() -> None:
    breaker = CircuitBreaker(LIMITS)
    failing(breaker, LIMITS.min_outcomes - 1, 0.0)
    failing(breaker, LIMITS.min_outcomes - 1, 10.5)

    assert breaker.state(10.5) == "closed"


def test_only_a_handful_of_probes_is_out_at_once() -> None:
    breaker = opened()

    permits = [breaker.enter(1.0) for _ in range(100)]

    assert sum(permit is not None for permit in permits) == LIMITS.probes
    assert breaker.state(1.0) == "half_open"


def test_probes_that_succeed_close_it() -> None:
    breaker = opened()

    for _ in range(LIMITS.probes):
        permit = breaker.enter(1.0)
        assert permit is not None
        breaker.leave(permit, succeeded=True, now=1.0)

    assert breaker.state(1.0) == "closed"
    failing(breaker, LIMITS.min_outcomes - 1, 1.0)
    assert breaker.state(1.0) == "closed"  # it starts with a clean record


def test_each_failed_probe_doubles_the_wait_up_to_the_ceiling() -> None:
    breaker = opened()
    now, waits = 0.0, []

    for _ in range(6):
        waits.append(breaker.retry_after_s(now))
        now += waits[-1]
        failing(breaker, 1, now)

    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_cancelled_probe_makes_room_for_another_and_decides_nothing() -> None:
    breaker = opened()
    for _ in range(10 * LIMITS.probes):
        permit = breaker.enter(1.0)
        assert permit is not None
        breaker.leave(permit, succeeded=None, now=1.0)

    assert breaker.state(1.0) == "half_open"


def test_answers_from_before_it_opened_do_not_count_as_probes() -> None:
    breaker = CircuitBreaker(LIMITS)
    early = [breaker.enter(0.0) for _ in range(10)]
    failing(breaker, LIMITS.min_outcomes, 0.0)
    probe = breaker.enter(1.0)

    for permit in early:
        assert permit is not None
        breaker.leave(permit, succeeded=True, now=1.0)

    assert probe is not None
    assert breaker.state(1.0) == "half_open"
    assert sum(breaker.enter(1.0) is not None for _ in range(10)) == LIMITS.probes - 1


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.sampled_from((True, False, None))), max_size=200))
def test_while_the_other_side_is_down_a_breaker_sends_at_most_its_probes(
    history: list[tuple[float, bool | None]],
) -> None:
    """Whatever happened before: from an opening on, no request enters before the wait is over."""
    breaker = CircuitBreaker(LIMITS)
    now = 0.0
    for pause, outcome in history:
        now += pause
        permit = breaker.enter(now)
        if permit is None:
            assert breaker.state(now) != "closed"
        else:
            breaker.leave(permit, outcome, now)
        if breaker.state(now) == "open":
            assert breaker.enter(now) is None
            assert 0.0 < breaker.retry_after_s(now) <= LIMITS.open_ceiling_s


@given(st.integers(0, 2_000), st.floats(0.0, 1.0, exclude_max=True))
def test_a_wait_is_drawn_from_nothing_to_the_exponential_bound(retry: int, drawn: float) -> None:
    limits = JitterLimits(first_s=0.025, factor=2.0, ceiling_s=1.0)

    wait_s = jittered_wait_s(limits, retry, lambda: drawn)

    assert wait_s == pytest.approx(drawn * min(1.0, 0.025 * 2.0 ** min(retry, 60)))


def test_two_callers_that_failed_together_do_not_come_back_together() -> None:
    limits = JitterLimits()

    assert not math.isclose(jittered_wait_s(limits, 1, lambda: 0.2), jittered_wait_s(limits, 1, lambda: 0.8))
