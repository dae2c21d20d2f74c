"""Churn sees other customers than in training, and its labels say that it is wrong: tickets, which go when both end.

An hour takes 15 s; no window is shorter than a quarter of one, so that two scrapes a second do. The usual customers are
those of the reference; the others are those of whom the model is least sure, and nobody has told their income.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import xgboost
from alert_faults import Story, StoryStack, address_of, traffic
from msgspec.structs import replace
from serve_process import serving
from trained_churn import CHURN, trained_churn, training

from slipway_signals.slo.openslo import load_slos

pytestmark = [pytest.mark.e2e, pytest.mark.needs("prometheus", "prometheus-alertmanager")]

CAPTURE = """
[runtime.capture]
enabled = true
folder = "{folder}"
rate = 1.0
segment_s = 0.5
compact_s = 100_000.0

[runtime.capture.models.churn]
score = "churn_probability"
"""
DRIFT = ["SlipwayPredictionDrift", "SlipwayFeatureDrift", "SlipwayFeatureDefects", "SlipwayExpectedAccuracyLow"]
LABELS = "SlipwayAccuracyLow"
UNSURE = (0.35, 0.65)


class Customers:
    """Rows of the reference sample with the model's answers, and the same without an income."""

    def __init__(self) -> None:
        train = training()
        columns, _ = train.make_customers()
        columns = {name: values[-train.HELD_OUT :] for name, values in columns.items()}
        model = xgboost.Booster(model_file=trained_churn() / "model" / "churn.ubj")
        self.usual = rows_of(columns, train.CONTRACTS)
        self.scores = [float(s) for s in model.predict(train.matrix(columns, None, slice(None)))]
        columns["income"] = columns["income"] * float("nan")
        scores = model.predict(train.matrix(columns, None, slice(None)))
        poor = rows_of(columns, train.CONTRACTS)
        self.unsure = [row for row, score in zip(poor, scores, strict=True) if UNSURE[0] < score < UNSURE[1]]


def rows_of(columns: dict[str, Any], contracts: Sequence[str]) -> list[dict[str, object]]:
    """As the service takes them."""
    return [
        {
            "tenure_months": float(tenure),
            "monthly_charges": float(charges),
            "support_calls": int(calls),
            "income": None if income != income else float(income),  # noqa: PLR0124 - NaN is not told
            "contract": contracts[int(contract)],
        }
        for tenure, charges, calls, income, contract in zip(*columns.values(), strict=True)
    ]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("drift")
    captured = folder / "captured"
    shutil.copytree(trained_churn(), folder / "churn", ignore=shutil.ignore_patterns("tests", "__pycache__"))
    config = folder / "churn" / "slipway.toml"
    config.write_text(config.read_text() + CAPTURE.format(folder=captured))
    known = Customers()
    assert len(known.unsure) > 100
    promises = load_slos(CHURN / "slo.yaml", name="services/churn/slo.yaml")
    slos = [replace(promises, slos=promises.slos[:1])]  # they are no matter here, and take Prometheus' time
    with (
        serving(folder / "churn", store=folder / "store") as served,
        StoryStack(folder / "stack", slos, {"churn": [address_of(served.admin)]}, scale=240, scrape_s=0.5) as stack,
        traffic(served.url, lambda n: ("/predict", known.usual[n % len(known.usual)]), rate=150, clients=8) as callers,
    ):
        story = Story(stack)
        stack.until('slipway:drift_rows:1h{service="churn"} > 1800')
        ingest(captured, known, range(150), is_right=True)
        stack.until("slipway_prediction_realized_total")

        story.fault([LABELS], lambda: ingest(captured, known, range(150, 400), is_right=False))
        ingest(captured, known, range(400, 1_800), is_right=True)
        sees_others = lambda n: ("/predict", known.unsure[n % len(known.unsure)])  # noqa: E731 - a callable to assign
        story.fault(DRIFT, lambda: setattr(callers, "ask", sees_others), timeout_s=120)
        callers.ask = lambda n: ("/predict", known.usual[n % len(known.usual)])
        yield story


def ingest(captured: Path, known: Customers, numbers: Sequence[int], *, is_right: bool) -> None:
    """Tell what became of those predictions, as a person would: by the command line."""
    lines = ["request_id,label,observed_at"]
    lines += [f"n{n},{str((known.scores[n] >= 0.5) == is_right).lower()},{time.time():.3f}" for n in numbers]
    path = captured.parent / f"labels-{numbers[0]}.csv"
    path.write_text("\n".join(lines) + "\n")
    slipway = [sys.executable, "-m", "slipway_cli"]
    subprocess.run([*slipway, "capture", "compact", "--folder", str(captured)], check=True, capture_output=True)
    done = subprocess.run(
        [*slipway, "labels", "ingest", "--folder", str(captured), str(path), "--json"], check=True, capture_output=True
    )
    assert json.loads(done.stdout)["new"] == len(numbers), done.stdout


@pytest.mark.parametrize("name", [*DRIFT, LABELS])
def test_a_ticket_comes_with_its_fault_and_goes_with_it(story: Story, name: str) -> None:
    fired = story.check(name, "ticket")

    assert fired["labels"]["model"] == "churn"
