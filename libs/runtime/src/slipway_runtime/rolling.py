"""Replaces one generation of workers by the next: a reload (the same specifications) or a swap (others).

It starts and drains through the `Crew`; who restarts what died is decided in `supervisor`. The invariants: an API
worker (stage 0) is drained only after its successor is ready; runners (stage 1 and up) of a generation drain only after
the last API worker of that generation is gone; so at each moment every living API worker has the runners it needs.

    preparing ──all new runners ready──► replacing ──all API workers new──► retiring ──old runners gone──► done
        │ a new one ended unready            │                              (no way back from here)
        └──────────────► undoing ◄───────────┘   API workers back to the old generation, then the new runners drain
                            └──► failed

A process of the new generation that dies after it was ready is started again in its own generation, as one of the old
generation is; only one that never gets ready, or a crash loop, undoes the rollout.
"""

from collections import deque
from collections.abc import Callable, Sequence

from slipway_runtime.backoff import Backoff, BackoffLimits
from slipway_runtime.crew import Crew
from slipway_runtime.orders import Order
from slipway_runtime.processes import WorkerProcess
from slipway_runtime.seats import Seat
from slipway_runtime.supervision import RolloutOutcome, RolloutPhase, RolloutStatistics

__all__ = ["Rollout"]


class Rollout:
    """One reload or swap, from its first new process to its end. Not thread-safe; it never waits.

    Args:
        crew: The seats, all of one generation (but for those that do not roll).
        order: What is to be rolled out; its stage-0 workers have the names of those that are there.
        limits: How long to wait before going back is tried again.
        now: The supervisor's clock, seconds.
    """

    def __init__(self, crew: Crew, order: Order, limits: BackoffLimits, now: float) -> None:
        self._crew = crew
        self._order = order
        self._since = now
        self._phase: RolloutPhase = "preparing"
        self._outcome: RolloutOutcome | None = None
        self._target = {spec.name: spec for spec in order.specs}
        rolling = [seat for seat in crew.seats if seat.spec.rolls]
        kept = {seat.name for seat in crew.seats if not seat.spec.rolls}
        self._front = [seat for seat in rolling if seat.spec.stage == 0]
        self._before = [(seat.spec, seat.generation) for seat in self._front]
        self._old = [seat for seat in rolling if seat.spec.stage > 0]
        fresh = [spec for spec in order.specs if spec.stage > 0 and spec.name not in kept]
        self._fresh = [crew.add(spec, order.generation) for spec in fresh]
        self._to_start = deque(self._fresh)
        self._retry = Backoff(limits)
        self._retry_at: float | None = None
        self.blamed: Seat | None = None
        """The seat whose process failed first."""
        self.why = ""
        """How it failed."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self._phase == "over"

    def statistics(self) -> RolloutStatistics:
        """How far it is."""
        worker = f"{self.blamed.name}: " if self.blamed is not None else ""
        return RolloutStatistics(
            kind=self._order.kind,
            phase=self._phase,
            generation=self._order.generation,
            token=self._order.token,
            since=self._since,
            outcome=self._outcome,
            message=f"{worker}{self.why}",
        )

    def proceed(self, now: float) -> None:
        """Do what can be done now. To be called whenever a process got ready or died, and when `wakes_at` is due."""
        steps: dict[RolloutPhase, Callable[[], bool]] = {
            "preparing": self._prepare,
            "replacing": self._replace,
            "retiring": self._retire_old,
            "undoing": lambda: self._go_back(now),
        }
        while (step := steps.get(self._phase)) is not None and step():
            pass

    def lost(self, seat: Seat, generation: int, *, was_ready: bool, why: str, now: float) -> bool:
        """A process of `generation` ended there unasked, or could not be started.

        Returns:
            Whether it was one that this rollout had started and waited for.
        """
        if was_ready:
            return False
        if self._phase in {"preparing", "replacing"} and generation == self._order.generation:
            self._undo(seat, why)
            return True
        if self._phase == "undoing" and seat in self._front and generation == seat.generation:
            self._retry_at = self._retry.failed(now)
            return True
        return False

    def stop(self) -> None:
        """The supervisor stops: it drains everybody by itself."""
        if not self.is_over:
            self._end("stopped")

    def wakes_at(self) -> float | None:
        """When `proceed` has something to do although nothing happened."""
        return self._retry_at if self._phase == "undoing" and self._astray() else None

    def _prepare(self) -> bool:
        """Start the new runners; go on when all of them are ready."""
        if self._to_start:
            seat = self._to_start.popleft()
            if why := self._crew.start(seat, seat.spec, seat.generation):
                self._undo(seat, why)
            return True
        if self._stumbles():
            return True
        if not all(seat.is_ready for seat in self._fresh):
            return False
        self._phase = "replacing"
        return True

    def _replace(self) -> bool:
        """Replace the next API worker, when the one before is gone."""
        if self._stumbles():
            return True
        if any(seat.is_moving for seat in self._front):
            return False
        generation = self._order.generation
        for seat in self._front:
            if seat.generation == generation:
                continue
            if seat.worker is not None and seat.worker.generation == generation:
                return False  # it has the place already, because the old one died, but is not ready
            if why := self._crew.start(seat, self._target[seat.name], generation):
                self._undo(seat, why)
            return True
        self._commit()
        return True

    def _stumbles(self) -> bool:
        """Whether something new gets ready only to die, again and again: then undo."""
        for seat in (*self._fresh, *self._front):
            if seat.generation == self._order.generation and seat.backoff.is_crash_looping:
                self._undo(seat, f"died {seat.backoff.deaths} times in a row: {seat.last_exit}")
                return True
        return False

    def _commit(self) -> None:
        """The last API worker of the old generation is gone: the new runners take the places of the old ones."""
        was = {seat.name: seat for seat in self._old}
        for seat in self._fresh:
            if (before := was.get(seat.name)) is not None:
                seat.restarts += before.restarts
                seat.recycled += before.recycled
        order = {name: place for place, name in enumerate(self._target)}
        last = len(order)
        self._crew.seats.sort(key=lambda seat: last + 1 if seat in self._old else order.get(seat.name, last))
        self._phase = "retiring"

    def _retire_old(self) -> bool:
        if self._retired(self._old):
            self._end("done")
        return False

    def _undo(self, seat: Seat, why: str) -> None:
        """The new generation is no good: from now on what starts is of the old one."""
        self._phase = "undoing"
        self.blamed, self.why = seat, why
        self._to_start.clear()
        for front, (spec, generation) in zip(self._front, self._before, strict=True):
            front.spec, front.generation = spec, generation
            for process in (front.worker, front.successor):
                if process is not None and process.state == "starting" and self._is_new(process):
                    self._crew.dismiss(front, process)

    def _go_back(self, now: float) -> bool:
        """Give the next API worker its old generation back; when all have it, drain the new runners."""
        if any(seat.is_moving for seat in self._front):
            return False
        for seat in self._astray():
            if self._retry_at is not None and now < self._retry_at:
                return False
            self._retry_at = None
            if self._crew.start(seat, seat.spec, seat.generation):
                self._retry_at = self._retry.failed(now)
            return True
        if self._retired(self._fresh):
            self._end("failed")
        return False

    def _astray(self) -> list[Seat]:
        """The API workers that still have to go back; none while one is on its way."""
        if any(seat.is_moving for seat in self._front):
            return []
        return [
            seat
            for seat in self._front
            if (self._is_new(seat.worker) if seat.worker is not None else seat.restart_at is None)
        ]

    def _is_new(self, process: WorkerProcess) -> bool:
        return process.generation == self._order.generation

    def _retired(self, seats: Sequence[Seat]) -> bool:
        """Let the lowest stage among `seats` drain; whether all are gone."""
        while left := [seat for seat in seats if seat in self._crew.seats]:
            stage = min(seat.spec.stage for seat in left)
            if any(seat.is_retiring for seat in left if seat.spec.stage == stage):
                return False
            for seat in left:
                if seat.spec.stage == stage:
                    self._crew.retire(seat)
        return True

    def _end(self, outcome: RolloutOutcome) -> None:
        self._phase = "over"
        self._outcome = outcome
