"""The repository's churn service with its model: trained where nobody has done it yet, as in a fresh clone."""

import fcntl
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["CHURN", "trained_churn", "training"]

CHURN = Path(__file__).resolve().parents[2] / "services" / "churn"
MADE = ("churn.ubj", "reference.json")


@cache
def trained_churn() -> Path:
    """The service's folder. Processes that ask at once train one after another, and the second finds it done."""
    with (CHURN / "train.py").open() as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        if not all((CHURN / "model" / name).exists() for name in MADE):
            subprocess.run([sys.executable, CHURN / "train.py"], check=True, timeout=120)
    return CHURN


def training() -> Any:
    """The module `train.py`."""
    spec = importlib.util.spec_from_file_location("churn_train", CHURN / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
