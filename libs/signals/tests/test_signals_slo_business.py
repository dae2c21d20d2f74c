"""The number that a service is for: read from `slo.yaml`, recorded, and refused where it could not work."""

import pytest
from slo_files import AVAILABILITY, LATENCY, part_of, read

from slipway_signals.slo.compile import parts_of
from slipway_signals.slo.errors import SloError
from slipway_signals.slo.promrules import Record, Timing
from slipway_signals.slo.series import Known

QUERY = 'sum(rate(slipway_inferences_total{service="churn"}[1h]))'


def with_metric(text: str, value: str) -> str:
    """The objective with that annotation."""
    return text.replace(
        "slipway.dev/owner: team-churn", f"slipway.dev/owner: team-churn\n    slipway.dev/business-metric: {value}"
    )


def records_of(text: str) -> list[Record]:
    """Every recorded series of the service's parts."""
    parts = parts_of(read(text), Timing(), Known())
    return [rule for part in parts for group in part.groups for rule in group.rules if isinstance(rule, Record)]


def test_a_business_metric_becomes_a_series_with_its_title() -> None:
    found = [
        one for one in records_of(with_metric(AVAILABILITY, f"'rows a second = {QUERY}'")) if "business" in one.name
    ]

    assert found == [
        Record(
            name="slipway:business:value",
            expr=f"sum({QUERY})",
            labels={"service": "churn", "metric": "rows a second"},
        )
    ]


def test_without_one_nothing_is_recorded() -> None:
    assert not [one for one in records_of(AVAILABILITY) if "business" in one.name]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("rows a second", "expected what is counted, ' = ' and a query"),
        ("'rows a second = '", "expected what is counted, ' = ' and a query"),
        ("'{{ $value }} = sum(x)'", "expected what is counted"),
        (
            "'rows = sum(rate(slipway_inference_total{service=\"churn\"}[1h]))'",
            "did you mean 'slipway_inferences_total'",
        ),
        ("'rows = sum(rate(slipway_inferences_total[1h]))'", "without service='churn' would count other services"),
        ("'rows = sum(rate(slipway_inferences_total{service=\"other\"}[1h]))'", "without service='churn'"),
        ("'rows = sum(rate(slipway_inferences_total{service=\"churn\",model}[1h]))'", "its query"),
        ("'one = vector(1)'", "asks for no metric"),
    ],
)
def test_one_that_could_not_work_is_refused_at_its_line(value: str, problem: str) -> None:
    with pytest.raises(SloError) as refused:
        read(with_metric(AVAILABILITY, value))

    assert refused.value.message.startswith("slo.yaml:7:")
    assert problem in refused.value.message


def test_a_service_has_one() -> None:
    first, second = with_metric(AVAILABILITY, f"'rows = {QUERY}'"), with_metric(LATENCY, f"'other = {QUERY}'")

    with pytest.raises(SloError, match="a service has one business metric"):
        read(f"{first}---\n{second}")


def test_the_threshold_of_a_latency_objective_is_recorded_for_panels() -> None:
    rules = [rule for group in part_of(LATENCY).groups for rule in group.rules]
    found = [rule for rule in rules if rule.name == "slipway:slo_threshold:seconds"]

    assert [rule.expr for rule in found] == ["vector(0.05)"]
    assert found[0].labels == {"slo": "churn-latency", "service": "churn"}
    assert "slipway:slo_threshold:seconds" not in {one.name for one in records_of(AVAILABILITY)}
