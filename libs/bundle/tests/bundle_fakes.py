"""A tiny service folder, written by the test: a fake service by shape, real Structs, a real XGBoost model."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

from slipway_bundle.build import Built, build
from slipway_bundle.store import Store

SERVICE = '''\
"""A service for tests."""

from msgspec import Struct

from slipway_bundle.description import EndpointDescription, ServiceDescription


class Point(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    x: float
    y: float | None


class Score(Struct, frozen=True):
    value: float


class Model:
    def __init__(self, name, row, answer):
        self.name, self.row, self.answer, self.function = name, row, answer, None


class Service:
    name = "tiny"
    models = {"tiny": Model("tiny", Point, Score)}

    def describe(self):
        return ServiceDescription(name=self.name, endpoints=(EndpointDescription(path="/predict"),))


service = Service()
'''

CONFIG = """\
entry = "tiny_service.service:service"

[bundle]
name = "tiny"
lineage = "model/lineage.json"
licenses = ["Apache-2.0"]

[bundle.models.tiny]
file = "model/tiny.ubj"
format = "xgboost"

[runtime.server]
port = 9000
"""

PROJECT = """\
[project]
name = "tiny-service"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["numpy>=1"]
"""

HASH = "0" * 64


class Trained(Struct, frozen=True):
    """A small model and two rows with its answers."""

    model: bytes
    golden: str


def train() -> Trained:
    """Four trees of depth two over two columns; one thread and a fixed seed."""
    import numpy as np
    import xgboost

    draw = np.random.default_rng(7)
    values = draw.random((64, 2), dtype=np.float32)
    matrix = xgboost.DMatrix(values, values.sum(axis=1), feature_names=["x", "y"], nthread=1)
    booster = xgboost.train({"max_depth": 2, "nthread": 1, "seed": 7}, matrix, 4)
    rows: list[dict[str, float | None]] = [{"x": 0.25, "y": 0.75}, {"x": 0.5, "y": None}]
    asked = np.array([[row["x"], row["y"]] for row in rows], dtype=np.float32)
    answers = booster.predict(xgboost.DMatrix(asked, feature_names=["x", "y"], nthread=1))
    lines = [
        json.dumps({"model": "tiny", "input": row, "output": {"value": float(answer)}, "tolerance": {"absolute": 1e-5}})
        for row, answer in zip(rows, answers, strict=True)
    ]
    return Trained(bytes(booster.save_raw(raw_format="ubj")), "\n".join(lines) + "\n")


def files_of(trained: Trained) -> dict[str, bytes]:
    """The files of the folder, by path."""
    numpy = importlib.metadata.version("numpy")
    lock = f"numpy=={numpy} \\\n    --hash=sha256:{HASH}\n    # via tiny-service (pyproject.toml)\n"
    return {
        "slipway.toml": CONFIG.encode(),
        "pyproject.toml": PROJECT.encode(),
        "requirements.lock": lock.encode(),
        "golden.jsonl": trained.golden.encode(),
        "model/tiny.ubj": trained.model,
        "model/lineage.json": json.dumps({"metrics": {"rmse": 0.25}}).encode(),
        "src/tiny_service/__init__.py": b"",
        "src/tiny_service/service.py": SERVICE.encode(),
        "src/tiny_service/run.sh": b"#!/bin/sh\n",
    }


def write_folder(folder: Path, trained: Trained, *, is_reversed: bool = False) -> Path:
    """Writes the service into `folder`; `is_reversed` makes the files in the other order."""
    for path, data in sorted(files_of(trained).items(), reverse=is_reversed):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(0o755 if path.endswith(".sh") else 0o644)
    return folder


class Shelf:
    """A store with one bundle, shared by tests that only read."""

    def __init__(self, root: Path, trained: Trained) -> None:
        self.folder = write_folder(root / "tiny", trained)
        self.store = Store.open(root / "store")
        self.built: Built = build(self.folder, self.store, environ={})


def edit(path: Path, old: str, new: str) -> None:
    """Replaces `old`, which must be there, in a text file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


BUILD = """\
import sys
from pathlib import Path
from slipway_bundle import SlipwayError, Store, build
try:
    print(build(Path(sys.argv[1]), Store.open(Path(sys.argv[2]))).digest)
except SlipwayError as error:
    print(error.code)
    sys.exit(error.exit_status)
"""


def start_build(
    folder: Path,
    store: Path,
    *,
    environ: dict[str, str] | None = None,
    umask: int = 0o22,
    user: int | None = None,
    cwd: Path | None = None,
) -> "subprocess.Popen[str]":
    """A build in a process of its own; its stdout is the digest, or the code of the error."""
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder), str(store)],
        env=os.environ | (environ or {}),
        umask=umask,
        user=user,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    """What the process printed."""
    printed, _ = process.communicate(timeout=100)
    return printed.strip()
