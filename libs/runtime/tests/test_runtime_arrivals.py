"""The arrival predictor: who is expected, and when silence means that nobody comes."""

import math

import pytest

from slipway_runtime.arrivals import ArrivalPredictor


def cycle(predictor: ArrivalPredictor, start: float, clients: int, *, gap_s: float = 40e-6) -> float:
    """All clients arrive, one batch takes them, and its answers go out 5 ms later; returns that time."""
    now = start
    for waiting in range(1, clients + 1):
        now += gap_s
        predictor.arrived(now, waiting)
    predictor.sent(0, clients)
    now += 0.005
    predictor.answered(now, clients)
    return now


def test_nobody_is_expected_before_anything_happened() -> None:
    predictor = ArrivalPredictor()

    predictor.arrived(1.0, 1)

    assert not predictor.expects_more(1)
    assert predictor.quiet_at(1) == -math.inf


def test_one_client_alone_expects_nobody_ever() -> None:
    predictor = ArrivalPredictor()
    now = 0.0
    for _ in range(50):
        now = cycle(predictor, now, 1)
        predictor.arrived(now + 40e-6, 1)

        assert not predictor.expects_more(1)

        predictor.sent(0, 1)
        predictor.answered(now, 1)


def test_the_clients_of_the_last_batch_are_expected_back() -> None:
    predictor = ArrivalPredictor()
    now = 0.0
    for _ in range(3):
        now = cycle(predictor, now, 16)
    for waiting in range(1, 16):
        predictor.arrived(now + 40e-6 * waiting, waiting)

        assert predictor.missing(waiting) == 16 - waiting

    predictor.arrived(now + 40e-6 * 16, 16)

    assert not predictor.expects_more(16)


def test_clients_that_left_are_forgotten_after_two_batches() -> None:
    predictor = ArrivalPredictor()
    now = cycle(predictor, 0.0, 64)
    now = cycle(predictor, now, 8)

    cycle(predictor, now, 8)

    assert predictor.population == 8


def test_the_gap_is_learned_within_a_burst_and_survives_a_pause() -> None:
    predictor = ArrivalPredictor()
    now = cycle(predictor, 0.0, 32)
    assert predictor.gap_s == pytest.approx(40e-6, rel=0.1)

    now += 60.0
    for waiting in range(1, 9):
        now += 40e-6
        predictor.arrived(now, waiting)

    assert predictor.gap_s < 200e-6


def test_a_group_of_arrivals_counts_as_that_many_gaps() -> None:
    predictor = ArrivalPredictor()
    cycle(predictor, 0.0, 4)

    predictor.arrived(0.0052 + 20 * 50e-6, 20, 20)

    assert predictor.gap_s < 100e-6


def test_silence_ends_the_burst_after_a_few_gaps() -> None:
    predictor = ArrivalPredictor()
    now = 0.0
    for _ in range(5):
        now = cycle(predictor, now, 16)
    predictor.arrived(now + 40e-6, 1)

    quiet = predictor.quiet_at(1) - (now + 40e-6)

    assert 40e-6 < quiet < 400e-6


def test_a_long_pause_between_requests_is_not_waited_for() -> None:
    predictor = ArrivalPredictor(longest_pause_s=0.010)
    now = 0.0
    for _ in range(20):
        now = cycle(predictor, now, 2, gap_s=1.0)

    assert predictor._slow_gap == 0.0


def test_a_cancelled_ticket_is_not_expected_back() -> None:
    predictor = ArrivalPredictor()
    cycle(predictor, 0.0, 4)

    predictor.left(3)

    assert predictor.population == 1
