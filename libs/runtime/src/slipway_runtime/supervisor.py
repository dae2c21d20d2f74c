"""Keeps N worker processes alive: start, ready, restart, reload, swap, drain, stop.

It imports no model and no web framework, opens no port (`listeners`) and keeps no metric (it calls `on_event` and a
`SlotKeeper`). The order of a reload or swap is in `rolling`, a worker's own wish for a successor in `recycling`, the
processes in `crew`. The invariants: a dead worker is always started again or visibly backing off, never given up
silently; the others are not touched by it; every process is reaped and its slot folded exactly once; no worker outlives
the supervisor, even a killed one (`control`).

One thread, one selector: signals, what workers say, and the next deadline are the only things it waits for.

    starting ──ready──► ready ──SIGTERM──► draining ──► dead
        └───────died───────┴──► backing_off ──► starting

Answers what circus and uvicorn's supervisor get wrong (uvicorn#517, uvicorn#2711).
"""

import logging
import selectors
import signal
import time
from collections.abc import Callable, Sequence

from slipway_runtime.control import Failed, Ready, Recycle
from slipway_runtime.crew import Crew
from slipway_runtime.orders import Orders
from slipway_runtime.processes import WorkerProcess, reap_adopted
from slipway_runtime.recycling import Recycling
from slipway_runtime.rolling import Rollout
from slipway_runtime.seats import Seat
from slipway_runtime.supervision import (
    EventKind,
    RolloutKind,
    RolloutStatistics,
    SlotKeeper,
    SupervisorEvent,
    SupervisorLimits,
    SupervisorState,
    SupervisorStatistics,
    WorkerSpec,
)
from slipway_runtime.wakeups import Wakeups

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)

_BEGINS: dict[RolloutKind, tuple[EventKind, SupervisorState]] = {
    "reload": ("reloading", "reloading"),
    "swap": ("swapping", "swapping"),
}
_ENDS: dict[tuple[RolloutKind, bool], EventKind] = {
    ("reload", True): "reloaded",
    ("reload", False): "reload_failed",
    ("swap", True): "swapped",
    ("swap", False): "swap_failed",
}


class Supervisor:
    """Runs the workers of `spec`; `run` blocks until it is told to stop.

    SIGTERM and SIGINT drain and stop, a second one hastens; SIGHUP replaces the workers by their next generation.

    Args:
        spec: The workers, by unique names, in the order in which they are started and replaced.
        clock: Monotonic seconds.
        on_event: Told of everything that happens, in `run`'s thread; keep it short.
        limits: How long it waits.
        slots: Where the workers' counts are kept over their deaths; None when nobody counts.
    """

    def __init__(
        self,
        spec: Sequence[WorkerSpec],
        *,
        clock: Callable[[], float] = time.monotonic,
        on_event: Callable[[SupervisorEvent], None] = lambda _: None,
        limits: SupervisorLimits | None = None,
        slots: SlotKeeper | None = None,
    ) -> None:
        self._orders = Orders(spec)
        self._limits = limits or SupervisorLimits()
        self._clock = clock
        self._on_event = on_event
        self._wakeups = Wakeups((signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        self._selector = selectors.DefaultSelector()
        self._crew = Crew(self._selector, self._announce, clock, self._limits, slots)
        self._recycling = Recycling(self._crew)
        for one in spec:
            self._crew.add(one, 0)
        self._state: SupervisorState = "starting"
        self._was_complete = False
        self._status = 0
        self._rollout: Rollout | None = None
        self._last_rollout: RolloutStatistics | None = None
        self._statistics = self._look()

    def run(self) -> int:
        """Start the workers and keep them until told to stop. Blocks; main thread only; once.

        Returns:
            The exit status: 0 after a drain that lost nothing, 1 when a worker had to be killed while draining, 130
            after Ctrl-C, or the status a worker gave when it said, before all were ready once, that it cannot start.
        """
        try:
            with self._wakeups:
                self._selector.register(self._wakeups, selectors.EVENT_READ)
                for seat in list(self._crew.seats):
                    if self._state != "stopping":
                        self._start(seat)
                while self._state != "stopping" or any(True for _ in self._crew.processes()):
                    self._wait()
                    self._reap()
                    self._meet_deadlines()
                    self._proceed()
                    self._statistics = self._look()
                self._selector.unregister(self._wakeups)
        finally:
            self._crew.leave_nobody()
            self._selector.close()
        self._state = "stopped"
        self._crew.tell("stopped")
        return self._status

    def stop(self) -> None:
        """Drain and stop, as SIGTERM does. From any thread."""
        self._wakeups.send(signal.SIGTERM)

    def reload(self) -> None:
        """Replace the workers by their next generation, as SIGHUP does; after the reload or swap that runs, if any.

        From any thread.
        """
        self._wakeups.send(signal.SIGHUP)

    def swap(self, specs: Sequence[WorkerSpec], token: str = "") -> int:
        """Replace the workers by those of `specs`, without a moment in which nobody answers. From any thread; at once.

        `statistics().rollout` tells how it goes on. Workers of stage 0 must be those that are there (their listening
        sockets are); runners may come and go. A worker with `rolls=False` is started when there is none of its name,
        and otherwise stays as it is.

        Args:
            specs: All workers of the next generation, by unique names.
            token: Shown in the statistics, for the caller to recognise.

        Returns:
            The generation that is being prepared.

        Raises:
            SwapBusyError: when a swap or reload is running, or the supervisor stops; nothing was changed.
        """
        order = self._orders.swap(specs, token)
        self._wakeups.send(signal.SIGCHLD)  # means nothing by itself, but the loop looks round
        return order.generation

    def statistics(self) -> SupervisorStatistics:
        """All workers as they are now. From any thread."""
        return self._statistics

    def _wait(self) -> None:
        """Sleep until somebody says something or the next deadline, then listen."""
        deadlines = [process.deadline for _, process in self._crew.processes()]
        if self._state != "stopping":
            deadlines += [seat.wakes_at() for seat in self._crew.seats]
            deadlines.append(self._rollout.wakes_at() if self._rollout is not None else self._recycling.wakes_at())
        next_at = min((at for at in deadlines if at is not None), default=None)
        timeout = None if next_at is None else max(0.0, next_at - self._clock())
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._wakeups:
                for number in self._wakeups.take():
                    self._obey(number)
            elif isinstance(key.data, Seat) and isinstance(key.fileobj, WorkerProcess):
                self._hear(key.data, key.fileobj)

    def _obey(self, number: signal.Signals) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            if number == signal.SIGINT:
                self._status = 130
            if self._state == "stopping":
                self._crew.tell("hastened", message=number.name)
                self._status = self._status or 1
                for _, process in self._crew.processes():
                    process.kill()
            else:
                self._stop(number.name)
        elif number == signal.SIGHUP and self._state != "stopping":
            self._orders.reload([seat.spec for seat in self._crew.seats])

    def _proceed(self) -> None:
        """Take the next step of a reload or swap or, when there is none, of a recycling."""
        if self._state == "stopping":
            return
        now = self._clock()
        if (order := self._orders.begin()) is not None:
            kind, self._state = _BEGINS[order.kind]
            self._rollout = Rollout(self._crew, order, self._limits.backoff, now)
            self._crew.tell(kind, generation=order.generation, message=order.token)
        if self._rollout is not None:
            self._rollout.proceed(now)
            if self._rollout.is_over:
                self._rolled(self._rollout)
        if not self._orders.is_taken:
            self._recycling.proceed(now)

    def _rolled(self, rollout: Rollout) -> None:
        """A reload or swap is over."""
        self._state = "serving"
        self._rollout, self._last_rollout = None, rollout.statistics()
        again = self._orders.done()
        kind = _ENDS[self._last_rollout.kind, self._last_rollout.outcome == "done"]
        generation = self._last_rollout.generation
        self._crew.tell(kind, rollout.blamed, generation=generation, message=rollout.why)
        if again:
            self.reload()

    def _start(self, seat: Seat) -> None:
        """Start what the seat is for."""
        if why := self._crew.start(seat, seat.spec, seat.generation):
            self._is_lost(seat, seat.generation, was_ready=False, why=why)
            self._lost(seat, self._clock(), None, (why, 3))

    def _hear(self, seat: Seat, process: WorkerProcess) -> None:
        for message in self._crew.hear(seat, process):
            if isinstance(message, Failed):
                process.broken = (message.message, message.exit_status)
                self._crew.tell("broken", seat, process, message=message.message)
            elif isinstance(message, Recycle):
                process.recycle_reason = message.reason or "it did not say why"
            elif isinstance(message, Ready) and process.state == "starting" and process.reap() is None:
                self._ready(seat, process)  # unless it is dead by now: nobody may make room for it

    def _ready(self, seat: Seat, process: WorkerProcess) -> None:
        process.state = "ready"
        process.ready_at = self._clock()
        process.deadline = None
        old = seat.worker
        is_new = seat.generation != process.generation
        seat.take_over(process)
        if all(one.is_ready for one in self._crew.seats):
            self._was_complete = True
            if self._state == "starting":
                self._state = "serving"
        self._crew.tell("ready", seat, process)
        if is_new and seat.backoff.deaths:  # they were another generation's
            self._steady(seat)
        if old is not None and old is not process:
            self._crew.drain(seat, old)
            if old.generation == process.generation:
                self._recycling.succeeded(seat)

    def _reap(self) -> None:
        for seat, process in list(self._crew.processes()):
            code = process.reap()
            if code is None:
                continue
            if process.is_open:  # its last words may not have been read yet
                self._hear(seat, process)
            self._died(seat, process, code)
        reap_adopted([process.pid for _, process in self._crew.processes()])

    def _died(self, seat: Seat, process: WorkerProcess, code: int) -> None:
        was_leaving = process in seat.leaving
        was_successor = process is seat.successor
        self._crew.bury(seat, process, code)
        if not was_leaving and self._state != "stopping":
            why = f"the new worker ended: {process.why_it_ended() or seat.last_exit}"
            is_ours = self._is_lost(seat, process.generation, was_ready=process.ready_at is not None, why=why)
            if was_successor and not is_ours:
                self._recycling.failed(seat, why, self._clock())
            elif not was_successor:
                self._lost(seat, process.started_at, process.ready_at, process.broken)
        self._crew.clear(seat)
        if self._state == "stopping":
            self._crew.drain_next_stage()

    def _is_lost(self, seat: Seat, generation: int, *, was_ready: bool, why: str) -> bool:
        """Tell the rollout that runs of a death; whether it had waited for that process."""
        now = self._clock()
        if self._rollout is None or not self._rollout.lost(seat, generation, was_ready=was_ready, why=why, now=now):
            return False
        self._rollout.proceed(now)  # it knows at once whether the seat is still wanted
        return True

    def _lost(self, seat: Seat, started_at: float, ready_at: float | None, broken: tuple[str, int] | None) -> None:
        """A seat has lost its worker: decide what becomes of it."""
        if self._state == "stopping" or seat.worker is not None or seat.is_retiring:
            return
        if broken is not None and self._is_first_start(seat):
            self._status = broken[1]
            self._stop(broken[0])
            return
        now = self._clock()
        was_looping = seat.backoff.is_crash_looping
        seat.restart_at = seat.backoff.died(now, started_at, ready_at)
        seat.restarts += 1
        wait = max(0.0, seat.restart_at - now)
        self._crew.tell("backing_off", seat, message=f"starts again in {wait:.1f} s")
        if seat.backoff.is_crash_looping and not was_looping:
            self._crew.tell("crash_loop", seat, message=f"died {seat.backoff.deaths} times in a row: {seat.last_exit}")

    def _is_first_start(self, seat: Seat) -> bool:
        """Whether the service has never been complete, and stopping it now takes nothing from anybody for long."""
        serves = any(one.was_ready for one in self._crew.seats if one.spec.stage == 0)
        return not self._was_complete and not seat.was_ready and not (serves and seat.restarts)

    def _steady(self, seat: Seat) -> None:
        seat.backoff.steady()
        self._crew.tell("steady", seat, seat.worker)

    def _meet_deadlines(self) -> None:
        now = self._clock()
        if self._crew.kill_late(now) and self._state == "stopping":
            self._status = self._status or 1
        if self._state == "stopping":
            return
        for seat in list(self._crew.seats):
            wakes_at = seat.wakes_at()
            if wakes_at is None or now < wakes_at:
                continue
            if seat.restart_at is not None:
                self._start(seat)
            else:
                self._steady(seat)

    def _stop(self, why: str) -> None:
        self._state = "stopping"
        self._orders.close()
        if self._rollout is not None:
            self._rollout.stop()
        for seat in self._crew.seats:
            seat.restart_at = None
        self._crew.tell("stopping", message=why)
        self._crew.drain_next_stage()

    def _announce(self, event: SupervisorEvent) -> None:
        self._statistics = self._look()
        try:
            self._on_event(event)
        except Exception:
            logger.exception("supervisor_event_failed", extra={"kind": event.kind, "worker": event.worker})

    def _look(self) -> SupervisorStatistics:
        rollout = self._rollout.statistics() if self._rollout is not None else self._last_rollout
        return SupervisorStatistics(state=self._state, workers=self._crew.statistics(), rollout=rollout)
