from hypothesis import given
from hypothesis import strategies as st

from slipway_runtime.backoff import Backoff, BackoffLimits

LIMITS = BackoffLimits(first_s=0.5, factor=2.0, ceiling_s=30.0, steady_s=60.0, crash_loop_after=3)


def test_waits_double_from_the_second_death_to_the_ceiling() -> None:
    backoff = Backoff(LIMITS)

    waits = [backoff.died(100.0, 99.0, None) - 100.0 for _ in range(10)]

    assert waits == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_an_attempt_beside_a_living_worker_waits_from_the_first_failure() -> None:
    backoff = Backoff(LIMITS)

    waits = [backoff.failed(100.0) - 100.0 for _ in range(8)]

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_three_deaths_in_a_row_are_a_crash_loop() -> None:
    backoff = Backoff(LIMITS)

    looping = []
    for _ in range(4):
        backoff.died(0.0, 0.0, None)
        looping.append(backoff.is_crash_looping)

    assert looping == [False, False, True, True]


def test_a_worker_that_was_ready_for_long_starts_afresh() -> None:
    backoff = Backoff(LIMITS)
    for _ in range(5):
        backoff.died(0.0, 0.0, None)

    assert backoff.died(now=1000.0, started_at=500.0, ready_at=940.0) == 1000.0
    assert not backoff.is_crash_looping


def test_a_worker_that_served_for_longer_than_it_started_is_started_at_once_but_not_forgotten() -> None:
    backoff = Backoff(LIMITS)
    for _ in range(5):
        backoff.died(0.0, 0.0, None)

    assert backoff.died(now=1000.0, started_at=938.0, ready_at=969.0) == 1000.0
    assert backoff.is_crash_looping


def test_a_worker_that_served_for_less_than_it_started_waits() -> None:
    backoff = Backoff(LIMITS)
    for _ in range(5):
        backoff.died(0.0, 0.0, None)

    assert backoff.died(now=1000.0, started_at=936.0, ready_at=969.0) == 1008.0


def test_steady_is_due_only_when_there_is_something_to_forget() -> None:
    backoff = Backoff(LIMITS)

    before = backoff.steady_at(10.0)
    backoff.died(20.0, 0.0, 10.0)
    due = backoff.steady_at(20.5)
    backoff.steady()

    assert (before, due, backoff.steady_at(20.5)) == (None, 80.5, None)


@given(
    deaths=st.lists(st.tuples(st.floats(0, 1e6), st.none() | st.floats(0, 1e6)), max_size=50),
    factor=st.floats(1.0, 1e3),
)
def test_no_wait_is_negative_or_beyond_the_ceiling(deaths: list[tuple[float, float | None]], factor: float) -> None:
    backoff = Backoff(BackoffLimits(factor=factor))

    for now, ready_at in deaths:
        assert now <= backoff.died(now, 0.0, ready_at) <= now + 30.0


def test_ten_thousand_deaths_still_have_a_wait() -> None:
    backoff = Backoff(LIMITS)

    for _ in range(10_000):
        at = backoff.died(0.0, 0.0, None)

    assert at == 30.0
