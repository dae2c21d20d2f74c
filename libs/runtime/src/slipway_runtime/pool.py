"""The in-process lane: one model in the process of its callers, batched on one event loop.

It decides nothing itself: queue, cost table, arrivals, batching, admission, lanes and poison are pure modules; this
shell reads the clock, sets timers, runs compute and resolves futures. The invariants: at most one batch is in flight;
every admitted ticket ends exactly once, so admitted = ok + failed + expired + cancelled + queued + in flight at any
moment; an expired or cancelled ticket is never computed; a deadline that passes is told at once, also while a batch
hangs in the thread (one timer for the earliest deadline, not one a request).

Arrivals of one process are the loop's own ready callbacks, so the natural gather is a callback scheduled behind them:
`call_soon` once for the first ticket, then everything that became ready in the same turn leaves together. While more
clients are believed to be on their way, a few further turns are free (they do work that must be done anyway); only then
is time spent waiting, as `decide` says. Source: `docs/batching.md`.
"""

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from typing import cast

from slipway_runtime.admission import Admission
from slipway_runtime.alarm import Alarm
from slipway_runtime.arrivals import ArrivalPredictor
from slipway_runtime.background import Background, ComputeThread
from slipway_runtime.batching import Send, decide, last_moment, shed_late
from slipway_runtime.errors import DeadlineExceeded, ModelFailed, Refused, RefusedReason, RowsExceeded
from slipway_runtime.flight import Flight, WarmUp
from slipway_runtime.lanes import LaneChooser
from slipway_runtime.observer import Observer
from slipway_runtime.patience import Patience
from slipway_runtime.poison import Compute
from slipway_runtime.queue import TicketQueue
from slipway_runtime.request import Answer, Limits, Ticket
from slipway_runtime.tally import DrainReport, PoolStatistics, Tally

__all__ = ["Pool"]

_TIMER_S = 0.0015
"""Shorter waits are turns of the loop: epoll and libuv count whole milliseconds."""


class Pool:
    """Batches tickets of one model and computes them in this process. Every method runs on the event loop's thread.

    Args:
        name: The model's name; goes to the observer and into messages.
        compute: Payloads of a batch and their rows → one result; sync, free of side effects, any thread.
        limits: Bounds of the pool.
        clock: Monotonic seconds, the clock of all deadlines.
        observer: Told of every event, or None.
        background: Runs long batches; by default one daemon thread, started when the first batch needs it.
    """

    def __init__(
        self,
        name: str,
        compute: Compute,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
        background: Background | None = None,
    ) -> None:
        self.name = name
        self.limits = limits = limits or Limits()
        self._compute = compute
        self._clock = clock
        self._background = background
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue = TicketQueue(limits.max_queued_rows)
        self._lanes = LaneChooser(limits.max_rows, limits.inline_s)
        self._arrivals = ArrivalPredictor(limits.gather_s)
        self._admission = Admission(self._queue, self._lanes.costs, limits)
        self._tally = Tally(name, observer)
        self._patience = Patience()
        self._flight: Flight | None = None
        self._is_busy = False  # a flight or a warm-up
        self._new = 0  # tickets since the predictor was told
        self._newest = 0.0  # when the last of them arrived
        self._is_awake = False  # a turn is scheduled
        self._nap = Alarm(self._wake)
        self._alarm = Alarm(self._expire_due)
        self._is_draining = False
        self._empty: asyncio.Future[None] | None = None

    def submit_nowait(self, payload: bytes, rows: int, deadline: float) -> "asyncio.Future[Answer]":
        """Admit one ticket. HOT: a few microseconds with everything that follows.

        Args:
            payload: Packed rows, opaque to the pool.
            rows: How many, 1 to `limits.max_rows`.
            deadline: On the pool's clock.

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
        if not 1 <= rows <= self.limits.max_rows:
            raise RowsExceeded(self.name, rows, self.limits.max_rows)
        refusal = self._admission.judge(rows, deadline, now)
        if refusal is not None:
            raise self._refuse(refusal.reason, refusal.retry_after_s)
        loop = self._loop or self._bind()
        future: asyncio.Future[Answer] = loop.create_future()
        ticket = Ticket(payload, rows, deadline, now, future)
        future.add_done_callback(partial(self._settled, ticket))
        queue = self._queue
        if not queue.push(ticket):
            self._patience.end()  # its deadline may be the earliest now: decide again
        self._tally.admitted += 1
        self._tally.observer.admitted(self.name)
        self._new += 1
        self._newest = now
        if deadline < self._alarm.at:
            self._alarm.set(loop, deadline, now)
        if not self._is_awake and not self._is_busy and queue.rows >= self._patience.wake_rows:
            self._is_awake = True
            loop.call_soon(self._turn)
        return future

    def _refuse(self, reason: RefusedReason, retry_after_s: float) -> Refused:
        self._tally.count_refused(reason)
        return Refused(self.name, reason, retry_after_s)

    def _bind(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.get_running_loop()
        if self._background is None:
            self._background = ComputeThread(loop, self.name)
        return loop

    def _turn(self) -> None:
        self._is_awake = False
        if self._is_busy:
            return
        now = self._clock()
        queue, patience = self._queue, self._patience
        if now < patience.until and patience.goes_on(now, queue.rows, self._tally.admitted):
            self._sleep(now)
            return
        self._tell_arrivals()
        self._expire_waiting(now)
        for ticket in shed_late(queue, self._lanes.costs, self.limits, now):
            self._give_up(ticket, now)
        if not queue.tickets:
            self._stop_waiting()
            self._rest()
            return
        decision = decide(queue, self._lanes.costs, self._arrivals, self.limits, now, flush=self._is_draining)
        if not isinstance(decision, Send):
            self._wait(decision.until, decision.rows, now, is_free=False)
        elif (
            decision.reason in ("idle", "knee") and not patience.is_free and self._arrivals.expects_more(queue.tickets)
        ):
            self._wait(
                self._free_until(now),
                min(queue.rows + self._arrivals.missing(queue.tickets), self.limits.max_rows),
                now,
                is_free=True,
            )
        else:
            self._send(decision, now)

    def _free_until(self, now: float) -> float:
        head = self._queue.head()
        latest = now if head is None else last_moment(head.deadline, self._lanes.costs, self.limits.max_rows)
        return min(latest, now + self.limits.gather_s)

    def _wait(self, until: float, rows: int, now: float, *, is_free: bool) -> None:
        self._stop_waiting()
        self._patience.begin(until, rows, self._tally.admitted, is_free=is_free)
        self._sleep(now)

    def _sleep(self, now: float) -> None:
        """Come back at the end of the wait: by a timer, or turn by turn when the wait is too short for one."""
        loop = cast("asyncio.AbstractEventLoop", self._loop)
        left_s = self._patience.until - now
        if self._patience.is_free or left_s < _TIMER_S:
            self._is_awake = True
            loop.call_soon(self._turn)
        else:
            self._nap.set(loop, self._patience.until, now)

    def _wake(self) -> None:
        if not self._is_awake:
            self._is_awake = True
            cast("asyncio.AbstractEventLoop", self._loop).call_soon(self._turn)

    def _send(self, decision: Send, now: float) -> None:
        self._stop_waiting()
        tickets = self._queue.take(decision.rows)
        payloads: list[bytes] = []
        rows = 0
        for ticket in tickets:
            future: asyncio.Future[Answer] = ticket.future  # type: ignore[assignment]  # a cast costs 50 ns a request
            if future.cancelled():  # in this very turn: its callback comes later
                self._cancel(ticket)
                continue
            payloads.append(ticket.payload)
            rows += ticket.rows
        if len(payloads) < len(tickets):
            tickets = [ticket for ticket in tickets if not ticket.cancelled]
            if not tickets:
                self._rest()
                return
        self._is_busy = True
        self._arrivals.sent(self._queue.tickets, len(tickets))
        self._admission.sent(rows, now)
        self._flight = flight = Flight(tickets, rows, decision.reason, now)
        if self._lanes.is_inline(rows):
            self._run_inline(flight, payloads)
        else:
            self._run_beside(flight)

    def _run_inline(self, flight: Flight, payloads: list[bytes]) -> None:
        flight.started_at = started = self._clock()
        try:
            result = self._compute(payloads, flight.rows)
        except Exception as error:  # noqa: BLE001 - a model may raise anything; its batch mates are saved in the thread
            flight.error = error
            self._run_beside(flight)
        except BaseException as fatal:
            flight.fatal = fatal
            self._land(flight)
            raise
        else:
            stopped = self._clock()
            flight.compute_s = stopped - started
            self._lanes.ran_inline(flight.rows, flight.compute_s)
            self._tally.ok += flight.answer(flight.tickets, result)
            self._landed(flight, stopped)

    def _run_beside(self, flight: Flight) -> None:
        job = partial(flight.run, self._compute, self._clock, self.limits.isolation_calls)
        cast("Background", self._background).start(job, partial(self._come_back, flight))

    def _come_back(self, flight: Flight) -> None:
        if flight.error is None and flight.fatal is None:
            self._lanes.ran_in_thread(flight.rows, flight.compute_s)
        self._land(flight)
        if isinstance(flight.fatal, KeyboardInterrupt | SystemExit):
            raise flight.fatal

    def _land(self, flight: Flight) -> None:
        """Resolve a batch that ran in the thread, or that cannot be saved; on the loop."""
        answered, failed = flight.resolve(self.name)
        self._tally.ok += answered
        for ticket in failed:
            self._tally.count_failed(ticket)
        self._landed(flight, self._clock())

    def _landed(self, flight: Flight, now: float) -> None:
        self._tell_arrivals()
        self._flight = None
        self._is_busy = False
        self._arrivals.answered(now, len(flight.tickets))
        self._admission.answered()
        self._admission.believe(self._lanes.costs)
        self._tally.count_batch(flight)
        self._rest()

    def _rest(self) -> None:
        if self._is_busy:
            return
        if self._queue.tickets:
            self._wake()
        elif self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def _stop_waiting(self) -> None:
        self._patience.end()
        self._nap.stop()

    def _tell_arrivals(self) -> None:
        if self._new:
            self._arrivals.arrived(self._newest, self._queue.tickets, self._new)
            self._new = 0

    def _settled(self, ticket: Ticket, future: "asyncio.Future[Answer]") -> None:
        if future.cancelled() and not ticket.cancelled:
            self._cancel(ticket)

    def _cancel(self, ticket: Ticket) -> None:
        if self._queue.cancel(ticket):
            self._arrivals.left()
        ticket.cancelled = True
        self._tally.count_cancelled(ticket)

    def _expire_waiting(self, now: float) -> None:
        for ticket in self._queue.expire(now):
            self._give_up(ticket, now)

    def _give_up(self, ticket: Ticket, now: float) -> None:
        self._arrivals.left()
        self._expire(ticket, now)

    def _expire(self, ticket: Ticket, now: float) -> None:
        future = cast("asyncio.Future[Answer]", ticket.future)
        if future.done():  # cancelled in this very turn
            if not ticket.cancelled:
                self._cancel(ticket)
            return
        future.set_exception(DeadlineExceeded(self.name, now - ticket.arrived))
        self._tally.count_expired(ticket)

    def _expire_due(self) -> None:
        """Expire what is due, waiting or in flight; set the alarm to the next deadline that could pass."""
        now = self._clock()
        self._tell_arrivals()
        self._expire_waiting(now)
        head = self._queue.head()
        following = math.inf if head is None else head.deadline
        for ticket in self._flight.tickets if self._flight is not None else ():
            if cast("asyncio.Future[Answer]", ticket.future).done():
                continue
            if ticket.deadline <= now:
                self._expire(ticket, now)
            else:
                following = min(following, ticket.deadline)
        if following < math.inf:
            self._alarm.set(cast("asyncio.AbstractEventLoop", self._loop), following, now)
        self._rest()

    async def warm(self, payload: bytes, rows: int = 1, *, budget_s: float = 2.0) -> int:
        """Measure compute at sizes 1, 2, 4, … copies of a valid payload, so that the first request finds a cost table.

        Runs in the worker thread; tickets that arrive meanwhile wait. Blocks up to `budget_s` seconds plus one batch.

        Returns:
            How many batches were measured.

        Raises:
            ModelFailed: Compute raised for this payload.
            RowsExceeded: The payload alone is larger than a batch.
        """
        if not 1 <= rows <= self.limits.max_rows:
            raise RowsExceeded(self.name, rows, self.limits.max_rows)
        loop = self._loop or self._bind()
        if self._is_busy:
            raise self._refuse("queue_full", self._admission.drain_s(self._clock()))
        warm_up = WarmUp(payload, rows, self.limits.max_rows)
        done: asyncio.Future[None] = loop.create_future()
        self._is_busy = True
        job = partial(warm_up.run, self._compute, self._clock, budget_s)
        cast("Background", self._background).start(job, partial(self._warmed, warm_up, done))
        await done
        if warm_up.error is not None:
            raise ModelFailed(self.name, warm_up.error)
        return len(warm_up.samples)

    def _warmed(self, warm_up: WarmUp, done: "asyncio.Future[None]") -> None:
        self._is_busy = False
        warm_up.teach(self._lanes)
        self._admission.believe(self._lanes.costs)
        if not done.done():
            done.set_result(None)
        self._rest()

    async def drain(self, timeout_s: float) -> DrainReport:
        """Refuse what comes, finish what waits, stop the thread. Idempotent; blocks up to `timeout_s` seconds.

        What is not answered by then gets DeadlineExceeded and is counted as expired.
        """
        loop = self._loop or self._bind()
        started = self._clock()
        self._is_draining = True
        if self._empty is None:
            self._empty = loop.create_future()
        self._stop_waiting()
        self._rest()
        await asyncio.wait([self._empty], timeout=max(0.0, timeout_s))
        is_clean = self._empty.done()
        abandoned = 0 if is_clean else self._abandon()
        self._alarm.stop()
        cast("Background", self._background).close()
        return DrainReport(is_clean=is_clean, abandoned=abandoned, took_s=self._clock() - started)

    def _abandon(self) -> int:
        now = self._clock()
        left = self._queue.expire(math.inf)
        if self._flight is not None:
            left += [t for t in self._flight.tickets if not cast("asyncio.Future[Answer]", t.future).done()]
        for ticket in left:
            self._expire(ticket, now)
        return len(left)

    def statistics(self) -> PoolStatistics:
        """What the pool has done and holds now."""
        waiting = 0 if self._flight is None else self._flight.waiting()
        lanes = self._lanes
        return self._tally.snapshot(
            self._queue.statistics(), waiting, lanes.costs.points(), is_inline=lanes.is_inline(1)
        )
