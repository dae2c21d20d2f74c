"""Buckets: the same as HdrHistogram's, exact where they say so, merged without loss, read as they were written."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]  # it ships no types
from hypothesis import given
from hypothesis import strategies as st

from slipway_bundle.canonical import canonical_json
from slipway_signals.gate.histogram import HUGE, LARGEST, Histogram, Sketch

whole = st.integers(0, LARGEST)
finite = st.floats(-1e15, 1e15, allow_nan=False)


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    latencies: Histogram
    outputs: dict[str, Sketch]


@given(st.integers(1, LARGEST - 1))
def test_a_bucket_is_that_of_hdr_histogram(value: int) -> None:
    oracle: Any = HdrHistogram(1, LARGEST, 3)
    found = Histogram()

    found.record(value)

    assert found.values == [oracle.get_highest_equivalent_value(value)]
    assert found.values[0] - value <= value / 1_000


@given(st.lists(whole, min_size=1), st.floats(0.001, 1.0))
def test_a_quantile_is_at_most_one_bucket_above_the_true_one(values: list[int], q: float) -> None:
    found = Histogram.of(values)

    true = sorted(values)[math.ceil(q * len(values) - 1e-9) - 1]
    assert true <= found.quantile(q) <= true * 1.001 + 1


@given(st.lists(whole), st.lists(whole))
def test_whole_numbers_merge_without_loss(some: list[int], more: list[int]) -> None:
    one, other, all_at_once = Histogram(), Histogram.of(more), Histogram.of([*some, *more])
    for value in some:
        one.record(value)

    one.merge(other)

    assert one == all_at_once
    assert one.count == len(some) + len(more)


@given(st.lists(finite), st.lists(finite))
def test_floats_merge_without_loss(some: list[float], more: list[float]) -> None:
    one, other, all_at_once = Sketch(), Sketch.of(more), Sketch.of([*some, *more])
    for value in some:
        one.record(value)

    one.merge(other)

    assert one == all_at_once


@given(finite)
def test_a_float_is_kept_to_less_than_half_a_percent_and_never_rounded_down(value: float) -> None:
    found = Sketch.of([value]).values[0]

    assert found >= value or abs(value) < 1e-18
    assert found == pytest.approx(value, rel=0.004, abs=1e-18)


def test_whole_numbers_and_simple_fractions_have_buckets_of_their_own() -> None:
    values = [-512.0, -0.5, 0.0, 0.25, 1.0, 3.0, 511.0]

    found = Sketch.of([*values, -0.0])

    assert found.values == values
    assert found.counts == [1, 1, 2, 1, 1, 1, 1]


def test_the_share_at_a_bucket_value_is_exact() -> None:
    latencies = np.random.default_rng(1).lognormal(9.0, 1.0, 5_000).astype(int)

    values, counts = Histogram.of(latencies).arrays()

    assert all(
        int(count) == int((latencies <= value).sum()) for value, count in zip(values, counts.cumsum(), strict=True)
    )


@given(st.lists(whole), st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_both_are_stored_inside_a_struct_and_in_canonical_json(latencies: list[int], outputs: list[float]) -> None:
    stored = Stored(latencies=Histogram.of(latencies), outputs={"p": Sketch.of(outputs)})

    read = msgspec.json.decode(msgspec.json.encode(stored), type=Stored)
    canonical = msgspec.json.decode(canonical_json(msgspec.to_builtins(stored)), type=Stored)

    assert read == canonical == stored


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"v":[5000],"n":[1]}', "5000 is not the largest value of a bucket: 5003 is"),
        ('{"v":[20,10],"n":[1,1]}', "ascending"),
        ('{"v":[10,10],"n":[1,1]}', "ascending"),
        ('{"v":[10],"n":[]}', "as many counts as values"),
        ('{"v":[10],"n":[0]}', "`int` >= 1"),
        ('{"v":[-1],"n":[1]}', "from 0 to"),
        ('{"v":[10],"n":[1],"sum":10}', "unknown field `sum`"),
    ],
)
def test_counts_that_nobody_recorded_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.json.decode(text, type=Histogram)


def test_values_outside_are_refused_or_clipped_as_documented() -> None:
    for value in (-1, LARGEST + 1):
        with pytest.raises(ValueError, match="from 0 to"):
            Histogram().record(value)
        with pytest.raises(ValueError, match="from 0 to"):
            Histogram.of([value])
    for strange in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            Sketch().record(strange)
        with pytest.raises(ValueError, match="finite"):
            Sketch.of([strange])
    assert Sketch.of([1e300, -1e300, 1e-30]).values == [-HUGE, 0.0, HUGE]
    with pytest.raises(ValueError, match="nothing was recorded"):
        Histogram().quantile(0.5)
    with pytest.raises(ValueError, match="a share"):
        Histogram.of([1]).quantile(0.0)
