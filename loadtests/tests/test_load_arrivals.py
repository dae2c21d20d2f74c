"""Arrivals and shapes: when requests are due, without sending one."""

from itertools import pairwise

import pytest
from scipy import stats

from slipway_bundle import ConfigError
from slipway_loadtests.arrivals import due_times, first_of_pair, recorded_times
from slipway_loadtests.shapes import pieces_of
from slipway_signals.gate.load_plan import (
    Diurnal,
    LoadPlan,
    Ramp,
    Replay,
    Shape,
    Soak,
    Spike,
    Steady,
    Step,
    Target,
    decode_plan,
    encode_plan,
)

ARMS = {"stable": Target(url="http://127.0.0.1:1")}
SHAPES: list[tuple[Shape, list[float]]] = [
    (Steady(), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    (Step(first=50.0, steps=3), [0.25, 0.25, 0.625, 0.625, 1.0, 1.0]),
    (Ramp(), [1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12]),
    (Spike(at_s=20.0, for_s=10.0, factor=4.0), [1.0, 1.0, 4.0, 1.0, 1.0, 1.0]),
    (Soak(rise_s=10.0), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    (Diurnal(swing=0.8), [0.338, 1.0, 1.662, 1.662, 1.0, 0.338]),
]


def plan(**changes: object) -> LoadPlan:
    return LoadPlan(**{"arms": ARMS, "rate": 200.0, "seconds": 60.0, **changes})  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
@pytest.mark.parametrize(("shape", "expected"), SHAPES, ids=[type(shape).__name__ for shape, _ in SHAPES])
def test_each_shape_has_the_arrivals_that_it_is_drawn_with(shape: Shape, expected: list[float], arrivals: str) -> None:
    times = list(due_times(plan(shape=shape, arrivals=arrivals)))

    counts = [sum(10 * place <= at < 10 * (place + 1) for at in times) for place in range(6)]
    wanted = [2_000 * share for share in expected]
    spread = [4.0 * count**0.5 if arrivals == "poisson" else 5.0 for count in wanted]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < 60.0
    assert all(abs(got - want) <= room for got, want, room in zip(counts, wanted, spread, strict=True))


def test_the_distances_of_poisson_arrivals_are_exponential() -> None:
    times = list(due_times(plan(rate=500.0)))

    distances = [later - earlier for earlier, later in pairwise(times)]
    assert stats.kstest(distances, stats.expon(scale=1 / 500).cdf).pvalue > 0.001


def test_the_same_seed_gives_the_same_times_and_another_seed_others() -> None:
    assert list(due_times(plan())) == list(due_times(plan()))
    assert list(due_times(plan())) != list(due_times(plan(seed=2)))


@pytest.mark.parametrize("shape", [shape for shape, _ in SHAPES])
def test_pieces_follow_each_other_from_the_start_to_the_end(shape: Shape) -> None:
    pieces = pieces_of(plan(shape=shape))

    assert pieces[0].begin_s == 0.0
    assert pieces[-1].end_s == pytest.approx(60.0)
    assert all(one.end_s == other.begin_s for one, other in pairwise(pieces))
    assert all(piece.first >= 0 and piece.last >= 0 for piece in pieces)


def test_each_arm_is_first_in_half_of_the_pairs_without_a_pattern() -> None:
    firsts = [first_of_pair(7, index) for index in range(20_000)]

    repeats = sum(one == other for one, other in pairwise(firsts))
    assert stats.binomtest(sum(firsts), len(firsts)).pvalue > 0.001
    assert stats.binomtest(repeats, len(firsts) - 1).pvalue > 0.001


def test_a_recorded_trace_keeps_its_distances_at_its_speed() -> None:
    lines = ["# seconds, rows", "100.0,4", "", "100.5", "102.0 # the last", "400.0"]
    replayed = plan(shape=Replay(path="trace", speed=2.0))

    assert recorded_times(lines, replayed, "trace") == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["1.0", "0.5"], "line 2 of trace is '0.5', expected seconds, ascending"),
        (["soon"], "line 1 of trace is 'soon'"),
        ([], "trace has no arrival"),
        ([f"{number / 1000}" for number in range(300)], "more than 200 arrivals in a second"),
    ],
)
def test_a_trace_that_cannot_be_followed_is_refused(lines: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        recorded_times(lines, plan(shape=Replay(path="trace")), "trace")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rates = 1", "unknown key `rates`"),
        ("rate = 0", "rate"),
        ("warm_up_s = 60", "`warm_up_s` is 60 and `seconds` 60"),
        ("rate = 3000\n[shape]\ntype = 'spike'\nat_s = 1\nfor_s = 1", "reaches 15000 requests a second"),
        ("[shape]\ntype = 'ramp'\nfirst = 101", "`shape.first` is 101"),
        ("[[scenarios]]\nmix = {valid = 0.5}", "add up to 0.5"),
        ("[[scenarios]]\nmix = {recorded = 1}", "asks for recorded inputs"),
        ("[[scenarios]]\npayloads = {source = 'file'}", "`path` is None"),
        ("protocol = 'v2'", "has no `model`"),
        ("protocol = 'grpc'\n[[scenarios]]\nmodel = 'churn'", "which an OpenAPI document has and gRPC has not"),
        (
            "protocol = 'grpc'\n[[scenarios]]\nmodel = 'churn'\npayloads = {source = 'file', path = 'x'}",
            "does not fit `protocol` 'grpc'",
        ),
        ("protocol = 'v2'\n[[scenarios]]\nmodel = 'a'\nmix = {invalid = 1}", "invalid inputs, which are made for"),
        ("\x00", "neither JSON nor TOML"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused_with_the_field(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        decode_plan(f"arms.stable.url = 'http://127.0.0.1:1'\n{text}\n".encode())


@pytest.mark.parametrize("shape", [shape for shape, _ in SHAPES])
def test_a_plan_is_the_same_when_it_is_read_again(shape: Shape) -> None:
    wanted = plan(shape=shape, tolerances={"score": 0.1})

    assert decode_plan(encode_plan(wanted)) == wanted
