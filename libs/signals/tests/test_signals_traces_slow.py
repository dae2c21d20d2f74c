import math
import random

import pytest

from slipway_signals.traces_slow import WARM_UP, SlowThreshold


def lognormal(count: int, seed: int, scale: float = 0.01) -> list[float]:
    draw = random.Random(seed)  # noqa: S311 - a test's data
    return [scale * draw.lognormvariate(0.0, 0.5) for _ in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_about_one_request_in_a_hundred_is_slow(seed: int) -> None:
    """Whatever the distribution's scale; from 0.6 % to 1.6 %, which is what a step of 5 % leaves."""
    threshold = SlowThreshold()

    slow = sum(threshold.judge(one) for one in lognormal(50_000, seed, scale=10.0 ** -(seed + 1)))

    assert 0.006 <= slow / 50_000 <= 0.016


def test_nothing_is_slow_before_the_estimate_is_believed() -> None:
    threshold = SlowThreshold()

    assert not any(threshold.judge(one) for one in lognormal(WARM_UP, 1))


def test_a_route_that_gets_slower_is_kept_at_first_and_learned_then() -> None:
    """A shift of ten times: every request is slow until the estimate is there, after about 50."""
    threshold = SlowThreshold()
    for one in lognormal(20_000, 1):
        threshold.judge(one)

    shifted = [threshold.judge(one * 10) for one in lognormal(20_000, 2)]

    assert sum(shifted[:10]) >= 9
    assert sum(shifted[:200]) > 30
    assert sum(shifted[2_000:]) / 18_000 < 0.02


def test_an_objectives_threshold_is_kept_to() -> None:
    threshold = SlowThreshold(0.1)

    assert [threshold.judge(one) for one in (0.0999, 0.1, 0.1001, 5.0)] == [False, False, True, True]
    assert threshold.slow_s == 0.1


def test_a_route_without_an_end_is_never_slow() -> None:
    assert not SlowThreshold(math.inf).judge(1e9)


def test_the_estimate_recovers_from_answers_of_no_time_at_all() -> None:
    threshold = SlowThreshold()
    for _ in range(2_000_000):
        threshold.judge(0.0)

    kept = [threshold.judge(one) for one in lognormal(5_000, 1)]

    assert 0.0 < threshold.slow_s < math.inf
    assert sum(kept[-1_000:]) < 50
