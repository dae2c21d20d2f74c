#!/usr/bin/env python3
"""Trains the churn model on SYNTHETIC data: customers of a telephone company that does not exist.

Writes `model/churn.ubj`, `model/lineage.json`, `model/reference.json` (what drift is measured against) and
`golden.jsonl` beside this file, or into the folder that is given as the argument. Two runs write the same bytes: fixed
seed, one thread, no clock. Replace `make_customers` by your own data; keep the seed, the lineage, the reference and the
golden examples.

    python train.py
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from slipway_bundle.adapters import xgboost as adapter
from slipway_bundle.config import load_config
from slipway_bundle.description import codecs
from slipway_signals.drift import build_profile, encode_profile

FOLDER: Final = Path(__file__).resolve().parent
SEED: Final = 20_240_229
CUSTOMERS: Final = 20_000
HELD_OUT: Final = 5_000
"""The last of the customers, on which the metrics are taken."""

MODEL: Final = load_config(FOLDER).bundle.models["churn"]
CONTRACTS: Final = MODEL.categories["contract"]
"""One source for the order of the values: training and serving both read `slipway.toml`."""

PARAMETERS: Final[dict[str, Any]] = {
    "objective": "binary:logistic",
    "eval_metric": ["auc", "logloss"],
    "max_depth": 4,
    "eta": 0.1,
    "min_child_weight": 20,
    "monotone_constraints": {"support_calls": 1, "tenure_months": -1},  # what the business knows, the trees must keep
    "nthread": 1,
    "seed": SEED,
}
ROUNDS: Final = 90

GOLDEN: Final[list[dict[str, Any]]] = [
    {"tenure_months": 2.0, "monthly_charges": 96.5, "support_calls": 5, "income": 31000.0, "contract": "monthly"},
    {"tenure_months": 60.0, "monthly_charges": 49.9, "support_calls": 0, "income": 58000.0, "contract": "yearly"},
    {"tenure_months": 14.0, "monthly_charges": 70.0, "support_calls": 2, "income": None, "contract": "monthly"},
    {"tenure_months": 30.0, "monthly_charges": 82.0, "support_calls": 1, "income": None, "contract": "yearly"},
    {"tenure_months": 0.0, "monthly_charges": 15.0, "support_calls": 0, "income": 0.0, "contract": "monthly"},
    {"tenure_months": 600.0, "monthly_charges": 0.0, "support_calls": 0, "income": 1e9, "contract": "yearly"},
    {"tenure_months": 7.5, "monthly_charges": 10000.0, "support_calls": 1000, "income": 1.0, "contract": "monthly"},
    {"tenure_months": 24.0, "monthly_charges": 64.0, "support_calls": 1, "income": 42000.0, "contract": "monthly"},
]
"""Ordinary customers, missing values, and the ends of every range."""

TOLERANCE: Final = 1e-5
"""Another processor may add in another order; five digits are what a decision could ever rest on."""

Columns = dict[str, NDArray[np.float64]]


def main(folder: Path) -> None:
    """Trains, and writes the four files into `folder`."""
    columns, churned = make_customers()
    train, test = slice(0, CUSTOMERS - HELD_OUT), slice(CUSTOMERS - HELD_OUT, CUSTOMERS)
    history: dict[str, dict[str, list[float]]] = {}
    held_out = matrix(columns, churned, test)
    booster = xgb.train(
        PARAMETERS,
        matrix(columns, churned, train),
        ROUNDS,
        evals=[(held_out, "test")],
        evals_result=history,
        verbose_eval=False,
    )
    metrics = {name: round(values[-1], 6) for name, values in history["test"].items()}
    metrics |= {
        "train_rows": CUSTOMERS - HELD_OUT,
        "test_rows": HELD_OUT,
        "churn_rate": round(float(churned.mean()), 6),
    }

    model = folder / MODEL.file
    model.parent.mkdir(parents=True, exist_ok=True)
    draft = model.with_name(f".{os.getpid()}-{model.name}")
    adapter.save(booster, draft)
    put(draft, model)
    dataset = {"uri": f"synthetic:churn?seed={SEED}&rows={CUSTOMERS}", "digest": digest_of(columns, churned)}
    lineage = {"datasets": [dataset], "metrics": metrics}
    write(model.with_name("lineage.json"), json.dumps(lineage, indent=2, sort_keys=True) + "\n")
    write(model.with_name("reference.json"), reference_of(booster, columns, churned, test))
    write(folder / "golden.jsonl", "".join(golden_lines(booster)))
    print(f"trained on {CUSTOMERS - HELD_OUT} synthetic customers: auc {metrics['auc']}, logloss {metrics['logloss']}")


def make_customers() -> tuple[Columns, NDArray[np.float64]]:
    """Synthetic customers and whether each left: a logistic rule with noise, income missing for one in eight."""
    draw = np.random.default_rng(SEED)
    yearly = draw.random(CUSTOMERS) < 0.35
    tenure = np.minimum(draw.exponential(np.where(yearly, 40.0, 22.0)), 600.0).round(1)
    charges = draw.normal(66.0, 24.0, CUSTOMERS).clip(12.0, 160.0).round(2)
    calls = draw.poisson(0.6 + 0.012 * charges).astype(np.float64)
    income = draw.lognormal(10.6, 0.5, CUSTOMERS).round(-2)
    leaning = (
        -1.5
        - 0.03 * tenure
        + 0.016 * (charges - 66.0)
        + 0.55 * calls
        - 1.1 * yearly
        - 0.3 * np.log(income / 40_000.0)
        + 0.01 * (charges - 66.0) * (income < 30_000.0)
    )
    churned = (draw.random(CUSTOMERS) < 1.0 / (1.0 + np.exp(-leaning))).astype(np.float64)
    contract = np.where(yearly, CONTRACTS.index("yearly"), CONTRACTS.index("monthly")).astype(np.float64)
    income[draw.random(CUSTOMERS) < 0.125] = np.nan
    columns: Columns = {
        "tenure_months": tenure,
        "monthly_charges": charges,
        "support_calls": calls,
        "income": income,
        "contract": contract,
    }
    return columns, churned


def matrix(columns: Columns, labels: NDArray[np.float64] | None, rows: slice) -> xgb.DMatrix:
    """The rows as XGBoost takes them; the names go into the model, so that serving finds columns by name."""
    values = np.stack([column[rows] for column in columns.values()], axis=1).astype(np.float32)
    return xgb.DMatrix(values, None if labels is None else labels[rows], feature_names=list(columns), nthread=1)


def digest_of(columns: Columns, churned: NDArray[np.float64]) -> str:
    """Digest of the data set: its columns as little-endian float64, in order, each after its name."""
    sha256 = hashlib.sha256()
    for name, column in {**columns, "churned": churned}.items():
        sha256.update(name.encode() + b"\n" + column.astype("<f8").tobytes())
    return f"sha256:{sha256.hexdigest()}"


def golden_lines(booster: xgb.Booster) -> list[str]:
    """The golden examples with the model's answers, as lines of JSON."""
    rows = [row | {"contract": CONTRACTS.index(row["contract"])} for row in GOLDEN]
    names = list(GOLDEN[0])
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}  # None becomes NaN
    answers = booster.predict(matrix(columns, None, slice(None)))
    examples = [
        {
            "model": "churn",
            "input": row,
            "output": {"churn_probability": round(float(answer), 6)},
            "tolerance": {"absolute": TOLERANCE},
        }
        for row, answer in zip(GOLDEN, answers, strict=True)
    ]
    return [json.dumps(example) + "\n" for example in examples]


def reference_of(booster: xgb.Booster, columns: Columns, churned: NDArray[np.float64], rows: slice) -> str:
    """What the rows, the answers and the labels of customers that it was not trained on look like, as JSON."""
    sample: dict[str, Any] = {name: column[rows] for name, column in columns.items()}
    sample["contract"] = [CONTRACTS[int(index)] for index in sample["contract"]]
    sys.path.insert(0, str(FOLDER / "src"))  # training works where the service is not installed, too
    from churn_service.service import predict

    inputs, outputs = codecs(predict, MODEL.format)
    profile = build_profile(
        "churn",
        inputs.specs,
        sample,
        outputs=outputs.specs,
        predictions=booster.predict(matrix(columns, None, rows)),
        labels=churned[rows],
    )
    return encode_profile(profile).decode()


def write(path: Path, text: str) -> None:
    """Writes a text file, as `put` does."""
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    draft.write_text(text, encoding="utf-8", newline="\n")
    put(draft, path)


def put(draft: Path, path: Path) -> None:
    """Moves `draft` to `path` in one step. The same bytes again leave the old file, so a build may be reading it."""
    if path.exists() and path.read_bytes() == draft.read_bytes():
        draft.unlink()
    else:
        draft.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
