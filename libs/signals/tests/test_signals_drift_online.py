"""Counting into the reference's bins: what a naive count counts, bounded, unbiased when sampled."""

import math
import os
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct, defstruct
from slot_writers import read_once

from slipway_bundle import F32, RowCodec, Shape
from slipway_signals import metrics_drift as metrics
from slipway_signals.drift import DriftCounters, Profile, ProfileError, build_profile
from slipway_signals.drift.online import BUFFER_BYTES
from slipway_signals.drift.profile import Categorical, Feature
from slipway_signals.slots import Slots


class Row(Struct, frozen=True, kw_only=True):
    a: float | None
    n: int
    word: Literal["x", "yy", "a word of more than eight letters", "a word of another sort", "never", "late"]
    flag: bool
    b: float
    pair: Annotated[list[float], Meta(min_length=2, max_length=2)]


class Answer(Struct, frozen=True):
    p: float


WORDS = ("x", "yy", "a word of more than eight letters", "a word of another sort")
CODEC = RowCodec(Row)
ANSWERS = RowCodec(Answer).specs


class Clock:
    """Seconds that pass when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class World:
    """Slots, a profile of 300 rows, and what was counted."""

    def __init__(self) -> None:
        draw = np.random.default_rng(11)
        self.rows = [row_of(draw) for _ in range(300)]
        scores = draw.random(300)
        table = {name: [getattr(row, name) for row in self.rows] for name in ("a", "n", "word", "flag", "b", "pair")}
        self.profile = build_profile(
            "m", CODEC.specs, table, outputs=ANSWERS, predictions=scores, labels=draw.random(300) < scores
        )
        self.slots, self.fd = Slots.create()
        self.clock = Clock()

    def counters(self, **options: Any) -> DriftCounters:
        return DriftCounters(self.slots, "m", self.profile, CODEC, clock=self.clock, seed=5, **options)

    def counted(self, metric: str = "slipway_feature_bin_total") -> dict[tuple[str, ...], float]:
        """Label values after the model -> value, zeros left out."""
        found = {one.values[1:]: one.cells[0] for one in read_once(self.fd).readings if one.metric.name == metric}
        return {labels: value for labels, value in found.items() if value}


def row_of(draw: np.random.Generator, *, words: tuple[str, ...] = WORDS, shift: float = 0.0) -> Row:
    return Row(
        a=None if draw.random() < 0.1 else float(np.float32(draw.normal() + shift)),
        n=int(draw.poisson(2)),
        word=words[draw.integers(len(words))],  # type: ignore[arg-type]  # one of them
        flag=bool(draw.random() < 0.3),
        b=round(float(draw.normal()), 1),
        pair=[float(draw.integers(5)), 1.0],
    )


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    os.close(world.fd)


def naive(features: tuple[Feature, ...], rows: list[Row]) -> dict[tuple[str, ...], float]:
    """The bin of every value, one by one, by the definition."""
    counts: Counter[tuple[str, ...]] = Counter()
    for feature in features:
        for row in rows:
            value: Any = (
                row.pair[int(feature.name[5])] if feature.name.startswith("pair") else getattr(row, feature.name)
            )
            counts[feature.name, bin_of(feature, value)] += 1
    return dict(counts)


def bin_of(feature: Feature, value: Any) -> str:
    if isinstance(feature, Categorical):
        word = str(value).lower() if isinstance(value, bool) else value
        if word in feature.values:
            return feature.bins[feature.values.index(word)]
        return "other" if word in feature.others else "unseen"
    if value is None:
        return "missing"
    number = float(np.float32(value)) if feature.datatype == "FP32" else float(value)
    if feature.low is None or feature.high is None or number > feature.high:
        return "high"
    if number < feature.low:
        return "low"
    return f"b{sum(number > cut for cut in feature.cuts) + 1:02d}"


def feed(counters: DriftCounters, rows: list[Row], scores: Any = None, size: int = 1) -> None:
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        column = np.full(len(part), 0.5, np.float32) if scores is None else scores[start : start + size]
        counters.observe(b"".join(map(CODEC.pack, part)), len(part), {"p": column}, 0)


def test_the_sample_itself_falls_into_the_bins_as_it_was_counted(world: World) -> None:
    counters = world.counters()

    feed(counters, world.rows)
    counters.flush()

    expected = {
        (feature.name, label): float(count)
        for feature in world.profile.features
        for label, count in zip(feature.bins, feature.bin_counts, strict=True)
        if count
    }
    assert world.counted() == expected
    assert world.counted("slipway_drift_rows_total") == {(): 300.0}


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from((1, 7, 300)), shift=st.sampled_from((0.0, 3.0)))
def test_a_served_row_is_counted_where_a_naive_count_counts_it(seed: int, size: int, shift: float) -> None:
    world = World()
    draw = np.random.default_rng(seed)
    rows = [row_of(draw, words=(*WORDS, "never"), shift=shift) for _ in range(520)]
    counters = world.counters(rows_per_s=1e6)

    feed(counters, rows, size=size)
    counters.flush()
    counted = world.counted()
    os.close(world.fd)

    assert counted == naive(world.profile.features, rows)


def test_every_series_is_there_from_the_start_and_none_comes_later(world: World) -> None:
    counters = world.counters()
    before = {(one.metric.name, *one.values) for one in read_once(world.fd).readings}

    feed(counters, [row_of(np.random.default_rng(1), words=("never", "late"), shift=1e6) for _ in range(600)])
    counters.flush()

    after = {(one.metric.name, *one.values) for one in read_once(world.fd).readings}
    assert after == before
    assert len({name for name, *_ in after}) == len(metrics.ALL)


def test_features_without_room_are_left_out_and_counted(world: World) -> None:
    widths = [len(feature.bins) for feature in world.profile.features]

    counters = world.counters(max_series=sum(widths[:3]) + 1)
    feed(counters, world.rows)
    counters.flush()

    assert {feature for feature, _ in world.counted()} == {feature.name for feature in world.profile.features[:3]}
    assert world.counted("slipway_drift_features_dropped") == {(): float(len(widths) - 3)}


def test_the_reference_is_shown_as_shares(world: World) -> None:
    world.counters()

    shares = world.counted("slipway_feature_reference_share")
    for feature in world.profile.features:
        assert sum(share for (name, _), share in shares.items() if name == feature.name) == pytest.approx(1.0)
    assert world.counted("slipway_feature_reference_rows") == {(): 300.0}
    assert sum(world.counted("slipway_prediction_reference_outcome_share").values()) == pytest.approx(1.0)


def test_predictions_are_counted_and_split_over_the_expected_outcomes(world: World) -> None:
    prediction = world.profile.prediction
    assert prediction is not None
    assert prediction.calibrator is not None
    scores = np.random.default_rng(2).random(300).astype(np.float32)
    scores[:3] = np.nan
    counters = world.counters()

    feed(counters, world.rows, scores)
    counters.flush()

    numbers = [float(score) for score in scores[3:]]
    expected = Counter(bin_of(prediction.feature, score) for score in numbers)
    expected["missing"] = 3
    assert world.counted("slipway_prediction_bin_total") == {(label,): count for label, count in expected.items()}
    sums = dict.fromkeys(metrics.OUTCOMES, 0.0)
    for score in numbers:
        p = float(np.interp(score, prediction.calibrator.scores, prediction.calibrator.probabilities))
        sums["tp" if score >= 0.5 else "fn"] += p
        sums["fp" if score >= 0.5 else "tn"] += 1 - p
    found = world.counted("slipway_prediction_expected_total")
    assert {label: found[label,] for label in sums} == pytest.approx(sums)


@pytest.mark.parametrize("column", [None, np.array([[1.0, 2.0]]), np.array(["high"]), np.array([None])], ids=repr)
def test_an_answer_that_is_no_number_counts_as_missing(world: World, column: Any) -> None:
    counters = world.counters()
    arrays = {} if column is None else {"p": column}

    counters.observe(CODEC.pack(world.rows[0]), 1, arrays, 0)
    counters.flush()

    assert world.counted("slipway_prediction_bin_total") == {("missing",): 1.0}


def test_above_the_limit_one_row_in_k_counts_k_and_the_shares_stay(world: World) -> None:
    """5,000 rows/s against 500: k becomes 11 after the first pass; rows have a period of ten, and nothing hides."""
    draw = np.random.default_rng(8)
    kinds = [row_of(draw) for _ in range(10)]
    counters = world.counters()

    for number in range(100_000):
        world.clock.now_s = number / 5_000
        counters.observe(CODEC.pack(kinds[number % 10]), 1, {"p": np.array([0.5])}, 0)
    counters.flush()

    rows = world.counted("slipway_drift_rows_total")[()]
    squares = world.counted("slipway_drift_squared_weights_total")[()]
    assert rows == pytest.approx(100_000, rel=0.01)
    assert rows**2 / squares == pytest.approx(9_500, rel=0.1)  # k is rounded up, to 11
    shares = {labels: count / rows for labels, count in world.counted().items()}
    exact = {labels: count / 10 for labels, count in naive(world.profile.features, kinds).items()}
    assert shares == pytest.approx(exact, abs=0.02)


def test_large_requests_are_no_rush(world: World) -> None:
    """Two requests of 300 rows a second are 600 rows a second, however quickly the rows of one follow each other."""
    counters = world.counters()
    payload, column = b"".join(map(CODEC.pack, world.rows)), np.full(300, 0.5)

    for second in range(20):
        for part_s in (0.0, 0.001, 0.5):
            world.clock.now_s = second + part_s
            if part_s:
                counters.observe(payload, 300, {"p": column}, 0)
            else:
                counters.flush()
    counters.flush()

    rows = world.counted("slipway_drift_rows_total")[()]
    squares = world.counted("slipway_drift_squared_weights_total")[()]
    assert rows == pytest.approx(12_000, rel=0.05)
    assert rows**2 / squares >= 6_000 * 0.9


def test_when_the_rush_is_over_every_row_counts_again(world: World) -> None:
    counters = world.counters()
    for number in range(3_000):
        world.clock.now_s = number / 5_000
        feed(counters, world.rows[:1])
    for second in range(3):
        world.clock.now_s = 10.0 + second
        counters.flush()
    feed(counters, world.rows[:20])  # some of these were stood for by the last row of the rush
    counters.flush()
    before = world.counted("slipway_drift_rows_total")[()]

    feed(counters, world.rows[:20])
    world.clock.now_s = 20.0
    counters.flush()

    assert world.counted("slipway_drift_rows_total")[()] - before == 20.0


def test_the_rush_may_grow_and_shrink_and_every_row_is_stood_for_once(world: World) -> None:
    counters = world.counters()
    sent, payload = 0, CODEC.pack(world.rows[0])

    for rate in (50_000, 1_500, 20_000, 700, 5_000, 900):
        for _ in range(2 * rate):
            world.clock.now_s += 1 / rate
            counters.observe(payload, 1, {}, 0)
            sent += 1
            assert counters._rows == len(counters._entries)
    counters.flush()

    assert world.counted("slipway_drift_rows_total")[()] == pytest.approx(sent, rel=0.05)


def test_a_part_of_a_large_batch_is_chosen_row_by_row(world: World) -> None:
    counters = world.counters(rows_per_s=1.0)
    feed(counters, world.rows[:255])
    world.clock.now_s = 1.0
    counters.flush()  # 255 rows in a second: from here on one in 255

    for _ in range(40):
        feed(counters, world.rows, size=300)
        world.clock.now_s += 300 / 255
    counters.flush()

    rows = world.counted("slipway_drift_rows_total")[()]
    assert rows == pytest.approx(255 + 12_000, rel=0.1)


def test_a_batch_is_a_slice_of_its_answer(world: World) -> None:
    """Two requests of one batch, and between them one that is not counted: each has its own rows of the answer."""
    counters = world.counters()
    arrays = {"p": np.array([[0.1], [0.1], [0.9], [0.9]])}

    counters.observe(CODEC.pack(world.rows[0]), 1, arrays, 0)
    counters.observe(b"".join(map(CODEC.pack, world.rows[1:3])), 2, arrays, 2)
    counters.flush()

    prediction = world.profile.prediction
    assert prediction is not None
    low, high = (bin_of(prediction.feature, score) for score in (0.1, 0.9))
    assert world.counted("slipway_prediction_bin_total") == {(low,): 1.0, (high,): 2.0}


class Picture(Struct, frozen=True, eq=False):
    pixels: Annotated[F32, Shape("height", 64)]
    note: str
    kind: Literal["a", "b"]


def test_large_rows_are_counted_before_they_fill_memory_and_rows_of_any_size_are_one_feature() -> None:
    codec = RowCodec(Picture)
    profile = build_profile("m", codec.specs, {"kind": ["a", "a", "b"]})
    slots, fd = Slots.create()
    counters = DriftCounters(slots, "m", profile, codec, clock=lambda: 0.0)

    for number in range(200):
        height = 500 + number % 3
        pixels = np.zeros((height, 64), np.float32)
        row = Picture(pixels=pixels, note="n" * number, kind="b" if number % 2 else "a")
        key, payload = codec.pack_keyed(row)
        counters.observe(payload, 1, {}, 0, key)
        assert counters._bytes < BUFFER_BYTES
    counters.flush()

    found = {one.values[1:]: one.cells[0] for one in read_once(fd).readings if one.metric == metrics.FEATURE_BIN}
    os.close(fd)
    assert (found["kind", "a"], found["kind", "b"]) == (100.0, 100.0)
    assert profile.unwatched == ("pixels", "note")


def test_a_profile_of_other_rows_is_refused_at_the_start(world: World) -> None:
    other = RowCodec(defstruct("Other", [("a", float)]))

    with pytest.raises(ProfileError, match="has the feature"):
        DriftCounters(world.slots, "m", world.profile, other)


def test_a_profile_without_features_keeps_no_rows() -> None:
    codec = RowCodec(Answer)
    profile = Profile(schema_version="1.0", model="m", rows=1, features=())
    slots, fd = Slots.create()
    counters = DriftCounters(slots, "m", profile, codec, clock=lambda: math.inf)

    counters.observe(codec.pack(Answer(0.5)), 1, {}, 0)
    counters.flush()

    rows = {one.metric.name: one.cells[0] for one in read_once(fd).readings}
    os.close(fd)
    assert rows["slipway_drift_rows_total"] == 1.0
