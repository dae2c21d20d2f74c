"""A service whose model waits while a test holds it back, for a server in the test's own process."""

import itertools
import threading
from pathlib import Path

from serve_folders import train

WAIT_S = 30.0

GATED = '''"""A model behind a gate."""

import numpy as np
import serve_gate
from msgspec import Struct
from slipway_serve import Arrays, Service, Weights


class Row(Struct, frozen=True):
    """A row."""

    x: float


class Answer(Struct, frozen=True):
    """An answer."""

    doubled: float


service = Service("gated")
gated = service.model("gated", Row, Answer, path="/gated", slo="interactive")


@gated.compute
def double(weights: Weights, batch: Arrays) -> Arrays:
    """Twice the row, when the gate is open; negative rows fail."""
    serve_gate.GATE.pass_through()
    if (batch["x"] < 0).any():
        raise ValueError("a secret of this row")
    return {"doubled": batch["x"].astype(np.float64) * 2}
'''


class Gate:
    """Open at first; `shut` holds back every batch that comes, until `open`."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.entered = threading.Event()

    def shut(self) -> None:
        """Hold back what comes."""
        self.entered.clear()
        self._open.clear()

    def open(self) -> None:
        """Let everything pass."""
        self._open.set()

    def pass_through(self) -> None:
        """Called by the model."""
        self.entered.set()
        self._open.wait(WAIT_S)


GATE = Gate()
_numbers = itertools.count(1)
"""A process imports one copy of a package: each folder has a package of its own name."""


def write_gated(folder: Path, runtime: str = "") -> Path:
    """The service, which never computes on the event loop; returns the folder."""
    package = f"gated{next(_numbers)}_service"
    train(folder / "model" / "model.ubj")
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / f"{package}.py").write_text(GATED)
    (folder / "slipway.toml").write_text(
        f'entry = "{package}:service"\n\n[bundle.models.gated]\nfile = "model/model.ubj"\nformat = "xgboost"\n\n'
        f"[runtime.models.gated]\ninline_ms = 0\n{runtime}"
    )
    return folder
