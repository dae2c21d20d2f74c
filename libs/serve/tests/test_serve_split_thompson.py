"""Thompson sampling by simulation, with fixed seeds: what it gains, what it never does, when it freezes."""

import numpy as np
import pytest

from slipway_serve.split.assignment import draw
from slipway_serve.split.thompson import Thompson, ThompsonConfig

CONFIG = ThompsonConfig(good_ms=50, least=0.05, most=0.9, most_step=0.1, half_life_s=1e9, failed_most=0.05)
HALVES = {"stable": 1.0, "candidate": 1.0}


def simulate(good: dict[str, float], *, rounds: int, each: int, seed: int, config: ThompsonConfig = CONFIG) -> Thompson:
    """`rounds` decisions, with `each` requests between two; what is not good is slow, not failed."""
    chances = np.random.default_rng(seed)
    thompson = Thompson(dict.fromkeys(good, 1.0), config, 0.0)
    for now in range(1, rounds + 1):
        before = dict(thompson.shares)
        for where, luck in chances.random((each, 2)).tolist():
            arm = draw(where, thompson.shares)
            thompson.observe(arm, is_good=luck < good[arm], is_failed=False)
        after = thompson.decide(float(now))
        assert sum(after.values()) == pytest.approx(1.0)
        assert all(CONFIG.least - 1e-9 <= share for share in after.values())
        assert all(share <= CONFIG.most + 1e-9 for arm, share in after.items() if arm != "stable")
        assert max(abs(after[arm] - before[arm]) for arm in after) <= CONFIG.most_step + 1e-9
    return thompson


def test_the_better_arm_ends_up_with_what_it_may_have() -> None:
    shares = [simulate({"stable": 0.97, "candidate": 0.99}, rounds=60, each=200, seed=seed) for seed in range(6)]
    worse = [simulate({"stable": 0.99, "candidate": 0.97}, rounds=60, each=200, seed=seed) for seed in range(6)]

    assert np.median([one.shares["candidate"] for one in shares]) >= 0.85
    assert np.median([one.shares["candidate"] for one in worse]) <= 0.10


def test_it_loses_less_than_an_even_split() -> None:
    good = {"stable": 0.90, "candidate": 0.80, "third": 0.85}

    runs = [simulate(good, rounds=50, each=100, seed=seed) for seed in range(6)]

    lost = [sum(sum(one._seen[arm]) * (0.90 - chance) for arm, chance in good.items()) for one in runs]
    even = 50 * 100 * (0.10 + 0.05) / 3
    assert np.mean(lost) < 0.5 * even


def test_what_is_old_is_forgotten() -> None:
    config = ThompsonConfig(good_ms=50, least=0.05, half_life_s=10, most_step=1.0)
    thompson = Thompson(HALVES, config, 0.0)
    for _ in range(1_000):
        thompson.observe("candidate", is_good=False, is_failed=False)
        thompson.observe("stable", is_good=True, is_failed=False)

    assert thompson.decide(0.0)["candidate"] == pytest.approx(0.05)
    assert thompson.decide(300.0)["candidate"] == pytest.approx(0.5, abs=0.1)  # 30 half-lives later


def test_an_arm_that_fails_beyond_doubt_gets_nothing_and_nothing_changes_any_more() -> None:
    thompson = Thompson(HALVES, CONFIG, 0.0)
    asked = 0
    while thompson.frozen is None:
        asked += 1
        thompson.observe("candidate", is_good=asked % 2 == 0, is_failed=asked % 2 == 1)
        assert asked < 100

    frozen = thompson.decide(1.0)
    for _ in range(500):
        thompson.observe("stable", is_good=False, is_failed=False)

    assert frozen == {"stable": 1.0, "candidate": 0.0}
    assert thompson.decide(2.0) == frozen
    assert "'candidate' fails more than 0.05" in str(thompson.frozen)
    assert asked <= 40


def test_stable_that_fails_freezes_the_shares_as_they_are() -> None:
    thompson = Thompson(HALVES, CONFIG, 0.0)
    for _ in range(50):
        thompson.observe("stable", is_good=False, is_failed=True)

    assert thompson.decide(1.0) == {"stable": 0.5, "candidate": 0.5}
    assert thompson.frozen is not None


def test_an_arm_that_fails_no_more_than_it_may_is_hardly_ever_frozen() -> None:
    """At exactly the allowed share, a million requests are the mean until a false freeze; here are 400,000."""
    chances = np.random.default_rng(7)
    frozen = 0
    for _ in range(20):
        thompson = Thompson(HALVES, CONFIG, 0.0)
        for is_failed in (chances.random(20_000) < CONFIG.failed_most).tolist():
            thompson.observe("candidate", is_good=not is_failed, is_failed=is_failed)
        frozen += thompson.frozen is not None

    assert frozen <= 1


def test_arms_without_weight_take_no_part() -> None:
    thompson = Thompson({"stable": 1.0, "candidate": 1.0, "shadow": 0.0}, CONFIG, 0.0)
    thompson.observe("shadow", is_good=False, is_failed=True)

    assert thompson.decide(1.0)["shadow"] == 0.0
    assert thompson.frozen is None
