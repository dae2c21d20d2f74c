"""The cost table: what it believes before, while and after it learns."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_runtime.latency import CostTable

SIZES = st.integers(1, 100)
SECONDS = st.floats(1e-6, 100.0)


def taught(cost: float = 0.005, per_row: float = 0.0001, max_rows: int = 64) -> CostTable:
    table = CostTable(max_rows)
    for size in (1, 2, 4, 8, 16, 32, 64):
        for _ in range(3):
            table.learn(size, cost + per_row * size)
    return table


def test_an_untaught_table_answers_its_prior() -> None:
    table = CostTable(64, prior_s=0.02)

    assert not table.is_known
    assert table.p50(1) == table.p95(64) == 0.02


@given(st.lists(st.tuples(SIZES, SECONDS), min_size=1, max_size=200), st.integers(1, 100))
def test_quantiles_are_monotone_and_ordered_whatever_was_learned(
    samples: list[tuple[int, float]], max_rows: int
) -> None:
    table = CostTable(max_rows)
    for rows, seconds in samples:
        table.learn(min(rows, max_rows), seconds)

    p50 = [table.p50(rows) for rows in range(1, max_rows + 2)]
    p95 = [table.p95(rows) for rows in range(1, max_rows + 2)]

    assert all(left <= right + 1e-9 for left, right in pairwise(p50))
    assert all(left <= right + 1e-9 for left, right in pairwise(p95))
    assert all(low <= high + 1e-9 for low, high in zip(p50, p95, strict=True))


def test_the_tail_stays_above_the_middle_where_neither_was_seen() -> None:
    """At 2 rows the samples are all alike, at 1 row they are not: beyond 2 rows the median would overtake the tail."""
    table = CostTable(64)
    for seconds in (0.001, 0.001, 0.001, 0.009, 0.009):
        table.learn(1, seconds)
    for _ in range(5):
        table.learn(2, 0.010)

    assert all(table.p50(rows) <= table.p95(rows) for rows in range(1, 66))


def test_sizes_between_the_learned_ones_lie_on_the_line() -> None:
    table = taught()

    for rows in range(1, 65):
        assert table.p50(rows) == pytest.approx(0.005 + 0.0001 * rows, rel=1e-6)


def test_beyond_what_was_seen_one_point_grows_in_proportion() -> None:
    """No saving by batching is believed before it was seen."""
    table = CostTable(64)

    table.learn(4, 0.004)

    assert table.p50(64) == pytest.approx(0.064)
    assert table.p50(1) == pytest.approx(0.004)


def test_p95_is_the_tail_and_p50_the_middle() -> None:
    source = random.Random(7)  # noqa: S311
    table = CostTable(1)

    for _ in range(2000):
        table.learn(1, 0.010 if source.random() < 0.9 else 0.050)

    assert table.p50(1) == pytest.approx(0.010)
    assert table.p95(1) == pytest.approx(0.050)


@pytest.mark.parametrize("position", [0, 1, 5, 40])
def test_one_outlier_moves_nothing(position: int) -> None:
    """The first batch of a cold model may take 30 s; the second sample must already outvote it."""
    table = CostTable(64)

    for index in range(42):
        table.learn(1, 30.0 if index == position else 0.005)

    assert table.p95(1) == pytest.approx(0.005)


def test_a_cold_first_sample_is_outvoted_by_the_second() -> None:
    table = CostTable(64)

    table.learn(1, 30.0)
    table.learn(1, 0.005)

    assert table.p95(1) == pytest.approx(0.005)


def test_the_table_forgets_a_model_that_became_faster_or_slower() -> None:
    table = taught()
    for seconds in (0.050, 0.001):
        for _ in range(64):
            table.learn(64, seconds)

        assert table.p50(64) == pytest.approx(seconds, rel=0.1)
        assert table.p95(64) == pytest.approx(seconds, rel=0.1)


def test_a_lone_slow_sample_of_a_rare_size_does_not_outweigh_a_common_one() -> None:
    table = CostTable(64)
    table.learn(1, 10.0)
    for _ in range(64):
        table.learn(64, 0.010)

    assert table.p50(1) < 0.5


@given(st.floats(0.0, 0.02), st.integers(1, 64))
def test_largest_within_is_the_largest(slack_s: float, rows: int) -> None:
    table = taught()

    fits = table.largest_within(slack_s, rows)

    assert 0 <= fits <= rows
    assert fits == 0 or table.p95(fits) <= slack_s
    assert fits == rows or table.p95(fits + 1) > slack_s


def test_a_size_unused_for_very_long_still_has_a_place() -> None:
    """Also where its old samples contradict those of another unused size."""
    table = CostTable(64)
    table.learn(1, 0.002)
    table.learn(2, 0.001)

    for _ in range(40_000):
        table.learn(64, 0.004)

    assert table.p50(1) == table.p50(2) == pytest.approx(0.0015)


def test_points_tell_what_was_learned() -> None:
    points = taught().points()

    assert [round(point.rows) for point in points] == [1, 2, 4, 8, 16, 32, 64]
    assert {point.samples for point in points} == {3}
