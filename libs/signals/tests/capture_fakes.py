"""What the tests of capture share: a model, a log of its requests, and a look at everything that is on the disk."""

import os
import signal
import traceback
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it ships no types
from msgspec import Struct

from slipway_bundle.redaction import Redact
from slipway_signals.capture import CaptureConfig, CapturedModel, CaptureLog, ModelCapture
from slipway_signals.capture.compact import compact
from slipway_signals.metrics_capture import CAPTURE_RECORDS, RESULTS
from slipway_signals.slots import Slots

NOW = 1_795_284_000.0
"""2026-11-21 18:00:00 UTC."""
DAY_S = 86_400.0


class Customer(Struct, kw_only=True):
    """A row with one field of each policy."""

    tenure: float = 12.0
    calls: int = 3
    income: float | None = None
    contract: Literal["monthly", "yearly"] = "monthly"
    comment: str = "I am Alice and I live in Sand Street"
    email: Annotated[str, Redact("hash")] = "alice@example.org"
    card: Annotated[str, Redact("mask", shown=4)] = "4111111111111111"
    age: Annotated[int, Redact("bucket", width=10)] = 37
    secret: Annotated[str, Redact()] = "hunter2hunter2"
    tags: list[str] = msgspec.field(default_factory=lambda: ["first tag", "second tag"])
    amounts: list[float] = msgspec.field(default_factory=lambda: [1.5, 2.5])
    note: Annotated[str, Redact("keep")] = "kept"


class Risk(Struct):
    """An answer."""

    probability: float = 0.3
    label: Literal["stays", "leaves"] = "stays"


CHURN = CapturedModel(name="churn", version="sha256:ab", takes=Customer, gives=Risk)


class Capturing:
    """A capture log of one model, and its counters."""

    def __init__(self, folder: Path, *models: CapturedModel, **settings: Any) -> None:
        self.folder = folder
        defaults: dict[str, Any] = {"rate": 1.0, "models": {"churn": ModelCapture(score="probability")}}
        if models:
            del defaults["models"]
        self.config = CaptureConfig(enabled=True, folder=str(folder), **(defaults | settings))
        self.slots, fd = Slots.create()
        os.close(fd)
        self.log = CaptureLog(self.config, models or (CHURN,), self.slots)

    def offer(self, request_id: str, row: object = None, answer: object = None, **given: Any) -> None:
        """One request of `churn`, answered at `NOW` unless told otherwise."""
        self.log.offer(
            given.get("model", "churn"),
            request_id,
            given.get("subject"),
            Customer() if row is None else row,
            Risk() if answer is None else answer,
            given.get("status", 200),
            given.get("latency_s", 0.004),
            given.get("trace_id"),
            given.get("now", NOW),
        )

    def close(self) -> "Capturing":
        """Write what was offered, and close the segment."""
        assert self.log.close(10.0)
        return self

    def counts(self, model: str = "churn") -> dict[str, float]:
        """Requests by result, without the zeros."""
        found = {result: self.slots.counter(CAPTURE_RECORDS, model, result).value for result in RESULTS}
        return {result: n for result, n in found.items() if n}

    def rows(self) -> list[dict[str, Any]]:
        """Compact, and read everything back."""
        compact(self.folder, self.config, NOW)
        return read_rows(self.folder)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Every row of every part, in the order of the files' names."""
    paths = sorted((folder / "data").rglob("*.parquet"))
    return [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]


def every_byte(folder: Path) -> dict[str, bytes]:
    """The content, and the name, of every file in the folder and beside it."""
    files = [path for path in folder.parent.rglob("*") if path.is_file()]
    return {str(path): str(path).encode() + path.read_bytes() for path in files}


def files_with(folder: Path, *needles: str) -> set[str]:
    """The files in which one of these texts stands."""
    return {name for name, data in every_byte(folder).items() if any(needle.encode() in data for needle in needles)}


SYSCALLS = ("open", "write", "fsync", "rename", "replace", "unlink", "mkdir", "rmdir", "chmod", "fchmod")


def killed_at(step: int, work: Callable[[], object]) -> int:
    """Run `work` in a fork that dies before its `step`-th change of the disk; its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            counter = count(1)
            for name in SYSCALLS:
                setattr(os, name, _watched(getattr(os, name), counter, step))
            work()
            status = 0
        except BaseException:  # noqa: BLE001  a child must never return into pytest
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _watched(real: Callable[..., Any], counter: Iterable[int], step: int) -> Callable[..., Any]:
    steps = iter(counter)

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    return call
