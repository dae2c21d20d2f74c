"""A fork of `services/churn` whose customers come out of a file, as they do where the data are real.

`train.py` is the one of the repository but for the function that it tells its users to replace. Callers are customers
out of that file, so what became of them is known.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gameday_drill import ROOT
from numpy.typing import NDArray
from trained_churn import trained_churn, training

from slipway_bundle import Store

DATA = "customers.npz"
FROM_FILE = '''def make_customers() -> tuple[Columns, NDArray[np.float64]]:
    """The customers of the warehouse, and whether each left."""
    with np.load(FOLDER / "customers.npz") as found:
        columns = {name: found[name] for name in found.files}
    return columns, columns.pop("churned")

'''
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
SCORED = "churn_probability"


class Fork:
    """The service's folder, its data, and what its callers ask.

    Args:
        folder: Made for it; a copy of the repository's lock is put beside it.
        capture: Where requests are captured; None: they are not.
    """

    def __init__(self, folder: Path, capture: Path | None = None) -> None:
        self.folder, self.capture = folder, capture
        shutil.copytree(trained_churn(), folder, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        shutil.copy(ROOT / "requirements.lock", folder.parent)
        self._train = training()
        self.columns, self.churned = self._train.make_customers()
        text = (folder / "train.py").read_text()
        begin, end = text.index("def make_customers"), text.index("def matrix(")
        (folder / "train.py").write_text(text[:begin] + FROM_FILE + "\n" + text[end:])
        self.deliver(slice(None))
        if capture is not None:
            config = folder / "slipway.toml"
            config.write_text(config.read_text() + CAPTURE.format(folder=capture))

    def deliver(self, rows: "slice | NDArray[np.int64]", churned: NDArray[np.float64] | None = None) -> None:
        """What the warehouse holds from now on: these customers, and what is said to have become of them."""
        labels = self.churned if churned is None else churned
        columns = {name: values[rows] for name, values in self.columns.items()}
        np.savez(self.folder / DATA, **columns, churned=labels[rows])

    def train(self) -> None:
        """Train on what the warehouse holds."""
        subprocess.run([sys.executable, self.folder / "train.py"], check=True, capture_output=True, env=alone())

    def build(self, home: Path, **env: str) -> str:
        """Build a bundle of the folder; returns its reference."""
        return slipway("bundle", "build", str(self.folder), home=home, **env).strip()

    def row(self, number: int) -> dict[str, object]:
        """A customer as the service takes it."""
        row: dict[str, object] = {name: float(values[number]) for name, values in self.columns.items()}
        income = self.columns["income"][number]
        return row | {
            "support_calls": int(self.columns["support_calls"][number]),
            "income": None if np.isnan(income) else float(income),
            "contract": self._train.CONTRACTS[int(self.columns["contract"][number])],
        }

    def scores(self) -> NDArray[np.float32]:
        """The model of the repository about every customer."""
        import xgboost

        booster = xgboost.Booster(model_file=trained_churn() / "model" / "churn.ubj")
        scores: NDArray[np.float32] = booster.predict(self._train.matrix(self.columns, None, slice(None)))
        return scores

    def tell(self, asked: Sequence[tuple[int, int]]) -> None:
        """What became of customers: pairs of a request's number and a customer's; by the command line, as people do."""
        assert self.capture is not None
        lines = ["request_id,label,observed_at"]
        lines += [f"n{request},{str(bool(self.churned[who])).lower()},{time.time():.3f}" for request, who in asked]
        path = self.capture.parent / f"labels-{asked[0][0]}.csv"
        path.write_text("\n".join(lines) + "\n")
        home = self.capture.parent
        slipway("capture", "compact", "--folder", str(self.capture), home=home)
        said = slipway("labels", "ingest", "--folder", str(self.capture), str(path), "--json", home=home)
        assert json.loads(said)["new"] == len(asked), said


def digest_of(reference: str, home: Path) -> str:
    """Of a bundle in the store."""
    return str(Store.open(home / "store").find(reference).descriptor.digest)


def slipway(*arguments: str, home: Path, **env: str) -> str:
    """Run the command; returns its stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "slipway_cli", *arguments],
        env={**alone(), "SLIPWAY_HOME": str(home), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def alone() -> dict[str, str]:
    """An environment in which libraries keep to one thread: many processes share few processors here."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}
