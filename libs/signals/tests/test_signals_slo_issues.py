"""What peers are asked to mend, named after where they are asked. Each runs our rules in the real promtool."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from slo_files import AVAILABILITY, LATENCY, part_of, run_part

from slipway_signals.slo.compile import Part
from slipway_signals.slo.drills import Case, Check, counter, firing, gauge

pytestmark = pytest.mark.needs("promtool")

HOUR_S = 3_600.0
GOOD = 'http_server_request_duration_seconds_count{service="churn",http_response_status_code="200"}'
BAD = 'http_server_request_duration_seconds_count{service="churn",http_response_status_code="500"}'
MONTH = 'slipway:slo_errors:ratio_rate30d{slo="churn-availability"}'
BUSY = (HOUR_S, 270, 30)
"""An hour of ten requests a second, a tenth of them bad."""


def judge(folder: Path, phases: Sequence[tuple[float, float, float]], checks: Sequence[Check]) -> str:
    """Run phases of (seconds, good, bad in 30 s) through the rules; what promtool says, empty when all holds."""
    part = part_of(AVAILABILITY)
    series = {GOOD: counter((s, good) for s, good, _ in phases), BAD: counter((s, bad) for s, _, bad in phases)}
    case = Case(name="issue", series=series, checks=tuple(checks))
    run = run_part(Part(name=part.name, source="x", groups=part.groups, cases=(case,)), folder)
    return "" if run.returncode == 0 else run.stdout + run.stderr


def test_a_threshold_that_a_running_service_does_not_know_yet_is_no_outage(tmp_path: Path) -> None:
    """Rules may be released before the service: then nothing is known, nobody is woken, and a ticket says so."""
    part = part_of(LATENCY)
    up = 'up{service="churn",instance="a"}'
    series = {GOOD: counter([(HOUR_S, 300)]), up: gauge([(HOUR_S, 1)])}
    absent = firing(HOUR_S - 60, {"alertname": "SlipwayMetricsAbsent"}, count=1)
    case = Case(name="issue", series=series, checks=(firing(HOUR_S - 60, {"severity": "page"}), absent))

    run = run_part(Part(name=part.name, source="x", groups=part.groups, cases=(case,)), tmp_path)

    assert run.returncode == 0, run.stderr


def test_not_like_sloth_231_an_idle_hour_does_not_make_the_month_nan(tmp_path: Path) -> None:
    """One busy hour with 10 % errors, one idle, two quiet: Sloth's rule is NaN for a month."""
    at_s = 4 * HOUR_S - 30
    checks = [
        Check(at_s=at_s, expr=f"count({MONTH} == {MONTH})", value=1),
        Check(at_s=at_s, expr=f"sum(round({MONTH}, 0.005))", value=0.1),
        Check(at_s=1.5 * HOUR_S, expr='slipway:slo_errors:ratio_rate5m{slo="churn-availability"}', value=None),
    ]

    assert judge(tmp_path, [BUSY, (HOUR_S, 0, 0), (2 * HOUR_S, 3, 0)], checks) == ""


def test_not_like_sloth_241_the_ratio_weighs_events_and_not_minutes(tmp_path: Path) -> None:
    """A peak hour at 10 % and two nights' hours at 1 % of the traffic: a mean over time would say 0.034."""
    checks = [Check(at_s=3 * HOUR_S - 30, expr=f"sum(round({MONTH}, 0.002))", value=0.098)]

    assert judge(tmp_path, [BUSY, (2 * HOUR_S, 3, 0)], checks) == ""


def test_not_like_sloth_749_an_idle_service_has_no_infinite_budget(tmp_path: Path) -> None:
    left = 'slipway:slo_budget_remaining:ratio{slo="churn-availability"}'
    checks = [Check(at_s=HOUR_S, expr=f"count(abs({left}) > 1e300 or {left} != {left})", value=None)]

    assert judge(tmp_path, [(2 * HOUR_S, 0, 0)], checks) == ""


def test_a_service_that_never_failed_has_a_ratio_of_zero(tmp_path: Path) -> None:
    """Before the first error its series does not exist; that is no error, and not no data."""
    part = part_of(AVAILABILITY)
    ratio = 'sum(slipway:slo_errors:ratio_rate1h{slo="churn-availability"})'
    case = Case(name="issue", series={GOOD: counter([(HOUR_S, 300)])}, checks=(Check(at_s=1_800, expr=ratio, value=0),))

    run = run_part(Part(name=part.name, source="x", groups=part.groups, cases=(case,)), tmp_path)

    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_not_like_pyrra_1925_few_errors_at_one_request_a_minute_wake_nobody(bad: int, tmp_path: Path) -> None:
    phases = [(2 * HOUR_S, 0.5, 0), (30, 0, bad), (HOUR_S, 0.5, 0)]
    times = [2 * HOUR_S + after for after in (30, 60, 300, 1_800, 3_500)]

    assert judge(tmp_path, phases, [firing(at_s, {"severity": "page"}) for at_s in times]) == ""


def test_an_outage_at_one_request_a_minute_pages_within_six_minutes(tmp_path: Path) -> None:
    """The guard against single errors does not hide that all are bad."""
    phases = [(2 * HOUR_S, 0.5, 0), (HOUR_S, 0, 0.5)]

    assert judge(tmp_path, phases, [firing(2 * HOUR_S + 360, {"tier": "fast"}, count=1)]) == ""
