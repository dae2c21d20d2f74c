"""The processes of a supervisor, seat by seat: starts them, hears them, drains them, buries them.

It does not decide when (`supervisor`, `rolling`, `recycling`). The invariants: every process that was started is in
exactly one seat until it is buried; its slot is folded exactly once; each start has a name of its own (`api-0.3`),
whatever its generation.
"""

import os
import selectors
from collections import Counter
from collections.abc import Callable, Iterator

from slipway_bundle.errors import SlipwayError
from slipway_runtime.control import ControlError, Message
from slipway_runtime.processes import WorkerProcess, exit_text
from slipway_runtime.seats import Seat
from slipway_runtime.supervision import (
    EventKind,
    SlotKeeper,
    SupervisorEvent,
    SupervisorLimits,
    WorkerSpec,
    WorkerStatistics,
)

__all__ = ["Crew"]

KILL_WAIT_S = 5.0
"""How long the last look at killed processes waits for the kernel."""


class Crew:
    """All seats and what sits in them. One thread.

    Args:
        selector: Where the control sockets are registered, with their seat as data.
        announce: Told of everything that happens.
        clock: Monotonic seconds.
        limits: How long a process may take to start and to drain.
        slots: Where the workers' counts are kept over their deaths; None when nobody counts.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        announce: Callable[[SupervisorEvent], None],
        clock: Callable[[], float],
        limits: SupervisorLimits,
        slots: SlotKeeper | None,
    ) -> None:
        self.seats: list[Seat] = []
        """The workers as specified; those that a reload or swap adds or lets go come last."""
        self._selector = selector
        self._announce = announce
        self._clock = clock
        self._limits = limits
        self._slots = slots
        self._starts: Counter[str] = Counter()

    def add(self, spec: WorkerSpec, generation: int) -> Seat:
        """A new seat, empty."""
        seat = Seat(spec, generation, self._limits.backoff)
        self.seats.append(seat)
        return seat

    def processes(self) -> Iterator[tuple[Seat, WorkerProcess]]:
        """Every process that is not buried."""
        for seat in self.seats:
            for process in (seat.worker, seat.successor, *seat.leaving):
                if process is not None:
                    yield seat, process

    def start(self, seat: Seat, spec: WorkerSpec, generation: int) -> str:
        """Start a process for the seat: its worker, or the successor of the one it has.

        Returns:
            Why there is none, when it could not be started; else "".
        """
        seat.restart_at = None
        self._starts[spec.name] += 1
        try:
            process = self._launch(spec, generation, f"{spec.name}.{self._starts[spec.name]}")
        except (OSError, SlipwayError) as error:
            seat.last_exit = f"not started: {error}"
            self.tell("broken", seat, message=f"`{spec.argv[0]}` could not be started: {error}")
            return f"it could not be started: {error}"
        if seat.worker is None:
            seat.worker = process
        else:
            seat.successor = process
        self._selector.register(process, selectors.EVENT_READ, seat)
        self.tell("started", seat, process)
        return ""

    def hear(self, seat: Seat, process: WorkerProcess) -> list[Message]:
        """What the process has said since. One that does not speak the protocol is killed."""
        fileno = process.fileno()
        try:
            messages = process.hear()
        except ControlError as error:
            self.tell("broken", seat, process, message=str(error))
            self._selector.unregister(process)
            process.close()
            process.why_killed = str(error)
            process.kill()
            return []
        if not process.is_open:
            self._selector.unregister(fileno)
        return messages

    def drain(self, seat: Seat, process: WorkerProcess) -> None:
        """Tell the process to finish."""
        process.state = "draining"
        process.deadline = self._clock() + self._limits.drain_timeout_s
        process.terminate()
        self.tell("draining", seat, process)

    def dismiss(self, seat: Seat, process: WorkerProcess) -> None:
        """The worker of the seat, or its successor, has to go; nothing takes its place by itself."""
        if process is seat.successor:
            seat.successor = None
        elif process is seat.worker:
            seat.worker = None
        seat.leaving.append(process)
        self.drain(seat, process)

    def retire(self, seat: Seat) -> None:
        """Drain whatever sits there; the seat vanishes with its last process."""
        seat.is_retiring = True
        seat.restart_at = None
        for process in (seat.worker, seat.successor):
            if process is not None:
                self.dismiss(seat, process)
        self.clear(seat)

    def clear(self, seat: Seat) -> None:
        """Take a retiring seat away when nobody is left in it; a second call changes nothing."""
        if seat.is_retiring and seat.worker is None and not seat.is_moving and seat in self.seats:
            self.seats.remove(seat)

    def drain_next_stage(self) -> None:
        """Tell the lowest stage that still lives to finish; nothing when it has been told."""
        stage = min((seat.spec.stage for seat, _ in self.processes()), default=0)
        for seat, process in list(self.processes()):
            if seat.spec.stage == stage and process.state in {"starting", "ready"}:
                self.drain(seat, process)

    def kill_late(self, now: float) -> bool:
        """Kill what was not ready, or not gone, in time; whether there was any."""
        late = [one for one in self.processes() if one[1].deadline is not None and now >= one[1].deadline]
        for seat, process in late:
            is_starting = process.state == "starting"
            waited = self._limits.start_timeout_s if is_starting else self._limits.drain_timeout_s
            process.deadline = None
            process.why_killed = f"it was not {'ready' if is_starting else 'gone'} after {waited:g} s, and was killed"
            self.tell("late" if is_starting else "stuck", seat, process, message=f"killed after {waited:g} s")
            process.kill()
        return bool(late)

    def bury(self, seat: Seat, process: WorkerProcess, code: int) -> None:
        """A process that was reaped: close what is left of it, fold its slot, free its place."""
        if process.is_open:  # a process of another session holds its end
            self._selector.unregister(process)
            process.close()
        process.state = "dead"
        seat.last_exit = exit_text(code)
        if self._slots is not None:
            self._slots.fold(process.name)
        seat.remove(process)
        self.tell("died", seat, process, message=seat.last_exit)

    def leave_nobody(self) -> None:
        """Whatever ended the supervisor, end what is left and account for it."""
        for seat, process in list(self.processes()):
            code = process.reap_after_kill(KILL_WAIT_S)
            process.close()
            if self._slots is not None:
                self._slots.fold(process.name)
            seat.last_exit = exit_text(code) if code is not None else "not ended by SIGKILL"
            seat.worker = seat.successor = None
            seat.leaving.clear()

    def statistics(self) -> tuple[WorkerStatistics, ...]:
        """The workers as specified, then the processes that are there for a moment."""
        rows = [seat.statistics(seat.worker) for seat in self.seats if seat.worker or not seat.is_retiring]
        extra = [(seat, seat.successor) for seat in self.seats if seat.successor is not None]
        extra += [(seat, process) for seat in self.seats for process in seat.leaving]
        return (*rows, *(seat.statistics(process) for seat, process in extra))

    def tell(
        self,
        kind: EventKind,
        seat: Seat | None = None,
        process: WorkerProcess | None = None,
        *,
        generation: int | None = None,
        message: str = "",
    ) -> None:
        """Announce something."""
        event = SupervisorEvent(
            kind=kind,
            at=self._clock(),
            worker=seat.name if seat is not None else None,
            pid=process.pid if process else None,
            generation=process.generation if process else generation,
            message=message,
        )
        self._announce(event)

    def _launch(self, spec: WorkerSpec, generation: int, name: str) -> WorkerProcess:
        """Start one process with a slot of its own; a slot whose process never was is folded at once."""
        now, timeout_s = self._clock(), self._limits.start_timeout_s
        if self._slots is None:
            return WorkerProcess(spec, generation, name, None, now=now, start_timeout_s=timeout_s)
        slot_fd = self._slots.open(name)
        try:
            process = WorkerProcess(spec, generation, name, slot_fd, now=now, start_timeout_s=timeout_s)
        except OSError:
            os.close(slot_fd)
            self._slots.fold(name)
            raise
        os.close(slot_fd)
        return process
