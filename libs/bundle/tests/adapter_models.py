"""Small trained models of every format, made once a run."""

import functools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slipway_bundle.config import ModelConfig
from slipway_bundle.rows import RowCodec
from slipway_bundle.weights import NamedWeights, WeightsFile, adapter_for

NAMES = ("depth", "width", "age", "speed")


class Sample(Struct, frozen=True):
    depth: float
    width: float
    age: float
    speed: float


@functools.cache
def data(rows: int = 300) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features `[rows, 4]`, none symmetric in another, and a binary label."""
    draw = np.random.default_rng(7)
    features = draw.normal(size=(rows, 4)).astype(np.float32) * np.array([1, 10, 100, 1000], dtype=np.float32)
    return features, (features[:, 0] * 3 + features[:, 1] * features[:, 2] / 1000 > 0).astype(np.int64)


def samples(features: NDArray[Any], row_type: Any = Sample) -> list[Any]:
    return [row_type(*map(float, row)) for row in features]


def config(name: str, **values: Any) -> ModelConfig:
    return msgspec.convert({"file": f"model/{name}", "format": "xgboost"} | values, ModelConfig)


def load(path: Path, codec: RowCodec[Any], form: str, **values: Any) -> NamedWeights:
    return adapter_for(form).load(WeightsFile.whole(path), config(path.name, format=form, **values), codec.specs)


def batch_of(codec: RowCodec[Any], rows: list[Any]) -> Any:
    return codec.batch([codec.pack(row) for row in rows])


def train_booster(*, names: tuple[str, ...] | None = NAMES, rounds: int = 12, **parameters: Any) -> Any:
    import xgboost

    features, labels = data()
    matrix = xgboost.DMatrix(features[:, : len(names)] if names else features, label=labels, feature_names=names)
    settings = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1, "seed": 1} | parameters
    return xgboost.train(settings, matrix, num_boost_round=rounds)
