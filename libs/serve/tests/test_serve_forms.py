"""The two forms of a service, in process: what a model team tests on its laptop."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import xgboost

from slipway_bundle import ConfigError, RowError, load_service, open_folder
from slipway_serve import Problem, Service, local
from slipway_serve.service import DeclarationError


def loaded(folder: Path) -> Any:
    """The service of a folder, imported as the server imports it."""
    return load_service(open_folder(folder))


def test_a_model_answers_what_the_library_itself_answers(minimal: Path) -> None:
    service = loaded(minimal)
    row = service.models["minimal"].row(tenure_days=900.0, mean_charge=12.5)
    booster = xgboost.Booster(model_file=minimal / "model" / "model.ubj")
    matrix = xgboost.DMatrix(np.array([[900.0, 12.5]], "float32"), feature_names=["tenure_days", "mean_charge"])

    with local(service, folder=minimal) as app:
        answer = app.call(service.models["minimal"], row)

    assert answer.probability == pytest.approx(float(booster.predict(matrix)[0]), abs=1e-7)


def test_rows_answered_together_equal_rows_answered_alone(minimal: Path) -> None:
    service = loaded(minimal)
    model = service.models["minimal"]
    rows = [model.row(tenure_days=float(d), mean_charge=None if d % 3 else d / 10) for d in range(0, 4_000, 7)]

    with local(service, folder=minimal) as app:
        together = app.map(model, rows)
        alone = [app.call(model, row) for row in rows[::50]]

    assert together[::50] == alone


def test_the_second_form_computes_gathers_offloads_and_uses_its_resource(full: Path) -> None:
    service = loaded(full)
    predict, explain = service.endpoints["/predict"], service.models["churn_reasons"]
    account = predict.takes(customer_id="c-1", opened=0.0, now=86_400.0 * 900, charges=(10.0, 15.0))

    with local(service, folder=full) as app:
        risk = app.call(predict, account)
        reasons = app.call(explain, explain.row(tenure_days=900.0, mean_charge=12.5))

    assert risk.factor == 2.5
    assert risk.churn_probability == pytest.approx(1 / (1 + np.exp(-1.3 * reasons.margin + 0.2)), abs=1e-6)


def test_a_problem_raised_by_a_handler_reaches_the_caller(full: Path) -> None:
    service = loaded(full)
    predict = service.endpoints["/predict"]

    with local(service, folder=full) as app, pytest.raises(Problem, match="no features for customer 'unknown'") as told:
        app.call(predict, predict.takes(customer_id="unknown", opened=0.0, now=1.0, charges=()))

    assert (told.value.status, told.value.stable_code) == (404, "customer_unknown")


def test_a_constructed_row_that_breaks_its_own_bounds_is_refused(minimal: Path) -> None:
    service = loaded(minimal)
    model = service.models["minimal"]

    with local(service, folder=minimal) as app, pytest.raises(RowError, match="tenure_days"):
        app.call(model, model.row(tenure_days=-1.0, mean_charge=None))


def test_a_request_that_json_could_not_carry_is_refused(full: Path) -> None:
    service = loaded(full)
    predict = service.endpoints["/predict"]

    with local(service, folder=full) as app, pytest.raises(msgspec.ValidationError, match=r"\$.now"):
        app.call(predict, predict.takes(customer_id="c", opened=0.0, now=float("nan"), charges=()))


def test_a_model_awaited_outside_a_request_says_so(minimal: Path) -> None:
    model = loaded(minimal).models["minimal"]

    with pytest.raises(Problem, match="outside a request"):
        model(model.row(tenure_days=1.0, mean_charge=None)).send(None)


def test_an_unknown_lane_is_refused(minimal: Path) -> None:
    lane: Any = "elsewhere"

    with pytest.raises(ConfigError, match="lane is 'elsewhere'"), local(loaded(minimal), folder=minimal, lane=lane):
        pass


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda s: s.model("A", Row, Row), "model name 'A'"),
        (lambda s: (s.model("a", Row, Row), s.model("a", Row, Row)), "declares model 'a' twice"),
        (lambda s: s.model("a", dict, Row), "row of model 'a'"),
        (lambda s: s.model("a", Row, Row, path="predict"), "path 'predict'"),
        (lambda s: s.model("a", Row, Row, path="/docs"), "path '/docs' of service 's' is taken"),
        (lambda s: (s.model("a", Row, Row, path="/p"), s.model("b", Row, Row, path="/p")), "path '/p' of"),
        (lambda s: s.endpoint("/p")(lambda row: row), "is not async"),
        (lambda s: s.endpoint("/p")(untyped), "expected \\(request: Type\\)"),
        (lambda s: s.endpoint("/p", produces="image/png")(typed), "expected a function that returns bytes"),
        (lambda s: s.model("a", Row, Row).compute(typed), "is async"),
        (lambda s: Service("Bad Name"), "service name 'Bad Name'"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_is_written(declare: Any, told: str) -> None:
    with pytest.raises(DeclarationError, match=told):
        declare(Service("s"))


def test_the_public_package_does_not_import_the_web_framework() -> None:
    code = "import sys, slipway_serve; print(sorted({'litestar', 'uvicorn', 'xgboost', 'pandas'} & set(sys.modules)))"

    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert output.strip() == "[]"


class Row(msgspec.Struct, frozen=True):
    value: float


async def untyped(row):  # type: ignore[no-untyped-def]  # the case under test
    return row


async def typed(row: Row) -> Row:
    return row
