"""The place of one specified worker in a supervisor, whichever process fills it.

It remembers; the decisions are made in `supervisor`, `rolling` and `recycling`. The invariant: at most one process is
the worker, one is its successor (until it is ready, or dead), and those that are leaving never come back.
"""

from slipway_runtime.backoff import Backoff, BackoffLimits
from slipway_runtime.processes import WorkerProcess
from slipway_runtime.supervision import WorkerSpec, WorkerState, WorkerStatistics

__all__ = ["Seat"]


class Seat:
    """One worker of the specification, whichever process fills it."""

    __slots__ = (
        *("backoff", "generation", "is_retiring", "last_exit", "leaving", "recycle_at", "recycle_backoff", "recycled"),
        *("restart_at", "restarts", "spec", "successor", "was_ready", "worker"),
    )

    def __init__(self, spec: WorkerSpec, generation: int, backoff: BackoffLimits) -> None:
        self.spec = spec
        self.generation = generation
        """Of what starts here after a death; a successor that is not ready yet may be of another."""
        self.backoff = Backoff(backoff)
        self.worker: WorkerProcess | None = None
        self.successor: WorkerProcess | None = None
        self.leaving: list[WorkerProcess] = []
        self.restarts = 0
        self.restart_at: float | None = None
        self.recycled = 0
        self.recycle_at: float | None = None
        """Not before this time is another successor tried; None: the last one did not fail."""
        self.recycle_backoff = Backoff(backoff)
        self.was_ready = False
        self.is_retiring = False
        """Whether the seat vanishes with its last process."""
        self.last_exit: str | None = None

    @property
    def name(self) -> str:
        """The name of its worker; during a swap a seat of each generation has it."""
        return self.spec.name

    @property
    def is_ready(self) -> bool:
        """Whether its worker can answer."""
        return self.worker is not None and self.worker.state == "ready"

    @property
    def is_moving(self) -> bool:
        """Whether one of its processes is about to replace another, or still has to go."""
        return self.successor is not None or bool(self.leaving)

    def take_over(self, process: WorkerProcess) -> None:
        """`process`, the worker or its successor, is ready: from now on this is what the seat starts."""
        if process is self.successor:
            if self.worker is not None:
                self.leaving.append(self.worker)
            self.worker, self.successor = process, None
        self.spec, self.generation = process.spec, process.generation
        self.was_ready = True

    def remove(self, process: WorkerProcess) -> None:
        """`process` is dead: its successor, where there is one, gets its place."""
        if process in self.leaving:
            self.leaving.remove(process)
        elif process is self.successor:
            self.successor = None
        else:
            self.worker, self.successor = self.successor, None

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
            stage=self.spec.stage,
            generation=process.generation if process else self.generation,
            recycled=self.recycled,
        )
