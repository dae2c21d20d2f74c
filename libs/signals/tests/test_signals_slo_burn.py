import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slo_files import AVAILABILITY, read

from slipway_signals.slo.burn import TIERS, detection_s, ending_s, factor, problem_of, reset_s
from slipway_signals.slo.explain import explain

MONTH_S = 30 * 86_400
TARGET = Decimal("0.999")
WORKBOOK = {  # minutes until detection at 100 %, 10 %, 5 % and 2 % errors; The Site Reliability Workbook, chapter 5
    "fast": (0.9, 8.6, 17.3, 43.2),
    "steady": (2.2, 21.6, 43.2, 108.0),
    "slow": (4.3, 43.2, 86.4, 216.0),
    "creeping": (4.3, 43.2, 86.4, 216.0),
}


def test_the_factors_are_those_of_the_workbook() -> None:
    assert [float(factor(tier, MONTH_S)) for tier in TIERS] == [14.4, 6, 3, 1]


def test_another_window_rescales_the_factors_exactly() -> None:
    """Pyrra rounds them to 14, 7, 2 and 1 by hand for four weeks."""
    assert [float(factor(tier, 28 * 86_400)) for tier in TIERS] == [13.44, 5.6, 2.8, 0.9333]


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
def test_detection_times_are_those_of_the_workbook(tier) -> None:  # type: ignore[no-untyped-def]  # a Tier
    times = [detection_s(tier, target=TARGET, window_s=MONTH_S, errors=share) / 60 for share in (1, 0.1, 0.05, 0.02)]

    assert tuple(round(time, 1) for time in times) == WORKBOOK[tier.name]


def test_an_alert_that_can_never_fire_is_found() -> None:
    assert problem_of(Decimal("0.99"), MONTH_S) is None
    assert problem_of(Decimal("0.94"), MONTH_S) is None
    assert "cannot be" in (problem_of(Decimal("0.93"), MONTH_S) or "")


def test_errors_below_the_limit_are_never_detected() -> None:
    assert detection_s(TIERS[0], target=TARGET, window_s=MONTH_S, errors=0.0143) == math.inf
    assert detection_s(TIERS[0], target=TARGET, window_s=MONTH_S, errors=0.0145) < 3_600


def test_one_error_of_sixty_is_never_enough() -> None:
    """At one event a minute an outage needs four errors; a single one proves nothing."""
    outage_s = detection_s(TIERS[0], target=TARGET, window_s=MONTH_S, errors=1, per_s=1 / 60)

    assert 3 * 60 < outage_s <= 5 * 60
    assert detection_s(TIERS[0], target=TARGET, window_s=MONTH_S, errors=1 / 60, per_s=1 / 60) == math.inf


@given(st.floats(0.02, 1), st.floats(0.001, 1_000), st.floats(0.001, 1_000))
def test_more_traffic_is_never_slower(errors: float, few_per_s: float, more: float) -> None:
    few, many = (
        detection_s(TIERS[0], target=TARGET, window_s=MONTH_S, errors=errors, per_s=per_s)
        for per_s in (few_per_s, few_per_s + more)
    )

    assert many <= few + 0.02


def test_the_short_window_lets_go_within_its_length() -> None:
    resets = [reset_s(tier, target=TARGET, window_s=MONTH_S, errors=1) for tier in TIERS]

    assert all(0.95 * tier.short_s < reset <= tier.short_s for tier, reset in zip(TIERS, resets, strict=True))


def test_a_budget_ends_within_the_hour_only_when_there_is_a_last_hour() -> None:
    assert ending_s(target=TARGET, errors=0.004, history_s=6 * 3_600) == pytest.approx(6 * 3_600 / 7)
    assert ending_s(target=TARGET, errors=0.0005, history_s=6 * 3_600) == math.inf


def test_the_explanation_says_the_same() -> None:
    told = explain(read(AVAILABILITY).slos[0])

    assert told.budget_minutes == 43.2
    assert {row.tier: row.detection_minutes[:4] for row in told.rows} == WORKBOOK
    assert [row.budget_left for row in told.rows] == [0.98, 0.95, 0.9, 0.9]
    assert told.rows[0].detection_minutes[4] is None
