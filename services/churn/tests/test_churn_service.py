"""What the churn service promises to those who call it."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from churn_service.service import Customer, predict, service
from slipway_serve import local
from slipway_serve.local import Local

TYPICAL = Customer(tenure_months=24, monthly_charges=64, support_calls=1, income=42_000, contract="monthly")


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[Local]:
    with local(service, folder=folder, lane="in_process") as running:
        yield running


def test_golden_customers_get_their_golden_answers(app: Local, folder: Path) -> None:
    examples = [json.loads(line) for line in (folder / "golden.jsonl").read_text("utf-8").splitlines()]

    answers = [app.call(predict, msgspec.convert(example["input"], Customer)) for example in examples]

    expected = [example["output"]["churn_probability"] for example in examples]
    assert [answer.churn_probability for answer in answers] == pytest.approx(expected, abs=1e-5)


def test_more_support_calls_never_mean_less_churn(app: Local) -> None:
    calls = [msgspec.structs.replace(TYPICAL, support_calls=count) for count in range(12)]

    risks = [answer.churn_probability for answer in app.map(predict, calls)]

    assert risks == sorted(risks)
    assert risks[-1] > risks[0]


def test_loyal_yearly_customers_stay_and_new_unhappy_ones_leave(app: Local) -> None:
    loyal = Customer(tenure_months=60, monthly_charges=49.9, support_calls=0, income=58_000, contract="yearly")
    unhappy = Customer(tenure_months=2, monthly_charges=96.5, support_calls=5, income=31_000, contract="monthly")

    stays, leaves = app.call(predict, loyal), app.call(predict, unhappy)

    assert stays.churn_probability < 0.1
    assert leaves.churn_probability > 0.7


def test_an_untold_income_is_not_an_income_of_zero(app: Local) -> None:
    untold = app.call(predict, msgspec.structs.replace(TYPICAL, income=None))
    nothing = app.call(predict, msgspec.structs.replace(TYPICAL, income=0.0))

    assert untold != nothing


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenure_months", -1.0),
        ("monthly_charges", float("nan")),
        ("support_calls", 2**70),
        ("income", -5.0),
        ("contract", "weekly"),
    ],
)
def test_impossible_customers_are_refused_by_field(app: Local, field: str, value: object) -> None:
    impossible = msgspec.structs.replace(TYPICAL, **{field: value})

    with pytest.raises(Exception, match=field) as refused:
        app.call(predict, impossible)

    assert refused.type.__name__ in {"RowError", "ValidationError"}
