"""The remote lane's pool: several batches of one model under way at once, each in a thread that waits for its answer.

The decisions are those of the dispatcher's pure core, with a virtual replica for each thread; this shell reads the
clock, sets timers, runs compute and resolves futures. The invariants are those of `Pool`: every admitted ticket ends
exactly once; an expired or cancelled ticket is never computed; a deadline that passes is told at once, also while its
batch hangs in a thread; a batch that fails is bisected, so one bad ticket fails alone.

Bisecting is for what the rows did. An error that is not theirs (`unblamed`: the far end cannot be reached) fails the
whole batch after one call, because asking again for each half would hold the thread and load a server in trouble.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias, cast

from slipway_runtime.alarm import Alarm
from slipway_runtime.background import Background, ComputeThread
from slipway_runtime.dispatch.outcome import Batch
from slipway_runtime.dispatch.planner import Dispatcher
from slipway_runtime.dispatch.reports import LineStatistics
from slipway_runtime.dispatch.spec import ModelSpec, PoolSpec
from slipway_runtime.errors import DeadlineExceeded, ModelFailed, Refused, RefusedReason, RowsExceeded
from slipway_runtime.flight import Flight, WarmUp
from slipway_runtime.observer import Observer
from slipway_runtime.poison import Compute
from slipway_runtime.queue import QueueStatistics
from slipway_runtime.request import Answer, Limits, Ticket
from slipway_runtime.tally import DrainReport, PoolStatistics, Tally

__all__ = ["CalledTicket", "ConcurrentCompute", "ConcurrentPool"]

ConcurrentCompute: TypeAlias = Callable[[bytes, Sequence[bytes], int, float, Sequence[object]], object]
"""A key, payloads of a batch, the rows in all of them, the seconds until nobody waits for them any more, and who asked
→ one result whose leading axis is those rows. Called in several threads at once."""
MakeBackground: TypeAlias = Callable[[asyncio.AbstractEventLoop, str], Background]

_POOL: Final = "remote"
"""The core's name of the only pool it has here."""
_WARM_S: Final = 30.0
"""Seconds that one call of a warm-up may take."""


class CalledTicket(Ticket):
    """A ticket that knows who asked."""

    caller: object = None
    """What the pool's `caller` said when it was admitted."""


class ConcurrentPool:
    """Batches tickets of one model and computes up to `concurrency` batches at once. Runs on the event loop's thread.

    Args:
        name: The model's name; goes to the observer and into messages.
        compute: Sync, thread-safe, free of side effects.
        concurrency: Threads, at least 1.
        limits: Bounds of the pool; nothing runs on the event loop, whatever `inline_s` says.
        unblamed: Errors of compute that say nothing about the rows.
        caller: Asked for each ticket, where it is admitted; compute is told of those in its batch, in their order, and
            again of all of them when the batch is tried in parts.
        clock: Monotonic seconds, the clock of all deadlines.
        observer: Told of every event, or None.
        make_background: Makes what runs one batch at a time; by default a daemon thread.
    """

    def __init__(
        self,
        name: str,
        compute: ConcurrentCompute,
        *,
        concurrency: int = 4,
        limits: Limits | None = None,
        unblamed: tuple[type[Exception], ...] = (),
        caller: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
        make_background: MakeBackground = ComputeThread,
    ) -> None:
        self.name = name
        self.limits = limits = limits or Limits()
        self._concurrency = concurrency
        self._compute = compute
        self._unblamed = unblamed
        self._caller = caller
        self._clock = clock
        self._make_background = make_background
        self._loop: asyncio.AbstractEventLoop | None = None
        self._backgrounds: list[Background] = []
        self._tally = Tally(name, observer)
        self._flights: dict[int, Flight] = {}
        self._nap = Alarm(self._wake)
        self._alarm = Alarm(self._expire_due)
        self._is_awake = False  # a turn is scheduled
        self._is_draining = False
        self._is_dropped = False  # the core has no pool any more
        self._empty: asyncio.Future[None] | None = None
        model = ModelSpec(
            name=name, max_rows=limits.max_rows, max_queued_rows=limits.max_queued_rows, gather_s=limits.gather_s
        )
        self._core = Dispatcher()
        self._core.add_pool(PoolSpec(name=_POOL, models=(model,), replicas=concurrency, hang_s=math.inf))
        for number in range(concurrency):
            self._core.join(number, _POOL, clock())

    def submit_nowait(self, payload: bytes, rows: int, deadline: float, key: bytes = b"") -> "asyncio.Future[Answer]":
        """Admit one ticket.

        Args:
            payload: Packed rows, opaque to the pool.
            rows: How many, 1 to `limits.max_rows`.
            deadline: On the pool's clock.
            key: Rows of different keys never share a batch.

        Returns:
            A future of the rows' place in the result of their batch; it raises ModelFailed or DeadlineExceeded.
            Cancelling it frees its rows at once.

        Raises:
            Refused: Full, draining, or the deadline cannot be met; nothing was kept.
            RowsExceeded: More rows than a batch can hold, or none.
        """
        now = self._clock()
        if self._is_draining:
            raise self._refuse("draining", 0.0)
        loop = self._loop or self._bind()
        ticket = CalledTicket(payload, rows, deadline, now, caller=self._caller())
        refusal = self._core.offer(_POOL, self.name, key, ticket, now)
        if refusal is not None:
            raise self._refuse(refusal.reason, refusal.retry_after_s)
        future: asyncio.Future[Answer] = loop.create_future()
        ticket.future = future
        future.add_done_callback(partial(self._settled, ticket))
        self._tally.admitted += 1
        self._tally.observer.admitted(self.name)
        self._wake()
        return future

    def _refuse(self, reason: RefusedReason, retry_after_s: float) -> Refused:
        self._tally.count_refused(reason)
        return Refused(self.name, reason, retry_after_s)

    def _bind(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.get_running_loop()
        names = (f"{self.name}-{number}" for number in range(self._concurrency))
        self._backgrounds = [self._make_background(loop, name) for name in names]
        return loop

    def _wake(self) -> None:
        if not self._is_awake:
            self._is_awake = True
            cast("asyncio.AbstractEventLoop", self._loop).call_soon(self._turn)

    def _turn(self) -> None:
        self._is_awake = False
        loop = cast("asyncio.AbstractEventLoop", self._loop)
        now = self._clock()
        plan = self._core.plan(now)
        for ticket in plan.expired:
            self._expire(ticket, now)
        for batch in plan.batches:
            self._start(batch, now)
        if plan.wake_at < math.inf:
            self._nap.set(loop, plan.wake_at, now)
        else:
            self._nap.stop()
        self._rest()

    def _start(self, batch: Batch, now: float) -> None:
        wanted: list[Ticket] = []
        for ticket in batch.tickets:
            if cast("asyncio.Future[Answer]", ticket.future).cancelled():  # in this very turn: its callback comes later
                self._cancel(ticket)
            else:
                wanted.append(ticket)
        if not wanted:
            self._forget(batch, now)
            self._wake()
            return
        flight = Flight(wanted, sum(ticket.rows for ticket in wanted), batch.reason, now)
        self._flights[batch.number] = flight
        callers = [ticket.caller for ticket in wanted if isinstance(ticket, CalledTicket)]
        compute = self._bounded(batch.key, max(ticket.deadline for ticket in wanted), callers)
        job = partial(flight.run, compute, self._clock, self.limits.isolation_calls)
        self._backgrounds[batch.replica].start(job, partial(self._come_back, batch))
        first = min(ticket.deadline for ticket in wanted)
        if first < self._alarm.at:
            self._alarm.set(cast("asyncio.AbstractEventLoop", self._loop), first, now)

    def _bounded(self, key: bytes, deadline: float, callers: Sequence[object]) -> Compute:
        """The compute of one batch; an error that is not the rows' fault passes through `isolate`."""

        def compute(payloads: Sequence[bytes], rows: int) -> object:
            try:
                return self._compute(key, payloads, rows, max(0.0, deadline - self._clock()), callers)
            except self._unblamed as error:
                raise _Unblamed from error

        return compute

    def _come_back(self, batch: Batch) -> None:
        """A batch has been computed, or cannot be; on the loop."""
        flight = self._flights.pop(batch.number)
        now = self._clock()
        if isinstance(flight.fatal, _Unblamed):
            flight.fatal = flight.fatal.__cause__
            flight.compute_s = flight.compute_s or now - flight.sent_at
        answered, failed = flight.resolve(self.name)
        self._tally.ok += answered
        for ticket in failed:
            self._tally.count_failed(ticket)
        if flight.error is None:
            self._core.landed(batch.number, now)
        else:
            self._forget(batch, now)  # the time of a bisection is nobody's cost
        self._tally.count_batch(flight)
        self._wake()
        if isinstance(flight.fatal, KeyboardInterrupt | SystemExit):
            raise flight.fatal

    def _forget(self, batch: Batch, now: float) -> None:
        """Free a batch's replica without learning from it; its tickets have ended here."""
        for ticket in batch.tickets:
            self._core.cancel(ticket)
        self._core.lose(batch.replica, now)
        if not self._is_dropped:
            self._core.join(batch.replica, _POOL, now)

    def _settled(self, ticket: Ticket, future: "asyncio.Future[Answer]") -> None:
        if future.cancelled() and not ticket.cancelled:
            self._cancel(ticket)
            self._rest()

    def _cancel(self, ticket: Ticket) -> None:
        self._core.cancel(ticket)
        ticket.cancelled = True
        self._tally.count_cancelled(ticket)

    def _expire(self, ticket: Ticket, now: float) -> None:
        future = cast("asyncio.Future[Answer]", ticket.future)
        if future.done():  # cancelled in this very turn
            if not ticket.cancelled:
                self._cancel(ticket)
            return
        future.set_exception(DeadlineExceeded(self.name, now - ticket.arrived))
        self._tally.count_expired(ticket)

    def _expire_due(self) -> None:
        """Expire what is due in flight; set the alarm to the next deadline that could pass there. Waiting: the core."""
        now = self._clock()
        following = math.inf
        for ticket in self._under_way():
            if ticket.deadline <= now:
                self._expire(ticket, now)
            else:
                following = min(following, ticket.deadline)
        if following < math.inf:
            self._alarm.set(cast("asyncio.AbstractEventLoop", self._loop), following, now)

    def _under_way(self) -> list[Ticket]:
        """Tickets whose batch runs now and who still wait for it."""
        tickets = [ticket for flight in self._flights.values() for ticket in flight.tickets]
        return [ticket for ticket in tickets if not cast("asyncio.Future[Answer]", ticket.future).done()]

    def _rest(self) -> None:
        if self._empty is None or self._empty.done() or self._flights:
            return
        if not self._queued().tickets:
            self._empty.set_result(None)

    async def warm(
        self, payload: bytes, rows: int = 1, *, key: bytes = b"", budget_s: float = 2.0, timeout_s: float = _WARM_S
    ) -> int:
        """Measure compute at sizes 1, 2, 4, … copies of a valid payload, so that the first request finds a cost table.

        Runs in one of the threads. Blocks up to `budget_s` seconds plus one batch, which may take `timeout_s`.

        Returns:
            How many batches were measured.

        Raises:
            ModelFailed: Compute raised for this payload.
            RowsExceeded: The payload alone is larger than a batch.
        """
        if not 1 <= rows <= self.limits.max_rows:
            raise RowsExceeded(self.name, rows, self.limits.max_rows)
        loop = self._loop or self._bind()
        warm_up = WarmUp(payload, rows, self.limits.max_rows)
        done: asyncio.Future[None] = loop.create_future()

        def compute(payloads: Sequence[bytes], total: int) -> object:
            return self._compute(key, payloads, total, timeout_s, ())

        job = partial(warm_up.run, compute, self._clock, budget_s)
        self._backgrounds[0].start(job, lambda: None if done.done() else done.set_result(None))
        await done
        if warm_up.error is not None:
            raise ModelFailed(self.name, warm_up.error)
        self._core.teach(_POOL, self.name, key, warm_up.samples)
        return len(warm_up.samples)

    async def drain(self, timeout_s: float) -> DrainReport:
        """Refuse what comes, finish what waits, stop the threads. Idempotent; blocks up to `timeout_s` seconds.

        What is not answered by then gets DeadlineExceeded and is counted as expired.
        """
        loop = self._loop or self._bind()
        started = self._clock()
        self._is_draining = True
        if self._empty is None:
            self._empty = loop.create_future()
        self._rest()
        await asyncio.wait([self._empty], timeout=max(0.0, timeout_s))
        is_clean = self._empty.done()
        abandoned = 0 if is_clean else self._abandon()
        self._nap.stop()
        self._alarm.stop()
        for background in self._backgrounds:
            background.close()
        return DrainReport(is_clean=is_clean, abandoned=abandoned, took_s=self._clock() - started)

    def _abandon(self) -> int:
        now = self._clock()
        self._is_dropped = True
        left = [*self._core.drop_pool(_POOL), *self._under_way()]
        for ticket in left:
            self._expire(ticket, now)
        return len(left)

    def statistics(self) -> PoolStatistics:
        """What the pool has done and holds now. O(keys)."""
        lines = self._lines()
        costs = lines[0].costs if lines else ()
        in_flight = sum(flight.waiting() for flight in self._flights.values())
        return self._tally.snapshot(self._queued(), in_flight, costs, is_inline=False)

    def _queued(self) -> QueueStatistics:
        """What waits, over all keys."""
        queues = [line.queue for line in self._lines()]
        deadlines = [queue.earliest_deadline for queue in queues if queue.earliest_deadline is not None]
        return QueueStatistics(
            tickets=sum(queue.tickets for queue in queues),
            rows=sum(queue.rows for queue in queues),
            max_rows=self.limits.max_queued_rows,
            earliest_deadline=min(deadlines, default=None),
            out_of_order=sum(queue.out_of_order for queue in queues),
        )

    def _lines(self) -> list[LineStatistics]:
        return [line for pool in self._core.statistics().pools for model in pool.models for line in model.lines]


class _Unblamed(BaseException):
    """Its cause is not the rows' fault. No Exception, so that bisecting a batch stops at it."""
