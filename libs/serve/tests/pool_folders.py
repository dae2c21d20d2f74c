"""Service folders whose model misbehaves on demand: for tests of runner pools."""

from pathlib import Path

from serve_folders import train

SERVICE = '''"""A model that does what its row says."""

import os
import signal
import time

import numpy as np
from msgspec import Struct
from slipway_serve import Arrays, Service, Weights

FINE, DIE, HANG, RAISE, SLOW, EAT = 0.0, 1.0, 2.0, 3.0, 4.0, 5.0
kept = []


class Row(Struct, frozen=True):
    """A number, and what to do."""

    tenure_days: float
    mean_charge: float
    action: float


class Answer(Struct, frozen=True):
    """The model's margin, who computed it, and with how many."""

    margin: float
    pid: int
    mates: int


service = Service("obedient")
predict = service.model("obedient", Row, Answer, path="/predict", slo="interactive")


@predict.compute
def obey(weights: Weights, batch: Arrays) -> Arrays:
    """Die, hang, raise, or answer."""
    actions = np.asarray(batch["action"])
    if (actions == DIE).any():
        os.kill(os.getpid(), signal.SIGKILL)
    if (actions == RAISE).any():
        raise ValueError("told to raise")
    if (actions == SLOW).any():
        time.sleep(0.02)
    if (actions == EAT).any():
        kept.append(np.ones(200 * 1024 * 1024 // 8))
    rows = len(actions)
    margin = np.asarray(batch["tenure_days"]) * 2 + VERSION
    return {
        "margin": margin,
        "pid": np.full(rows, os.getpid(), dtype=np.int64),
        "mates": np.full(rows, rows, dtype=np.int64),
    }
'''

CONFIG = """entry = "obedient_service:service"

[bundle]
version = "v{version}"

[bundle.models.obedient]
file = "model/model.ubj"
format = "xgboost"
"""


def write_obedient(folder: Path, runtime: str, version: int = 0) -> Path:
    """A service that obeys its rows, with these `[runtime]` tables; `version` is added to its answers."""
    train(folder / "model" / "model.ubj")
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "obedient_service.py").write_text(SERVICE.replace("VERSION", str(version)))
    (folder / "slipway.toml").write_text(CONFIG.format(version=version) + runtime)
    return folder
