"""What a row costs on its way through slipway: packing, batching, predicting, answering. Prints a table.

    python benchmarks/rows.py

It needs numpy, msgspec and the xgboost wheel, trains a model of 100 trees for the last rows, and compares with the
obvious way of doing the same. The limits are the promises of the serving path on one core.
"""

import math
import struct
import sys
import tempfile
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import xgboost
from msgspec import Meta, Struct

from slipway_bundle.config import ModelConfig
from slipway_bundle.rows import RowCodec
from slipway_bundle.weights import WeightsFile, adapter_for

NAMES = tuple(f"f{index}" for index in range(20))
Wide: Any = msgspec.defstruct("Wide", [(name, float) for name in NAMES], frozen=True, kw_only=True)


class Customer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tenure_months: Annotated[float, Meta(ge=0, le=600)]
    monthly_charges: Annotated[float, Meta(ge=0)]
    support_calls: Annotated[int, Meta(ge=0, le=1000)]
    income: float | None
    contract: Literal["monthly", "yearly"]


class Risk(Struct, frozen=True):
    churn_probability: Annotated[float, Meta(ge=0, le=1)]


def microseconds(call: Callable[[], object], seconds: float = 0.3) -> float:
    """The best of five runs."""
    timer = timeit.Timer(call)
    count, took = timer.autorange()
    count = max(1, int(count * seconds / 5 / max(took, 1e-9)))
    return min(timer.repeat(repeat=5, number=count)) / count * 1e6


def loop_pack(row: Any) -> bytes:
    """The packer that a loop over the fields would be."""
    values = []
    for name in NAMES:
        value = getattr(row, name)
        if not math.isfinite(value):
            raise ValueError(name)
        values.append(value)
    return struct.pack("<20f", *values)


def row_arrays(row: Any) -> dict[str, Any]:
    """A dict of arrays for each row: what a batcher of dicts would hold."""
    return {name: np.array([getattr(row, name)], dtype=np.float32) for name in NAMES}


def train(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(2000, 20)).astype(np.float32)
    labels = (features[:, 0] + features[:, 1] * features[:, 2] > 0).astype(int)
    data = xgboost.DMatrix(features, label=labels, feature_names=list(NAMES))
    settings = {"objective": "binary:logistic", "max_depth": 6, "nthread": 1, "seed": 1}
    adapter_for("xgboost").save(xgboost.train(settings, data, num_boost_round=100), folder / "model.ubj")
    return folder / "model.ubj"


def main() -> None:
    wide, customers, risks = RowCodec(Wide), RowCodec(Customer), RowCodec(Risk)
    row = Wide(**{name: index * 1.5 + 0.1 for index, name in enumerate(NAMES)})
    customer = Customer(tenure_months=3.0, monthly_charges=2.0, support_calls=1, income=None, contract="yearly")
    payloads, mixed = [wide.pack(row)] * 64, [customers.pack(customer)] * 64
    answers = {"churn_probability": np.linspace(0, 1, 64, dtype=np.float32)}
    columns = {name: np.full(64, 0.5, dtype=np.float32) for name in NAMES}
    table: list[tuple[str, Callable[[], object], str]] = [
        ("pack, 20 floats", lambda: wide.pack(row), "<= 1.0"),
        ("  a loop over the fields", lambda: loop_pack(row), ""),
        ("  a dict of arrays for the row", lambda: row_arrays(row), ""),
        ("pack, 5 mixed fields, one missing", lambda: customers.pack(customer), ""),
        ("check, 5 mixed fields", lambda: customers.check(customer), ""),
        ("batch, 64 rows of 20 floats", lambda: wide.batch(payloads), "<= 10"),
        ("  and its matrix", lambda: wide.batch(payloads).matrix(np.dtype("<f4")), "<= 10"),
        ("batch, 64 mixed rows", lambda: customers.batch(mixed), ""),
        ("pack_arrays, 64 rows of 20 floats", lambda: wide.pack_arrays(columns), ""),
        ("rows, 64 answers of one float", lambda: risks.rows(answers), "<= 15"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = WeightsFile.whole(train(Path(folder)))
        adapter, config = adapter_for("xgboost"), ModelConfig(file="model.ubj", format="xgboost")
        weights = adapter.load(file, config, wide.specs)
        table.append(("load, 100 trees", lambda: adapter.load(file, config, wide.specs), ""))
        for size in (1, 16, 64, 256):
            batch = wide.batch([wide.pack(row)] * size)
            table.append((f"predict, 100 trees, {size} rows", lambda batch=batch: weights(batch)["probability"], ""))  # type: ignore[misc]  # a default binds the loop's value
        package = xgboost.Booster(model_file=folder + "/model.ubj")
        package.set_param("nthread", "1")
        for size in (1, 64):
            matrix = np.ones((size, 20), np.float32)
            by_package = partial(package.inplace_predict, matrix, validate_features=False)
            table.append((f"  the same by xgboost's package, {size} rows", by_package, ""))
        sys.stdout.write(f"{'':40}{'µs':>10}  promise\n")
        for name, call, promise in table:
            sys.stdout.write(f"{name:40}{microseconds(call):10.2f}  {promise}\n")


if __name__ == "__main__":
    main()
