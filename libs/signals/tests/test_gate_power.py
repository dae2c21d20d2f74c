"""How many requests it takes: against the closed form, against itself, and against what a comparison then needs."""

import math

import numpy as np
import pytest

from slipway_signals.gate.blocks import BlockComparison
from slipway_signals.gate.distributions import DistributionComparison
from slipway_signals.gate.histogram import Sketch
from slipway_signals.gate.power import (
    _passage,
    blocks_needed,
    distribution_requests,
    limit_requests,
    proportion_requests,
    quantile_requests,
)
from slipway_signals.gate.proportions import ProportionComparison


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_first_passage_is_that_of_a_simulated_walk(power: float) -> None:
    """Drift 1 and variance 2 a unit, in steps of 1/50: discrete steps pass a little later (0.58 of a step's sd)."""
    draw = np.random.default_rng(2)
    steps = 1 / 50 + math.sqrt(2 / 50) * draw.normal(size=(2_000, 1_500))
    passed = np.maximum.accumulate(np.cumsum(steps, axis=1), axis=1) + 0.583 * math.sqrt(2 / 50) >= 4.0

    foretold = _passage(4.0, power)

    assert passed[:, int(foretold * 50)].mean() == pytest.approx(power, abs=0.03)


def test_more_is_needed_for_less() -> None:
    assert quantile_requests(0.99, 1.1, 0.05) > quantile_requests(0.95, 1.1, 0.05) > quantile_requests(0.5, 1.1, 0.05)
    assert quantile_requests(0.95, 1.05, 0.05) > 3.5 * quantile_requests(0.95, 1.1, 0.05)
    assert quantile_requests(0.95, 1.1, 0.01) > quantile_requests(0.95, 1.1, 0.05)
    assert quantile_requests(0.95, 1.1, 0.05, power=0.95) > quantile_requests(0.95, 1.1, 0.05)
    assert quantile_requests(0.95, 1.1, 0.05, spread=1.0) == pytest.approx(
        4 * quantile_requests(0.95, 1.1, 0.05), rel=0.01
    )
    assert (
        proportion_requests(0.01, 0.005, 0.05)
        > proportion_requests(0.01, 0.01, 0.05)
        > proportion_requests(0.0, 0.01, 0.05)
    )
    assert limit_requests(0.005, 0.01, 0.05) > limit_requests(0.0, 0.01, 0.05)
    assert distribution_requests(0.05, 0.05) == pytest.approx(4 * distribution_requests(0.1, 0.05), rel=0.01)
    assert blocks_needed(0.2, 1.1, 0.05) > blocks_needed(0.03, 1.1, 0.05) >= 5


def test_no_plan_is_told_less_than_the_rule_of_three() -> None:
    assert proportion_requests(0.0, 0.005, 0.05) >= 599
    assert limit_requests(0.0, 0.005, 0.05) >= 599


def test_what_is_foretold_for_errors_suffices_in_four_runs_of_five() -> None:
    draw, stated, enough = np.random.default_rng(12), proportion_requests(0.01, 0.01, 0.05), 0
    for _ in range(60):
        comparison = ProportionComparison(0.01, 0.05)
        bad = np.cumsum(draw.binomial(stated // 20, 0.01, (20, 2)), axis=0).tolist()
        for look, (stable, candidate) in enumerate(bad, 1):
            found = comparison.look((stable, look * (stated // 20)), (candidate, look * (stated // 20)))
        enough += found.p_inferior <= 0.05

    assert enough >= 42


def test_what_is_foretold_for_answers_suffices_in_four_runs_of_five() -> None:
    draw, stated, enough = np.random.default_rng(13), distribution_requests(0.1, 0.05), 0
    for _ in range(40):
        comparison, stable, candidate = DistributionComparison(0.1, 0.05), Sketch(), Sketch()
        for _ in range(10):
            stable.merge(Sketch.of(draw.normal(size=stated // 10)))
            candidate.merge(Sketch.of(draw.normal(size=stated // 10)))
            found = comparison.look(stable, candidate)
        enough += found.p_inferior <= 0.05

    assert enough >= 28


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
def test_what_is_foretold_for_blocks_suffices_in_four_runs_of_five(noise: float) -> None:
    draw, stated = np.random.default_rng(14), blocks_needed(noise, 1.1, 0.05)
    enough = 0
    for _ in range(100):
        blocks = [(1.0, float(ratio)) for ratio in np.exp(noise * draw.normal(size=stated))]
        enough += (
            min(BlockComparison(1.1, 0.05).look(blocks[:n]).p_inferior for n in range(stated // 2, stated + 1)) <= 0.05
        )

    assert enough >= 74
