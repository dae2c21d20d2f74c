"""The place of one specified worker in a supervisor, whichever process fills it.

It remembers; the decisions are made in `supervisor`. The invariant: at most one process is the worker, one is its
successor (only during a rolling restart), and those that are leaving never come back.
"""

from slipway_runtime.backoff import Backoff
from slipway_runtime.processes import WorkerProcess
from slipway_runtime.supervision import WorkerSpec, WorkerState, WorkerStatistics

__all__ = ["Seat"]


class Seat:
    """One worker of the specification, whichever process fills it."""

    __slots__ = (
        *("backoff", "last_exit", "leaving", "restart_at", "restarts", "spec", "starts", "successor", "was_ready"),
        "worker",
    )

    def __init__(self, spec: WorkerSpec, backoff: Backoff) -> None:
        self.spec = spec
        self.backoff = backoff
        self.worker: WorkerProcess | None = None
        self.successor: WorkerProcess | None = None
        self.leaving: list[WorkerProcess] = []
        self.starts = 0
        self.restarts = 0
        self.restart_at: float | None = None
        self.was_ready = False
        self.last_exit: str | None = None

    def wakes_at(self) -> float | None:
        """When something is due: a restart, or forgetting the deaths of a steady worker."""
        if self.restart_at is not None:
            return self.restart_at
        if self.worker is None or self.worker.ready_at is None:
            return None
        return self.backoff.steady_at(self.worker.ready_at)

    def statistics(self, process: WorkerProcess | None) -> WorkerStatistics:
        """How the worker is, as seen through one of its processes (None: it has none now)."""
        state: WorkerState = "backing_off" if self.restart_at is not None else "dead"
        return WorkerStatistics(
            name=self.spec.name,
            pid=process.pid if process else None,
            state=process.state if process else state,
            restarts=self.restarts,
            is_crash_looping=self.backoff.is_crash_looping,
            last_exit=self.last_exit,
            restart_at=self.restart_at,
        )
