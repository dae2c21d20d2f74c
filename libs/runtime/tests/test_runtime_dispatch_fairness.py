"""Models that share replicas or a device: each gets its share of the time, and a slow one starves no fast one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_dispatch_simulation import Replicas, closed_loop, open_loop

from slipway_runtime.admission import Refusal
from slipway_runtime.dispatch import ModelSpec, PoolSpec
from slipway_runtime.dispatch.fairness import Share, Turns

SLOW_S, FAST_S = 0.500, 0.005
LAYOUTS = ["one pool", "two pools on a device"]


def slow(rows: int) -> float:
    return SLOW_S


def fast(rows: int) -> float:
    return FAST_S


def shared(layout: str, *, slow_weight: float = 1.0, fast_weight: float = 1.0) -> tuple[Replicas, str, str]:
    """A slow and a fast model on one replica, or on a replica each of a device that computes one batch at a time."""
    replicas = Replicas()
    slow_spec = ModelSpec(name="slow", max_rows=8, weight=slow_weight)
    fast_spec = ModelSpec(name="fast", max_rows=8, weight=fast_weight)
    if layout == "one pool":
        replicas.pool(PoolSpec(name="both", models=(slow_spec, fast_spec)), slow, fast)
        return replicas, "both", "both"
    for spec, cost in [(slow_spec, slow), (fast_spec, fast)]:
        replicas.pool(PoolSpec(name=spec.name, models=(spec,), device="gpu", device_concurrency=1), cost)
    return replicas, "slow", "fast"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_saturated_slow_model_leaves_a_fast_one_its_half_of_the_device(layout: str) -> None:
    replicas, slow_pool, fast_pool = shared(layout)
    closed_loop(replicas, slow_pool, "slow", 32)
    closed_loop(replicas, fast_pool, "fast", 64)

    replicas.run(40.0)

    assert replicas.device_s[fast_pool, "fast"] == pytest.approx(20.0, rel=0.05)
    assert replicas.device_s[slow_pool, "slow"] == pytest.approx(20.0, rel=0.05)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_request_of_the_fast_model_waits_for_one_slow_batch_and_its_own_kind(layout: str) -> None:
    replicas, slow_pool, fast_pool = shared(layout)
    closed_loop(replicas, slow_pool, "slow", 32)
    open_loop(replicas, fast_pool, "fast", 100.0, 1.0)

    replicas.run(40.0)

    backlog_s = FAST_S * (1 + 1.5 * 100.0 * SLOW_S / 8)
    assert max(replicas.waited["fast"]) <= SLOW_S + backlog_s
    assert replicas.rate("fast", 1.0, 40.0) == pytest.approx(100.0, rel=0.05)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("weight", [3.0, 0.25])
def test_device_time_is_shared_by_weight(layout: str, weight: float) -> None:
    replicas, slow_pool, fast_pool = shared(layout, fast_weight=weight)
    open_loop(replicas, slow_pool, "slow", 20.0, 10.0)
    open_loop(replicas, fast_pool, "fast", 1500.0, 3.0)

    replicas.run(40.0)

    assert replicas.device_s[fast_pool, "fast"] / replicas.device_s[slow_pool, "slow"] == pytest.approx(weight, rel=0.1)


def test_three_to_one_holds_while_costs_are_not_known_yet() -> None:
    """A cold table believes 10 ms of both; what batches really cost is settled when they land."""
    replicas = Replicas()
    models = (ModelSpec(name="slow", max_rows=8), ModelSpec(name="fast", max_rows=8, weight=3.0))
    replicas.pool(PoolSpec(name="both", models=models), slow, fast, is_warm=False)
    closed_loop(replicas, "both", "slow", 32)
    closed_loop(replicas, "both", "fast", 200)

    replicas.run(20.0)

    assert replicas.device_s["both", "fast"] / replicas.device_s["both", "slow"] == pytest.approx(3.0, rel=0.1)


def test_a_first_batch_that_compiles_is_not_held_against_its_model_for_ever() -> None:
    """20 s in which nobody else could compute; the others do not get 20 s for themselves after it."""
    replicas, slow_pool, fast_pool = shared("one pool")
    costs = iter([20.0])
    replicas.costs[slow_pool, "slow"] = lambda rows: next(costs, SLOW_S)
    closed_loop(replicas, slow_pool, "slow", 32)
    closed_loop(replicas, fast_pool, "fast", 64)
    replicas.run(20.0)
    before = len(replicas.answered_at["slow"])

    replicas.run(30.0)

    assert len(replicas.answered_at["slow"]) - before >= 8 * 4.0 / SLOW_S


def test_many_keys_do_not_win_more_time_than_one() -> None:
    replicas = Replicas()
    models = (ModelSpec(name="keyed", max_rows=4), ModelSpec(name="plain", max_rows=4))
    replicas.pool(PoolSpec(name="both", models=models), lambda rows: 0.010, lambda rows: 0.010)
    keys = [b"%d" % key for key in range(10)]

    def ask() -> None:
        for key in keys:
            replicas.submit("both", "keyed", 5.0, key=key)
        for _ in keys:
            replicas.submit("both", "plain", 5.0)
        replicas.at(replicas.now + 0.010, ask)

    replicas.at(0.0, ask)
    replicas.run(10.0)

    assert replicas.device_s["both", "keyed"] == pytest.approx(replicas.device_s["both", "plain"], rel=0.1)


def test_a_model_that_was_away_does_not_take_what_it_missed() -> None:
    """One model alone for 20 s; then the other gets its half, not 20 s for itself."""
    replicas, slow_pool, fast_pool = shared("one pool")
    closed_loop(replicas, fast_pool, "fast", 64)
    replicas.run(20.0)
    before = replicas.device_s[fast_pool, "fast"]

    closed_loop(replicas, slow_pool, "slow", 32)
    replicas.run(40.0)

    assert replicas.device_s[fast_pool, "fast"] - before == pytest.approx(10.0, rel=0.1)


def test_a_pool_without_replicas_saves_up_no_device_time() -> None:
    """Its requests wait 10 s for a runner to start; the other pool keeps its half afterwards."""
    replicas, slow_pool, fast_pool = shared("two pools on a device")
    replicas.lose(1)
    for _ in range(400):
        replicas.submit(slow_pool, "slow", 300.0)
    closed_loop(replicas, fast_pool, "fast", 64)
    replicas.run(10.0)
    before = replicas.device_s[fast_pool, "fast"]

    replicas.join(slow_pool)
    replicas.run(20.0)

    assert replicas.device_s[fast_pool, "fast"] - before == pytest.approx(5.0, rel=0.1)


def test_the_earliest_deadline_goes_first_among_the_keys_of_a_model() -> None:
    replicas = Replicas()
    replicas.pool(PoolSpec(name="p", models=(ModelSpec(name="m", max_rows=4),)), lambda rows: 0.010)
    for key, timeout_s in [(b"a", 5.0), (b"b", 3.0), (b"c", 1.0), (b"d", 2.0)]:
        replicas.submit("p", "m", timeout_s, key=key)

    replicas.run(1.0)

    assert [batch.key for batch in replicas.batches] == [b"a", b"c", b"d", b"b"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_admission_counts_what_it_must_share_with(layout: str) -> None:
    """With 32 s of another model's work beside it, only half of the time until the deadline is the fast model's."""
    replicas, slow_pool, fast_pool = shared(layout)
    for _ in range(1 + 512):
        replicas.submit(slow_pool, "slow", 600.0)

    asked = [replicas.submit(fast_pool, "fast", SLOW_S + 2.0) for _ in range(4000)]

    admitted = sum(not isinstance(answer, Refusal) for answer in asked)
    assert admitted == pytest.approx(8 * 2.0 / FAST_S / 2, rel=0.05)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_admission_does_not_count_a_backlog_that_will_not_be_let_before(layout: str) -> None:
    """60 s of another model's work wait, but a first fast batch leaves after the slow one in flight."""
    replicas, slow_pool, fast_pool = shared(layout)
    for _ in range(1000):
        replicas.submit(slow_pool, "slow", 600.0)

    assert isinstance(replicas.submit(fast_pool, "fast", 0.8 * SLOW_S), Refusal)
    assert not isinstance(replicas.submit(fast_pool, "fast", SLOW_S + 4 * FAST_S), Refusal)


@given(st.lists(st.floats(0.001, 1.0), min_size=2, max_size=2), st.floats(0.1, 10.0))
def test_shares_that_always_want_stay_within_one_turn_each(costs: list[float], weight: float) -> None:
    turns, shares = Turns(), [Share(1.0), Share(weight)]

    for _ in range(200):
        index = min((0, 1), key=lambda index: turns.start_s(shares[index]))
        turns.take(shares[index], costs[index])
        served = [share.used_s / share.weight for share in shares]
        assert abs(served[0] - served[1]) <= costs[0] + costs[1] / weight + 1e-9
