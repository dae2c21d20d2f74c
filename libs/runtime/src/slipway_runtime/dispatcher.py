"""The dispatcher: one process that holds the queues of all runner pools, between the API workers and the runners.

It decides nothing (`dispatch` does), looks into no payload and loads no model: it moves frames (`switchboard`),
reads the clock and ends runners that hang or outgrow their ceiling. The invariants: every ticket that an API worker
submitted gets exactly one last word, unless that worker is gone; a place in a worker's slab is read by nobody after the
last word about its ticket; a place in a runner's slab is given back exactly once, also for a worker that died with it.

One thread, one selector. The decisions and their sources: `docs/batching.md`; who says what: `docs/pools.md`.
"""

import logging
import math
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from slipway_runtime.control import WorkerControl
from slipway_runtime.dispatch import Batch, Dispatcher
from slipway_runtime.errors import RowsExceeded
from slipway_runtime.observer import PoolObserver, SilentPoolObserver
from slipway_runtime.peers import Quarantine, RunnerPeer, WorkerPeer
from slipway_runtime.request import Ticket
from slipway_runtime.switchboard import Switchboard
from slipway_runtime.wakeups import Wakeups
from slipway_runtime.wire.connection import FrameSocket
from slipway_runtime.wire.frames import (
    Answered,
    Attach,
    Cancel,
    Dismissed,
    Done,
    DropSlab,
    Frame,
    Join,
    Leaving,
    Place,
    RejectedTicket,
    Release,
    ShareSlab,
    Submit,
    Work,
    WorkGroup,
    WorkTicket,
)

__all__ = ["DispatcherServer"]

logger = logging.getLogger(__name__)

TICK_S: Final = 1.0
"""Between two looks at the memory of runners and at the gauges."""
GRACE_S: Final = 90
"""How long a dispatcher whose supervisor is gone waits for its API workers to finish."""

_Peer: TypeAlias = WorkerPeer | RunnerPeer


class DispatcherServer:
    """Serves the API workers and runners that connect to `listener`.

    Args:
        listener: A listening Unix socket; it may have been another dispatcher's before.
        clock: Monotonic seconds, the clock of all deadlines.
        observer: Told of batches, losses and queues.
        control: The line to the supervisor, if there is one.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        clock: Callable[[], float] = time.monotonic,
        observer: PoolObserver | None = None,
        control: WorkerControl | None = None,
    ) -> None:
        self._clock = clock
        self._observer: PoolObserver = observer or SilentPoolObserver()
        self._control = control
        self._core = Dispatcher()
        self._quarantine = Quarantine()
        self._wakeups = Wakeups((signal.SIGTERM, signal.SIGINT))
        self._board = Switchboard(listener, self._wakeups, self)
        self._workers: dict[FrameSocket, WorkerPeer] = {}
        self._runners: dict[FrameSocket, RunnerPeer] = {}
        self._by_replica: dict[int, RunnerPeer] = {}
        self._by_slab: dict[int, _Peer] = {}
        self._numbers = 0
        self._wake_at = math.inf
        self._tick_at = 0.0
        self._is_stopping = False
        self._is_done = False

    def run(self) -> int:
        """Serve until SIGTERM, or until the supervisor is gone, and no API worker is left. Blocks; main thread only.

        Returns:
            The exit status, 0.
        """
        with self._wakeups:
            if self._control is not None:
                self._control.ready()
                threading.Thread(target=self._follow_supervisor, args=(self._control,), daemon=True).start()
            try:
                while not (self._is_done or (self._is_stopping and not self._workers)):
                    self._turn()
                for runner in self._runners.values():
                    self._dismiss(runner)
                self._board.flush()
            finally:
                self._board.close()
        return 0

    def _follow_supervisor(self, control: WorkerControl) -> None:
        control.wait_parent_gone()
        signal.alarm(GRACE_S)  # API workers finish by themselves; nobody would end this process if they did not
        self._wakeups.send(signal.SIGTERM)

    def _turn(self) -> None:
        """Wait for something, hear it, decide, say it."""
        tick_at = self._tick_at if self._is_watched() else math.inf
        self._board.turn(max(0.0, min(self._wake_at, tick_at) - self._clock()))
        now = self._clock()
        if now >= self._tick_at:
            self._tick(now)
        self._dispatch(now)
        while self._board.flush():
            self._dispatch(self._clock())

    def _is_watched(self) -> bool:
        """Whether the tick has something to look at: an idle dispatcher sleeps."""
        return any(runner.flights or runner.spec.memory_bytes for runner in self._runners.values())

    def signalled(self, number: signal.Signals) -> None:
        """The first signal: go when nobody needs this process any more; the second: now."""
        logger.debug("%s", number.name)
        self._is_done, self._is_stopping = self._is_stopping, True

    def heard(self, connection: FrameSocket, frame: Frame, fds: tuple[int, ...]) -> None:
        """A peer said something; its first words say who it is."""
        worker = self._workers.get(connection)
        if worker is not None:
            self._hear_worker(worker, frame)
            return
        runner = self._runners.get(connection)
        if runner is not None:
            self._hear_runner(runner, frame)
            return
        self._numbers += 1
        match frame:
            case Attach():
                worker = WorkerPeer(connection, self._numbers, frame, fds[0])
                self._workers[connection] = worker
                self._by_slab[worker.slab] = worker
                for spec in frame.pools:
                    self._core.add_pool(spec)
            case Join():
                runner = RunnerPeer(connection, self._numbers, frame, fds[0])
                self._runners[connection] = runner
                self._by_slab[runner.slab] = self._by_replica[runner.replica] = runner
                self._core.add_pool(frame.pool)
                for sample in frame.samples:
                    self._core.teach(frame.pool.name, sample.model, sample.key, [(sample.rows, sample.seconds)])
                self._core.join(runner.replica, frame.pool.name, self._clock())
                self._tick_at = 0.0
            case _:
                self._refuse(connection, "a stranger", frame)

    def parted(self, connection: FrameSocket) -> None:
        """A peer is gone: what it held is free, what it computed goes to another."""
        worker = self._workers.pop(connection, None)
        if worker is not None:
            self._lose_worker(worker)
        runner = self._runners.pop(connection, None)
        if runner is not None:
            self._lose_runner(runner)

    def _refuse(self, connection: FrameSocket, who: str, frame: Frame) -> None:
        logger.error("a connection is dropped: %s said %s", who, type(frame).__name__)
        self._board.part(connection)

    def _hear_worker(self, worker: WorkerPeer, frame: Frame) -> None:
        match frame:
            case Submit():
                self._submit(worker, frame)
            case Cancel():
                for number in frame.ids:
                    ticket = worker.tickets.get(number)
                    if ticket is not None and self._core.cancel(ticket):
                        self._reject(ticket, "released")
            case Release():
                self._release(worker, frame.places)
            case _:
                self._refuse(worker.connection, f"API worker {worker.name}", frame)

    def _submit(self, worker: WorkerPeer, frame: Submit) -> None:
        now = self._clock()
        pool, model, key = frame.pool, frame.model, frame.key
        offer = self._core.offer
        is_suspicious = self._quarantine.watches(model)
        for submitted in frame.tickets:
            payload: bytes = submitted.payload  # type: ignore[assignment]  # or a Place: the core does not look
            ticket = Ticket(payload, submitted.rows, submitted.deadline, now, (worker, submitted.id, model))
            if is_suspicious and self._quarantine.holds(model, worker.bytes_of(payload), now):
                self._reject(ticket, "quarantined")
                self._observer.quarantined(model, 1)
                continue
            try:
                refusal = offer(pool, model, key, ticket, now)
            except RowsExceeded as error:
                self._reject(ticket, "rows_exceeded", error.max_rows)
                continue
            if refusal is None:
                worker.tickets[submitted.id] = ticket
            else:
                self._reject(ticket, f"refused.{refusal.reason}", refusal.retry_after_s)
        if not any(runner.spec.name == pool for runner in self._runners.values()):
            self._observer.cold(model, len(frame.tickets))

    def _hear_runner(self, runner: RunnerPeer, frame: Frame) -> None:
        match frame:
            case Done():
                self._land(runner, frame)
            case Leaving():
                self._core.retire(runner.replica, self._clock())
                runner.is_leaving = True
            case _:
                self._refuse(runner.connection, f"runner {runner.name}", frame)
        if runner.is_leaving and not runner.flights:
            self._dismiss(runner)

    def _land(self, runner: RunnerPeer, done: Done) -> None:
        batch = self._core.landed(done.number, self._clock())
        tickets = runner.flights.pop(done.number, [])
        if batch is None:
            self._give_back(runner, (part.result for part in done.parts))
            return
        for part in done.parts:
            mates = [tickets[index] for index in part.tickets]
            worker = _origin(mates[0])[0]
            if worker.connection.is_closed:
                self._give_back(runner, [part.result])
                continue
            if isinstance(part.result, Place):
                self._share(runner, worker)
                worker.held.add((runner.slab, part.result.offset))
            ids = [_origin(ticket)[1] for ticket in mates]
            for number in ids:
                worker.tickets.pop(number, None)
            told = (batch.number, batch.rows, batch.sent_at, done.started_at, done.compute_s, batch.reason, runner.name)
            self._board.send(worker.connection, Answered(ids, part.result, runner.slab, *told))
        for failure in done.failures:
            self._reject(tickets[failure.ticket], "model_failed", message=failure.message, type_name=failure.type_name)
        waited_s = batch.sent_at - min(ticket.arrived for ticket in tickets)
        self._observer.batch(batch.model, batch.rows, waited_s, done.compute_s, batch.reason)

    def _dispatch(self, now: float) -> None:
        """Send what may leave now."""
        for replica in self._core.overdue(now):
            self._end(self._by_replica[replica], "hung")
        plan = self._core.plan(now)
        for ticket in plan.expired:
            self._reject(ticket, "deadline_exceeded", now - ticket.arrived)
        for batch in plan.batches:
            self._work(batch)
        self._wake_at = plan.wake_at
        for worker in self._workers.values():
            if worker.rejected:
                self._board.send(worker.connection, worker.take_rejected())

    def _work(self, batch: Batch) -> None:
        runner = self._by_replica[batch.replica]
        groups: dict[WorkerPeer, list[Ticket]] = {}
        for ticket in batch.tickets:
            groups.setdefault(_origin(ticket)[0], []).append(ticket)
        for worker, tickets in groups.items():
            if any(isinstance(ticket.payload, Place) for ticket in tickets):
                self._share(worker, runner)
        work = [
            WorkGroup(worker.slab, [WorkTicket(ticket.rows, ticket.deadline, ticket.payload) for ticket in tickets])
            for worker, tickets in groups.items()
        ]
        runner.flights[batch.number] = [ticket for tickets in groups.values() for ticket in tickets]
        self._board.send(runner.connection, Work(batch.number, batch.model, batch.key, work), is_urgent=True)

    def _share(self, owner: _Peer, reader: _Peer) -> None:
        if owner.slab not in reader.known_slabs:
            reader.known_slabs.add(owner.slab)
            self._board.send(reader.connection, ShareSlab(owner.slab, owner.slab_bytes), (owner.slab_fd,))

    def _release(self, worker: WorkerPeer, places: Iterable[tuple[int, int]]) -> None:
        for place in places:
            owner = self._by_slab.get(place[0])
            if owner is not None and place in worker.held:
                self._board.send(owner.connection, Release([place]))
            worker.held.discard(place)

    def _give_back(self, runner: RunnerPeer, results: Iterable[object]) -> None:
        places = [(runner.slab, result.offset) for result in results if isinstance(result, Place)]
        if places:
            self._board.send(runner.connection, Release(places))

    def _reject(
        self, ticket: Ticket, code: str, number: float = 0.0, *, message: str = "", type_name: str = ""
    ) -> None:
        worker, identity, _ = _origin(ticket)
        worker.tickets.pop(identity, None)
        if not worker.connection.is_closed:
            worker.rejected.append(RejectedTicket(identity, code, message, number, type_name))

    def _lose_worker(self, worker: WorkerPeer) -> None:
        for ticket in worker.tickets.values():
            self._core.cancel(ticket)
        worker.tickets.clear()
        self._release(worker, list(worker.held))
        self._forget(worker, self._runners.values())
        for spec in worker.pools:
            self._drop_if_unused(spec.name)

    def _lose_runner(self, runner: RunnerPeer) -> None:
        now = self._clock()
        del self._by_replica[runner.replica]
        loss = self._core.lose(runner.replica, now)
        if not runner.is_dismissed:
            reason = runner.end_reason or "died"
            self._observer.lost(runner.label, reason)
            logger.warning("runner %s is gone: %s; %d requests are tried again", runner.name, reason, len(loss.retried))
        for ticket in loss.retried:
            self._observer.retried(_origin(ticket)[2], 1)
        for ticket in loss.expired:
            self._reject(ticket, "deadline_exceeded", now - ticket.arrived)
        for ticket in loss.cancelled:
            self._reject(ticket, "released")
        for ticket in loss.dropped:
            self._reject(ticket, "refused.draining")
        for ticket in loss.quarantined:
            worker, _, model = _origin(ticket)
            self._observer.quarantined(model, 1)
            if not worker.connection.is_closed:
                self._quarantine.add(model, worker.bytes_of(ticket.payload), now)
            self._reject(ticket, "quarantined")
        self._forget(runner, self._workers.values())
        self._drop_if_unused(runner.spec.name)
        self._tick_at = 0.0

    def _forget(self, owner: _Peer, readers: Iterable[_Peer]) -> None:
        """Nobody will be sent to a slab any more whose owner is gone."""
        del self._by_slab[owner.slab]
        for reader in readers:
            if owner.slab in reader.known_slabs:
                reader.known_slabs.discard(owner.slab)
                self._board.send(reader.connection, DropSlab(owner.slab))
        owner.close()

    def _drop_if_unused(self, pool: str) -> None:
        is_offered = any(runner.spec.name == pool for runner in self._runners.values())
        if not is_offered and not any(spec.name == pool for worker in self._workers.values() for spec in worker.pools):
            self._core.drop_pool(pool)

    def _dismiss(self, runner: RunnerPeer) -> None:
        if not runner.is_dismissed:
            runner.is_dismissed = True
            self._board.send(runner.connection, Dismissed())

    def _end(self, runner: RunnerPeer, reason: str) -> None:
        """Kill a runner; the end of its connection does the rest."""
        if runner.end_reason is None:
            runner.end_reason = reason
            logger.error("runner %s is killed: %s", runner.name, reason)
            runner.kill()

    def _tick(self, now: float) -> None:
        self._tick_at = now + TICK_S
        for runner in self._runners.values():
            ceiling = runner.spec.memory_bytes
            if ceiling and runner.memory_bytes() > ceiling + ceiling // 4:
                self._end(runner, "memory")
        for pool in self._core.statistics().pools:
            self._observer.replicas(pool.name.rpartition("@")[0], pool.active, pool.standby)
            for model, tickets in pool.queued().items():
                self._observer.queued(model, tickets)


def _origin(ticket: Ticket) -> tuple[WorkerPeer, int, str]:
    """Who submitted it, under which number, for which model."""
    return ticket.future  # type: ignore[return-value]  # opaque to the core; made in `_submit`
