"""The lane of the next batch, and the present wait: the two small state machines of the in-process pool."""

import math
from itertools import pairwise

from slipway_runtime.lanes import LaneChooser
from slipway_runtime.patience import Patience


def test_an_unknown_model_runs_in_the_thread() -> None:
    assert not LaneChooser(64, 0.002).is_inline(1)


def test_a_model_that_warmed_up_fast_runs_inline_and_a_slow_one_does_not() -> None:
    fast, slow = LaneChooser(64, 0.002), LaneChooser(64, 0.002)

    for _ in range(3):
        fast.warmed(1, 0.0003)
        slow.warmed(1, 0.0300)

    assert fast.is_inline(1)
    assert not slow.is_inline(1)


def test_only_the_sizes_within_the_limit_run_inline() -> None:
    lanes = LaneChooser(64, 0.002)
    for size in (1, 8, 64):
        for _ in range(3):
            lanes.warmed(size, 0.0001 * size)

    assert lanes.is_inline(8)
    assert not lanes.is_inline(64)


def test_zero_keeps_every_batch_in_the_thread() -> None:
    lanes = LaneChooser(64, 0.0)

    lanes.warmed(1, 1e-9)

    assert not lanes.is_inline(1)


def test_a_fast_model_finds_its_way_back_from_a_crowded_thread() -> None:
    """In the thread it measures 6 ms because it waits for the interpreter's lock; now and then it gets through."""
    lanes = LaneChooser(64, 0.002)

    for index in range(8):
        lanes.ran_in_thread(16, 0.0005 if index == 5 else 0.006)

    assert lanes.is_inline(16)
    assert lanes.costs is lanes.inline_costs


def test_probes_of_a_model_that_is_slow_inline_become_rare() -> None:
    lanes = LaneChooser(64, 0.002)
    probes = []

    for batch in range(2000):
        if lanes.is_inline(1):
            probes.append(batch)
            lanes.ran_inline(1, 0.050)
        else:
            lanes.ran_in_thread(1, 0.001)

    gaps = [after - before for before, after in pairwise(probes)]
    assert len(probes) <= 20
    assert max(gaps) > 500


def test_a_slow_model_is_never_probed_inline() -> None:
    lanes = LaneChooser(64, 0.002)

    for _ in range(5000):
        lanes.ran_in_thread(1, 0.010)

        assert not lanes.is_inline(1)


def test_a_model_that_was_slow_for_long_comes_back_as_soon_as_it_is_fast() -> None:
    lanes = LaneChooser(64, 0.002)
    for _ in range(1000):
        lanes.ran_in_thread(1, 0.010)

    for _ in range(8):
        lanes.ran_in_thread(1, 0.001)

    assert lanes.is_inline(1)


def test_a_free_wait_ends_after_three_barren_turns() -> None:
    patience = Patience()
    patience.begin(1.0, 10, admitted=5, is_free=True)

    turns = [patience.goes_on(0.0, 1, admitted=5) for _ in range(3)]

    assert turns == [True, True, False]


def test_an_arrival_renews_a_free_wait() -> None:
    patience = Patience()
    patience.begin(1.0, 10, admitted=5, is_free=True)

    turns = [patience.goes_on(0.0, 1, admitted=5 + turn // 2) for turn in range(10)]

    assert all(turns)


def test_a_wait_ends_at_its_time_at_its_rows_and_when_nothing_waits() -> None:
    patience = Patience()
    patience.begin(1.0, 10, admitted=5, is_free=False)

    assert patience.goes_on(0.999, 9, admitted=5)
    assert not patience.goes_on(1.0, 9, admitted=5)
    assert not patience.goes_on(0.5, 10, admitted=5)
    assert not patience.goes_on(0.5, 0, admitted=5)


def test_after_its_end_one_row_wakes_the_pool() -> None:
    patience = Patience()
    patience.begin(1.0, 10, admitted=5, is_free=True)

    patience.end()

    assert patience.wake_rows == 1
    assert patience.until == -math.inf
    assert not patience.is_free
