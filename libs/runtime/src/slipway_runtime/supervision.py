"""The words of supervision: what to run, within which limits, and what is said about it.

Values only: nothing here starts, waits or decides. The invariant: all of it is frozen, so that it may be read from any
thread (the admin port shows it while the supervisor works).
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from slipway_runtime.backoff import BackoffLimits

__all__ = [
    "EventKind",
    "RolloutKind",
    "RolloutOutcome",
    "RolloutPhase",
    "RolloutStatistics",
    "SlotKeeper",
    "SupervisorEvent",
    "SupervisorLimits",
    "SupervisorState",
    "SupervisorStatistics",
    "WorkerSpec",
    "WorkerState",
    "WorkerStatistics",
]

WorkerState = Literal["starting", "ready", "draining", "dead", "backing_off"]
SupervisorState = Literal["starting", "serving", "reloading", "swapping", "stopping", "stopped"]

RolloutKind = Literal["reload", "swap"]
RolloutPhase = Literal[
    "preparing",  # the new runners start beside the old ones; nothing is drained
    "replacing",  # API workers are replaced, one by one
    "retiring",  # nobody needs the old runners any more: they drain
    "undoing",  # something of the new generation failed: back to the old one
    "over",
]
RolloutOutcome = Literal["done", "failed", "stopped"]
"""How a rollout ended; `failed`: the old generation serves; `stopped`: the supervisor was told to stop meanwhile."""

EventKind = Literal[
    "started",  # a process was started
    "ready",  # it said that it can answer
    "draining",  # it was told to finish and exit
    "died",  # it is gone; `message` says how
    "backing_off",  # it will be started again later; `message` says when
    "crash_loop",  # it died so often in a row that a person should look
    "steady",  # its deaths are forgotten
    "late",  # it did not get ready in time, and is killed
    "stuck",  # it did not finish draining in time, and is killed
    "broken",  # it said that it cannot start, or it could not be executed
    "reloading",  # a rolling restart begins
    "reloaded",  # every worker has been replaced
    "reload_failed",  # the new worker did not get ready; the old ones go on
    "swapping",  # a swap to other specifications begins
    "swapped",  # the new ones have replaced the old ones
    "swap_failed",  # a new one did not get ready; the old ones go on; `message` says why
    "recycling",  # a worker asked for a successor, which is started; `message` says why
    "recycle_failed",  # its successor did not get ready; it goes on, and is tried again later
    "stopping",  # all workers are told to finish
    "hastened",  # a second signal: all workers are killed
    "stopped",  # no worker is left
]


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One worker that is to be kept alive."""

    name: str
    """Unique in its supervisor; a safe metric label (`api-0`)."""
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment; the supervisor adds `SLIPWAY_CONTROL_FD`, `SLIPWAY_GENERATION` and, with a slot keeper,
    `SLIPWAY_SLOT_FD`."""
    pass_fds: tuple[int, ...] = ()
    """Descriptors the worker inherits under the same numbers, such as the listening sockets."""
    stage: int = 0
    """Stages drain one after another, lowest first: API workers (0) before the runners they still need (1)."""
    rolls: bool = True
    """Whether a reload or swap replaces it; what both generations share (a dispatcher) stays."""


class SupervisorLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the supervisor waits for its workers."""

    start_timeout_s: float = 120.0
    """From exec to `ready`; a worker that takes longer is killed. Loading a model counts."""
    drain_timeout_s: float = 30.0
    """From SIGTERM to the exit of a worker; one that takes longer is killed. Each stage has its own."""
    backoff: BackoffLimits = BackoffLimits()


class SupervisorEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, once."""

    kind: EventKind
    at: float
    """On the supervisor's clock, seconds."""
    worker: str | None = None
    pid: int | None = None
    generation: int | None = None
    """Of the process `pid`; in the events of a reload or swap, the new one."""
    message: str = ""


class WorkerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One worker as it is now."""

    name: str
    pid: int | None
    state: WorkerState
    restarts: int
    """How often it was started again after it died unasked."""
    is_crash_looping: bool
    last_exit: str | None
    """How its last process ended, for example `killed by SIGKILL`."""
    restart_at: float | None = None
    """When it starts again, on the supervisor's clock; only while backing off."""
    stage: int = 0
    generation: int = 0
    recycled: int = 0
    """How often it was replaced because it asked for it."""


class RolloutStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A reload or swap: the one that runs, or the last one."""

    kind: RolloutKind
    phase: RolloutPhase
    generation: int
    """The generation it prepares."""
    token: str
    """What the caller of `swap` gave."""
    since: float
    """When it began, on the supervisor's clock, seconds."""
    outcome: RolloutOutcome | None = None
    """None while it runs."""
    message: str = ""
    """What failed, worker first; "" as long as nothing did."""


class SupervisorStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """All workers as they are now; a JSON-ready value for `/debug/workers`."""

    state: SupervisorState
    workers: tuple[WorkerStatistics, ...]
    """The workers as specified, then the processes that a reload, a swap or a recycling adds for a moment."""
    rollout: RolloutStatistics | None = None
    """The reload or swap that runs, or else the last one; None: there was none."""

    @property
    def is_ready(self) -> bool:
        """Whether an API worker (the lowest stage) can answer, and nobody has told the supervisor to stop."""
        front = min((worker.stage for worker in self.workers), default=0)
        return self.state not in {"stopping", "stopped"} and any(
            worker.state == "ready" for worker in self.workers if worker.stage == front
        )

    def counts(self) -> dict[WorkerState, int]:
        """How many workers are in each state, every state named."""
        counts: dict[WorkerState, int] = {"starting": 0, "ready": 0, "draining": 0, "dead": 0, "backing_off": 0}
        for worker in self.workers:
            counts[worker.state] += 1
        return counts


class SlotKeeper(Protocol):
    """Keeps what workers count, over their deaths. `process` is one name per start (`api-0.3`)."""

    def open(self, process: str, /) -> int:
        """Make room for a process that is about to start: a descriptor, which the supervisor passes on and closes."""

    def fold(self, process: str, /) -> object:
        """The process is dead: take its counts into the total. Called exactly once for each `open`."""
