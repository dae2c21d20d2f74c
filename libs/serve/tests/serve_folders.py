"""Service folders that tests write: the minimal form, and the form with its own request, `compute` and `/explain`."""

from pathlib import Path

import numpy as np
import xgboost

from slipway_bundle import adapter_for

FEATURES = ("tenure_days", "mean_charge")

MINIMAL = '''"""A minimal service."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from slipway_serve import Service


class Customer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row."""

    tenure_days: Annotated[float, Meta(ge=0, le=40_000)]
    mean_charge: float | None


class Risk(Struct, frozen=True):
    """An answer."""

    probability: Annotated[float, Meta(ge=0, le=1)]


service = Service("NAME")
predict = service.model("NAME", Customer, Risk, path="/predict", slo="interactive")
'''

FULL = '''"""A service with its own request, compute, another output of the same weights, and a resource."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from msgspec import Struct
from slipway_serve import Arrays, Call, Problem, Service, Weights, gather, offload


class Account(Struct, frozen=True):
    """A request."""

    customer_id: str
    opened: float
    now: float
    charges: tuple[float, ...]


class Features(Struct, frozen=True):
    """A row."""

    tenure_days: float
    mean_charge: float | None


class Score(Struct, frozen=True):
    """A model's answer."""

    probability: float


class Reasons(Struct, frozen=True):
    """Another answer out of the same weights."""

    margin: float


class Risk(Struct, frozen=True):
    """A response."""

    customer_id: str
    churn_probability: float
    factor: float


class Settings(Struct, frozen=True):
    """Of the resource."""

    factor: float


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Settings]:
    """A resource that is its own settings."""
    yield settings


service = Service("full")
churn = service.model("churn", Features, Score)
reasons = service.model("churn_reasons", Features, Reasons, path="/explain")
settings = service.resource("settings", connect)


@churn.compute
def calibrated(weights: Weights, batch: Arrays) -> Arrays:
    """A calibration beside the weights."""
    margin = weights(batch)["margin"]
    return {"probability": 1.0 / (1.0 + np.exp(-1.3 * margin + 0.2))}


@service.endpoint("/predict", slo="interactive")
async def predict(account: Account, call: Call) -> Risk:
    """From an account to a risk."""
    if account.customer_id == "unknown":
        raise Problem(404, "customer_unknown", f"no features for customer {account.customer_id!r}")
    mean = sum(account.charges) / len(account.charges) if account.charges else None
    row = Features(tenure_days=(account.now - account.opened) / 86_400, mean_charge=mean)
    score, again = await gather(churn(row), churn(row))
    factor = await offload(lambda: settings().factor)
    assert score == again and call.remaining_s() > 0
    return Risk(account.customer_id, score.probability, factor)


@service.endpoint("/pixel", produces="image/png")
async def pixel(account: Account) -> bytes:
    """Bytes that are no JSON."""
    return b"\\x89PNG" + account.customer_id.encode()
'''

BOTH = """
[bundle.models.churn]
file = "model/churn.ubj"
format = "xgboost"

[bundle.models.churn_reasons]
file = "model/churn.ubj"
format = "xgboost"
outputs = { margin = "margin" }

[runtime.resources.settings]
factor = 2.5
"""


def train(path: Path) -> xgboost.Booster:
    """A small real model over FEATURES; deterministic."""
    generator = np.random.default_rng(7)
    rows = np.column_stack([generator.uniform(0, 4_000, 500), generator.uniform(0, 100, 500)]).astype("float32")
    labels = (rows[:, 0] < 1_000 + 10 * rows[:, 1]).astype("float32")
    matrix = xgboost.DMatrix(rows, labels, feature_names=list(FEATURES))
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1, "seed": 1, "max_depth": 3}, matrix, 10)
    path.parent.mkdir(parents=True, exist_ok=True)
    adapter_for("xgboost").save(booster, path)
    return booster


def write_minimal(folder: Path, name: str = "minimal", runtime: str = "") -> Path:
    """The minimal form, trained; returns the folder."""
    train(folder / "model" / "model.ubj")
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / f"{name}_service.py").write_text(MINIMAL.replace("NAME", name))
    (folder / "slipway.toml").write_text(
        f'entry = "{name}_service:service"\n\n[bundle.models.{name}]\nfile = "model/model.ubj"\nformat = "xgboost"\n'
        f'outputs = {{ probability = "probability" }}\n{runtime}'
    )
    return folder


def write_full(folder: Path) -> Path:
    """A service with its own request, `compute` and `/explain`, trained; returns the folder."""
    train(folder / "model" / "churn.ubj")
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "full_service.py").write_text(FULL)
    (folder / "slipway.toml").write_text(f'entry = "full_service:service"\n{BOTH}')
    return folder
