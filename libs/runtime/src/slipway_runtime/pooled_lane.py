"""The lane of a runner pool as an API worker sees it: the same face as `Pool`, computed by other processes.

It batches nothing and knows no socket: its `Carrier` (`pool_client`) takes tickets to the dispatcher and brings back
what became of them. The invariants: every admitted ticket ends exactly once, so admitted = ok + failed + expired +
cancelled + in flight at any moment; a caller is told of its deadline by this process's own clock, whatever the other
processes do; the rows that this worker holds, until the dispatcher has said its last word about them, are bounded.

A ticket that left counts as admitted, unless the dispatcher refuses it: then it was never in.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeAlias, cast

from msgspec.structs import replace

from slipway_runtime.alarm import Alarm
from slipway_runtime.errors import (
    DeadlineExceeded,
    ModelFailed,
    Quarantined,
    RaisedInRunner,
    Refused,
    RefusedReason,
    RowsExceeded,
)
from slipway_runtime.observer import Observer
from slipway_runtime.queue import QueueStatistics, TicketQueue
from slipway_runtime.request import Answer, BatchFacts, Limits, Ticket
from slipway_runtime.tally import DrainReport, PoolStatistics, Tally
from slipway_runtime.wire.frames import Blob, RejectedTicket

__all__ = ["Buffer", "Carrier", "Outstanding", "PooledLane"]

logger = logging.getLogger(__name__)

Buffer: TypeAlias = bytes | bytearray | memoryview

_REFUSED: dict[str, RefusedReason] = {
    "refused.queue_full": "queue_full",
    "refused.deadline": "deadline",
    "refused.draining": "draining",
}


class Outstanding(Ticket, kw_only=True, eq=False, weakref=False):
    """One ticket from its submission to the dispatcher's last word about it. `payload` stays empty: see `blob`."""

    id: int
    lane: "PooledLane"
    key: bytes
    blob: Blob = b""
    """The payload as it travels, kept so that it can be submitted again."""
    is_sent: bool = False
    """The dispatcher of the present connection knows it."""
    is_over: bool = False
    """Its caller has been told, or left; only the last word is missing."""


class Carrier(Protocol):
    """Takes tickets to the dispatcher."""

    def carry(
        self, lane: "PooledLane", payload: Buffer, rows: int, deadline: float, now: float, key: bytes
    ) -> Outstanding | None:
        """Send a ticket with the others of this turn of the loop; None when there is no room for its payload."""

    def withdraw(self, ticket: Outstanding) -> None:
        """Nobody waits for it any more."""


class PooledLane:
    """Tickets of one model of one runner pool. Every method runs on the event loop's thread.

    Args:
        pool: The pool's wire name.
        model: The model's name; goes to the observer and into messages.
        limits: Bounds of this lane; `max_queued_rows` counts what this worker alone holds.
        decode: Bytes of a result → the result. Runs on the event loop, once for all tickets of an answer.
        observer: Told of every event but `batch`, which the dispatcher counts; or None.
        carrier: Takes tickets away.
        clock: Monotonic seconds, the clock of all deadlines and of all processes of this host.
    """

    def __init__(
        self,
        pool: str,
        model: str,
        *,
        limits: Limits,
        decode: Callable[[bytes], object],
        observer: Observer | None,
        carrier: Carrier,
        clock: Callable[[], float],
    ) -> None:
        self.pool = pool
        self.name = model
        self.limits = limits
        self._decode = decode
        self._carrier = carrier
        self._clock = clock
        self._tally = Tally(model, observer)
        self._waiting = TicketQueue(limits.max_queued_rows)  # whose callers still wait, by deadline
        self._held_rows = 0
        self._latest_s = 0.0  # what the newest answer took
        self._alarm = Alarm(self._expire_due)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_draining = False
        self._empty: asyncio.Future[None] | None = None

    def submit_nowait(self, payload: Buffer, rows: int, deadline: float, key: bytes = b"") -> "asyncio.Future[Answer]":
        """Send one ticket. HOT.

        Args:
            payload: Packed rows, opaque here; copied before this returns.
            rows: How many, 1 to `limits.max_rows`.
            deadline: On the lane's clock.
            key: The sizes of the rows; only equal keys share a batch.

        Returns:
            A future of the rows' place in a result. It raises ModelFailed, DeadlineExceeded, Quarantined or Refused;
            cancelling it takes the ticket out of the dispatcher's queue.

        Raises:
            Refused: Too much is held already, the lane is draining, or the deadline has passed; nothing was kept.
            RowsExceeded: More rows than a batch can hold, or none.
        """
        now = self._clock()
        if self._is_draining:
            raise self._refuse("draining", 0.0)
        if not 1 <= rows <= self.limits.max_rows:
            raise RowsExceeded(self.name, rows, self.limits.max_rows)
        if deadline <= now:
            raise self._refuse("deadline", 0.0)
        if self._held_rows + rows > self.limits.max_queued_rows:
            raise self._refuse("queue_full", self._latest_s)
        ticket = self._carrier.carry(self, payload, rows, deadline, now, key)
        if ticket is None:
            raise self._refuse("queue_full", self._latest_s)
        loop = self._loop or self._bind()
        ticket.future = future = loop.create_future()
        future.add_done_callback(partial(self._settled, ticket))
        self._waiting.push(ticket)
        self._held_rows += rows
        if deadline < self._alarm.at:
            self._alarm.set(loop, deadline, now)
        return future

    def answered(self, tickets: Sequence[Outstanding], blob: bytes, batch: BatchFacts | None = None) -> None:
        """One result came for the rows of these tickets, in this order, computed in that batch."""
        now = self._clock()
        try:
            result = self._decode(blob)
        except Exception as error:  # a result of another schema, say: the runner was not built from this bundle
            logger.exception("pooled_result_invalid", extra={"pool": self.pool, "model": self.name})
            for ticket in tickets:
                self._fail(ticket, ModelFailed(self.name, error), now)
            return
        start = rows = 0
        for ticket in tickets:
            stop = start + ticket.rows
            if not ticket.is_over:
                future = cast("asyncio.Future[Answer]", ticket.future)
                if self._end(ticket, now):
                    future.set_result(Answer(result, start, stop, batch))
                    self._tally.ok += 1
                    rows += ticket.rows
            start = stop
        self._tally.observer.answered(self.name, rows)

    def rejected(self, ticket: Outstanding, word: RejectedTicket) -> None:
        """The dispatcher's last word about a ticket is that there will be no result."""
        if ticket.is_over:
            return
        now = self._clock()
        reason = _REFUSED.get(word.code)
        if reason is not None:
            future = cast("asyncio.Future[Answer]", ticket.future)
            if self._end(ticket, now, is_admitted=False):
                future.set_exception(self._refuse(reason, word.number))
        elif word.code == "deadline_exceeded":
            self._expire(ticket, now)
        elif word.code == "quarantined":
            self._fail(ticket, Quarantined(self.name), now)
        elif word.code == "rows_exceeded":
            self._fail(ticket, RowsExceeded(self.name, ticket.rows, int(word.number)), now)
        else:
            cause = RaisedInRunner(word.type_name or word.code, word.message)
            self._fail(ticket, ModelFailed(self.name, cause), now)

    def forgotten(self, ticket: Outstanding) -> None:
        """The last word about a ticket was said: its rows are no longer held."""
        self._held_rows -= ticket.rows

    def abandon(self) -> int:
        """Give DeadlineExceeded to everyone who still waits; returns how many that were."""
        now = self._clock()
        left = self._waiting.expire(math.inf)
        for ticket in left:
            self._give_up(cast("Outstanding", ticket), now)
        return len(left)

    async def drain(self, timeout_s: float) -> DrainReport:
        """Refuse what comes, wait for what is under way. Idempotent; blocks up to `timeout_s` seconds.

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
        abandoned = 0 if is_clean else self.abandon()
        self._alarm.stop()
        return DrainReport(is_clean=is_clean, abandoned=abandoned, took_s=self._clock() - started)

    def statistics(self) -> PoolStatistics:
        """What the lane has done and holds now. The queue is the dispatcher's: here every ticket is in flight."""
        waiting = self._waiting.statistics()
        queue = QueueStatistics(
            tickets=0,
            rows=0,
            max_rows=waiting.max_rows,
            earliest_deadline=waiting.earliest_deadline,
            out_of_order=waiting.out_of_order,
        )
        told = self._tally.snapshot(queue, waiting.tickets, (), is_inline=False)
        return replace(told, admitted=told.admitted + waiting.tickets)

    def _bind(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.get_running_loop()
        return loop

    def _refuse(self, reason: RefusedReason, retry_after_s: float) -> Refused:
        self._tally.count_refused(reason)
        return Refused(self.name, reason, retry_after_s)

    def _settled(self, ticket: Outstanding, future: "asyncio.Future[Answer]") -> None:
        if future.cancelled() and not ticket.is_over:
            self._cancel(ticket)
            self._carrier.withdraw(ticket)

    def _cancel(self, ticket: Outstanding) -> None:
        self._close(ticket)
        self._tally.count_cancelled(ticket)

    def _end(self, ticket: Outstanding, now: float, *, is_admitted: bool = True) -> bool:
        """Take a ticket off the list of those who wait; False when its caller has left in this very turn."""
        if cast("asyncio.Future[Answer]", ticket.future).done():
            self._cancel(ticket)
            return False
        self._latest_s = now - ticket.arrived
        self._close(ticket, is_admitted=is_admitted)
        return True

    def _close(self, ticket: Outstanding, *, is_admitted: bool = True) -> None:
        self._waiting.cancel(ticket)  # no cancellation: the word of the queue for leaving it anywhere
        ticket.is_over = True
        ticket.future = None
        if is_admitted:
            self._tally.admitted += 1
            self._tally.observer.admitted(self.name)
        self._rest()

    def _fail(self, ticket: Outstanding, error: Exception, now: float) -> None:
        if ticket.is_over:
            return
        future = cast("asyncio.Future[Answer]", ticket.future)
        if self._end(ticket, now):
            future.set_exception(error)
            self._tally.count_failed(ticket)

    def _expire(self, ticket: Outstanding, now: float) -> None:
        future = cast("asyncio.Future[Answer]", ticket.future)
        if self._end(ticket, now):
            future.set_exception(DeadlineExceeded(self.name, now - ticket.arrived))
            self._tally.count_expired(ticket)

    def _give_up(self, ticket: Outstanding, now: float) -> None:
        self._expire(ticket, now)
        self._carrier.withdraw(ticket)

    def _expire_due(self) -> None:
        now = self._clock()
        for ticket in self._waiting.expire(now):
            self._give_up(cast("Outstanding", ticket), now)
        head = self._waiting.head()
        if head is not None:
            self._alarm.set(cast("asyncio.AbstractEventLoop", self._loop), head.deadline, now)

    def _rest(self) -> None:
        if self._empty is not None and not self._waiting.tickets and not self._empty.done():
            self._empty.set_result(None)
