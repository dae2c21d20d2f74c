"""Keeps N worker processes alive: start, ready, restart, rolling restart, drain, stop.

It imports no model and no web framework, opens no port (`listeners`) and keeps no metric (it calls `on_event` and a
`SlotKeeper`). The invariants: a dead worker is always started again or visibly backing off, never given up silently;
the others are not touched by it; every process is reaped and its slot folded exactly once; no worker outlives the
supervisor, even a killed one (`control`).

One thread, one selector: signals, what workers say, and the next deadline are the only things it waits for.

    starting ──ready──► ready ──SIGTERM──► draining ──► dead
        └───────died───────┴──► backing_off ──► starting

Answers what circus and uvicorn's supervisor get wrong (uvicorn#517, uvicorn#2711).
"""

import logging
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from slipway_bundle.errors import SlipwayError
from slipway_runtime.backoff import Backoff
from slipway_runtime.control import ControlError, Failed, Ready
from slipway_runtime.processes import WorkerProcess, exit_text, reap_adopted
from slipway_runtime.seats import Seat
from slipway_runtime.supervision import (
    EventKind,
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

KILL_WAIT_S = 5.0
"""How long the last look at killed processes waits for the kernel."""


class Supervisor:
    """Runs the workers of `spec`; `run` blocks until it is told to stop.

    SIGTERM and SIGINT drain and stop, a second one hastens; SIGHUP replaces the workers one by one.

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
        self._limits = limits or SupervisorLimits()
        self._seats = [Seat(one, Backoff(self._limits.backoff)) for one in spec]
        if len({one.name for one in spec}) != len(spec) or not spec:
            raise ValueError("this is a bug in slipway: workers need unique names, and there must be one")
        self._clock = clock
        self._on_event = on_event
        self._slots = slots
        self._wakeups = Wakeups((signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        self._selector = selectors.DefaultSelector()
        self._state: SupervisorState = "starting"
        self._status = 0
        self._rolling: deque[Seat] = deque()
        self._roll_again = False
        self._statistics = self._look()

    def run(self) -> int:
        """Start the workers and keep them until told to stop. Blocks; main thread only; once.

        Returns:
            The exit status: 0 after a drain that lost nothing, 1 when a worker had to be killed while draining, 130
            after Ctrl-C, or the status a worker gave when it said, before any was ready, that it cannot start.
        """
        try:
            with self._wakeups:
                self._selector.register(self._wakeups, selectors.EVENT_READ)
                for seat in self._seats:
                    if self._state != "stopping":
                        self._start(seat)
                while self._state != "stopping" or any(True for _ in self._processes()):
                    self._wait()
                    self._reap()
                    self._meet_deadlines()
                self._selector.unregister(self._wakeups)
        finally:
            self._leave_nobody()
            self._selector.close()
        self._state = "stopped"
        self._tell("stopped")
        return self._status

    def stop(self) -> None:
        """Drain and stop, as SIGTERM does. From any thread."""
        self._wakeups.send(signal.SIGTERM)

    def reload(self) -> None:
        """Replace the workers one by one, as SIGHUP does. From any thread."""
        self._wakeups.send(signal.SIGHUP)

    def statistics(self) -> SupervisorStatistics:
        """All workers as they are now. From any thread."""
        return self._statistics

    def _wait(self) -> None:
        """Sleep until somebody says something or the next deadline, then listen."""
        deadlines = [process.deadline for _, process in self._processes()]
        deadlines += [seat.wakes_at() for seat in self._seats if self._state != "stopping"]
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
                self._tell("hastened", message=number.name)
                self._status = self._status or 1
                for _, process in self._processes():
                    process.kill()
            else:
                self._stop(number.name)
        elif number == signal.SIGHUP and self._state != "stopping":
            if self._state == "reloading":
                self._roll_again = True
            else:
                self._state = "reloading"
                self._tell("reloading")
                self._rolling.extend(self._seats)
                self._roll()

    def _start(self, seat: Seat) -> None:
        """Start a process for the seat: its worker, or the successor of the one it has."""
        seat.starts += 1
        seat.restart_at = None
        try:
            process = self._launch(seat, f"{seat.spec.name}.{seat.starts}")
        except (OSError, SlipwayError) as error:
            self._tell("broken", seat, message=f"`{seat.spec.argv[0]}` could not be started: {error}")
            seat.last_exit = f"not started: {error}"
            if seat.worker is not None:
                self._reload_failed(seat, str(error))
            self._lost(seat, None, (str(error), 3))
            return
        if seat.worker is None:
            seat.worker = process
        else:
            seat.successor = process
        self._selector.register(process, selectors.EVENT_READ, seat)
        self._tell("started", seat, process)

    def _launch(self, seat: Seat, name: str) -> WorkerProcess:
        """Start one process with a slot of its own; a slot whose process never was is folded at once."""
        deadline = self._clock() + self._limits.start_timeout_s
        if self._slots is None:
            return WorkerProcess(seat.spec, name, deadline, None)
        slot_fd = self._slots.open(name)
        try:
            process = WorkerProcess(seat.spec, name, deadline, slot_fd)
        except OSError:
            os.close(slot_fd)
            self._slots.fold(name)
            raise
        os.close(slot_fd)
        return process

    def _hear(self, seat: Seat, process: WorkerProcess) -> None:
        fileno = process.fileno()
        try:
            messages = process.hear()
        except ControlError as error:
            self._tell("broken", seat, process, message=str(error))
            self._selector.unregister(process)
            process.close()
            process.kill()
            return
        if not process.is_open:
            self._selector.unregister(fileno)
        for message in messages:
            if isinstance(message, Failed):
                process.broken = (message.message, message.exit_status)
                self._tell("broken", seat, process, message=message.message)
            elif isinstance(message, Ready) and process.state == "starting":
                self._ready(seat, process)

    def _ready(self, seat: Seat, process: WorkerProcess) -> None:
        seat.was_ready = True
        process.state = "ready"
        process.ready_at = self._clock()
        process.deadline = None
        if self._state == "starting" and all(one.worker and one.worker.state == "ready" for one in self._seats):
            self._state = "serving"
        self._tell("ready", seat, process)
        if process is seat.successor:
            old, seat.worker, seat.successor = seat.worker, process, None
            if old is not None:
                seat.leaving.append(old)
                self._drain(seat, old)
        self._roll()

    def _drain(self, seat: Seat, process: WorkerProcess) -> None:
        process.state = "draining"
        process.deadline = self._clock() + self._limits.drain_timeout_s
        process.terminate()
        self._tell("draining", seat, process)

    def _reap(self) -> None:
        for seat, process in list(self._processes()):
            code = process.reap()
            if code is None:
                continue
            if process.is_open:  # its last words may not have been read yet
                self._hear(seat, process)
            if process.is_open:  # a process of another session holds its end
                self._selector.unregister(process)
                process.close()
            self._died(seat, process, code)
        reap_adopted([process.pid for _, process in self._processes()])

    def _died(self, seat: Seat, process: WorkerProcess, code: int) -> None:
        process.state = "dead"
        seat.last_exit = exit_text(code)
        if self._slots is not None:
            self._slots.fold(process.name)
        if process in seat.leaving:
            seat.leaving.remove(process)
            self._tell("died", seat, process, message=seat.last_exit)
        elif process is seat.successor:
            seat.successor = None
            self._tell("died", seat, process, message=seat.last_exit)
            self._reload_failed(seat, f"the new worker ended: {seat.last_exit}")
        else:
            seat.worker, seat.successor = seat.successor, None
            self._tell("died", seat, process, message=seat.last_exit)
            self._lost(seat, process.ready_at, process.broken)
        self._stop_next_stage()
        self._roll()

    def _lost(self, seat: Seat, ready_at: float | None, broken: tuple[str, int] | None) -> None:
        """A seat has lost its worker: decide what becomes of it."""
        if self._state == "stopping" or seat.worker is not None:
            return
        if broken is not None and not any(one.was_ready for one in self._seats):
            self._status = broken[1]
            self._stop(broken[0])
            return
        now = self._clock()
        was_looping = seat.backoff.is_crash_looping
        seat.restart_at = seat.backoff.died(now, ready_at)
        seat.restarts += 1
        wait = max(0.0, seat.restart_at - now)
        self._tell("backing_off", seat, message=f"starts again in {wait:.1f} s")
        if seat.backoff.is_crash_looping and not was_looping:
            self._tell("crash_loop", seat, message=f"died {seat.backoff.deaths} times in a row: {seat.last_exit}")

    def _meet_deadlines(self) -> None:
        now = self._clock()
        for seat, process in list(self._processes()):
            if process.deadline is not None and now >= process.deadline:
                process.deadline = None
                kind: EventKind = "late" if process.state == "starting" else "stuck"
                waited = self._limits.start_timeout_s if kind == "late" else self._limits.drain_timeout_s
                self._tell(kind, seat, process, message=f"killed after {waited:g} s")
                process.kill()
                if self._state == "stopping":
                    self._status = self._status or 1
        if self._state == "stopping":
            return
        for seat in self._seats:
            wakes_at = seat.wakes_at()
            if wakes_at is None or now < wakes_at:
                continue
            if seat.restart_at is not None:
                self._start(seat)
            else:
                seat.backoff.steady()
                self._tell("steady", seat, seat.worker)

    def _roll(self) -> None:
        """Take the next step of a rolling restart, when the last one is done."""
        if self._state != "reloading":
            return
        if any(seat.successor or seat.leaving for seat in self._seats):
            return
        while self._rolling:
            seat = self._rolling.popleft()
            if seat.restart_at is not None:
                continue  # it is down; what starts next is new anyway
            self._start(seat)
            return
        self._state = "serving"
        self._tell("reloaded")
        if self._roll_again:
            self._roll_again = False
            self._obey(signal.SIGHUP)

    def _reload_failed(self, seat: Seat, why: str) -> None:
        if self._state == "reloading":
            self._rolling.clear()
            self._roll_again = False
            self._state = "serving"
            self._tell("reload_failed", seat, message=why)

    def _stop(self, why: str) -> None:
        self._state = "stopping"
        self._rolling.clear()
        for seat in self._seats:
            seat.restart_at = None
        self._tell("stopping", message=why)
        self._stop_next_stage()

    def _stop_next_stage(self) -> None:
        """Tell the lowest stage that still lives to drain."""
        if self._state != "stopping":
            return
        stage = min((seat.spec.stage for seat, _ in self._processes()), default=0)
        for seat, process in list(self._processes()):
            if seat.spec.stage == stage and process.state in {"starting", "ready"}:
                self._drain(seat, process)

    def _processes(self) -> Iterator[tuple[Seat, WorkerProcess]]:
        for seat in self._seats:
            for process in (seat.worker, seat.successor, *seat.leaving):
                if process is not None:
                    yield seat, process

    def _leave_nobody(self) -> None:
        """Whatever ended `run`, end what is left and account for it."""
        for seat, process in list(self._processes()):
            code = process.reap_after_kill(KILL_WAIT_S)
            process.close()
            if self._slots is not None:
                self._slots.fold(process.name)
            seat.last_exit = exit_text(code) if code is not None else "not ended by SIGKILL"
            seat.worker = seat.successor = None
            seat.leaving.clear()

    def _tell(
        self, kind: EventKind, seat: Seat | None = None, process: WorkerProcess | None = None, message: str = ""
    ) -> None:
        self._statistics = self._look()
        worker = seat.spec.name if seat is not None else None
        event = SupervisorEvent(
            kind=kind, at=self._clock(), worker=worker, pid=process.pid if process else None, message=message
        )
        try:
            self._on_event(event)
        except Exception:
            logger.exception("supervisor_event_failed", extra={"kind": kind, "worker": worker})

    def _look(self) -> SupervisorStatistics:
        rows = [seat.statistics(seat.worker) for seat in self._seats]
        extra = [(seat, seat.successor) for seat in self._seats if seat.successor is not None]
        extra += [(seat, process) for seat in self._seats for process in seat.leaving]
        rows += [seat.statistics(process) for seat, process in extra]
        return SupervisorStatistics(state=self._state, workers=tuple(rows))
