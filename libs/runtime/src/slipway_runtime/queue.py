"""The bounded queue of one pool: earliest deadline first, ties by arrival.

It does not decide when a batch leaves (batching.py), does not answer anybody (the shell does) and reads no clock.
The invariants: rows() counts exactly the tickets that are neither taken, expired nor cancelled; take() returns tickets
in (deadline, arrival) order; a cancelled ticket frees its rows at once and its payload with them, while its place is
dropped lazily.

Most pools have one offset between arrival and deadline, so deadlines come in order and a deque is enough: O(1) in and
out. A ticket whose deadline lies before the last one goes to a heap beside it: O(log n). The earliest ticket is the
smaller of the two heads. Source: EDF with late binding, `docs/batching.md`; the two-lane form is ours.
"""

import math
from collections import deque
from heapq import heapify, heappop, heappush

import msgspec

from slipway_runtime.request import Ticket

__all__ = ["QueueStatistics", "TicketQueue"]

_COMPACT_AFTER = 64
"""Dropped tickets that may stay in place before the heap and the deque are rebuilt, beside as many as are alive."""


class QueueStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of the queue."""

    tickets: int
    rows: int
    max_rows: int
    earliest_deadline: float | None
    out_of_order: int
    """Tickets since the start whose deadline lay before the last one's, and which went to the heap."""


class TicketQueue:
    """Tickets that wait for a batch. Not thread-safe: one owner.

    `rows` and `tickets` are plain attributes because the hot path reads them on every request; only the queue writes
    them.
    """

    __slots__ = (
        "_dropped",
        "_heap",
        "_last_deadline",
        "_line",
        "_out_of_order",
        "_sequence",
        "max_rows",
        "rows",
        "tickets",
    )

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.rows = 0
        self.tickets = 0
        self._line: deque[Ticket] = deque()
        self._heap: list[tuple[float, int, Ticket]] = []
        self._last_deadline = -float("inf")
        self._sequence = 0
        self._dropped = 0
        self._out_of_order = 0

    def has_room(self, rows: int) -> bool:
        """Whether `rows` more rows may wait. O(1)."""
        return self.rows + rows <= self.max_rows

    def push(self, ticket: Ticket) -> bool:
        """Add a ticket. O(1) when its deadline is the latest, O(log n) otherwise.

        Returns:
            Whether its deadline is the latest; when not, it may be the earliest.

        Raises:
            OverflowError: The queue has no room; ask `has_room` first. This is a bug in slipway.
        """
        rows = self.rows + ticket.rows
        if rows > self.max_rows:
            msg = f"queue of {self.max_rows} rows got {rows}: this is a bug in slipway"
            raise OverflowError(msg)
        self._sequence = sequence = self._sequence + 1
        ticket.sequence = sequence
        ticket.queued = True
        deadline = ticket.deadline
        is_latest = deadline >= self._last_deadline
        if is_latest or not self._line:
            self._line.append(ticket)
            self._last_deadline = deadline
        else:
            heappush(self._heap, (deadline, sequence, ticket))
            self._out_of_order += 1
        self.rows = rows
        self.tickets += 1
        return is_latest

    def cancel(self, ticket: Ticket) -> bool:
        """Drop a waiting ticket: its rows and payload are free at once. False when it is not waiting any more."""
        if not ticket.queued:
            return False
        ticket.cancelled = True
        ticket.payload = b""
        ticket.queued = False
        self.rows -= ticket.rows
        self.tickets -= 1
        self._dropped += 1
        if self._dropped > _COMPACT_AFTER + self.tickets:
            self._compact()
        return True

    def head(self) -> Ticket | None:
        """The waiting ticket with the earliest deadline, or None. Amortised O(1)."""
        line, heap = self._line, self._heap
        while line and not line[0].queued:
            line.popleft()
            self._dropped -= 1
        while heap and not heap[0][2].queued:
            heappop(heap)
            self._dropped -= 1
        if not heap:
            return line[0] if line else None
        if not line or heap[0][:2] < (line[0].deadline, line[0].sequence):
            return heap[0][2]
        return line[0]

    def take(self, max_rows: int) -> list[Ticket]:
        """Remove and return the longest prefix, earliest deadline first, that holds at most `max_rows` rows."""
        taken: list[Ticket] = []
        rows = 0
        line = self._line
        while True:
            if self._heap:
                ticket = self.head()
                if ticket is None:
                    break
            elif line:
                ticket = line[0]
                if not ticket.queued:
                    line.popleft()
                    self._dropped -= 1
                    continue
            else:
                break
            rows += ticket.rows
            if rows > max_rows:
                break
            self._pop(ticket)
            taken.append(ticket)
        return taken

    def expire(self, now: float) -> list[Ticket]:
        """Remove and return every ticket whose deadline is not after `now`, earliest first."""
        gone: list[Ticket] = []
        while (ticket := self.head()) is not None and ticket.deadline <= now:
            self._pop(ticket)
            gone.append(ticket)
        return gone

    def discard_head(self) -> Ticket | None:
        """Remove and return the waiting ticket with the earliest deadline. O(log n)."""
        ticket = self.head()
        if ticket is not None:
            self._pop(ticket)
        return ticket

    def deadline_behind(self, rows: int) -> float:
        """About the deadline of the ticket that would be first after `rows` rows were taken; inf when none is left.

        O(1) in practice. Exact while every ticket has one row and deadlines come in order.
        """
        if rows >= self.rows:
            return math.inf
        line = self._line
        if not line:
            return self._heap[0][0]
        return line[min(len(line) - 1, rows * len(line) // self.rows)].deadline

    def rows_before(self, deadline: float) -> int:
        """About how many waiting rows have a deadline at or before `deadline`. O(1).

        Exact before the first and after the last deadline (the common case: deadlines come in order); between the two
        it interpolates as if rows were spread evenly, which is what admission can afford.
        """
        last = self._last_deadline
        if not self.tickets or (deadline >= last and self._line):
            return self.rows
        head = self.head()
        if head is None or deadline < head.deadline:
            return 0
        if last <= head.deadline:
            return self.rows
        return min(self.rows, int(self.rows * (deadline - head.deadline) / (last - head.deadline)) + 1)

    def statistics(self) -> QueueStatistics:
        """What waits now."""
        head = self.head()
        return QueueStatistics(
            tickets=self.tickets,
            rows=self.rows,
            max_rows=self.max_rows,
            earliest_deadline=None if head is None else head.deadline,
            out_of_order=self._out_of_order,
        )

    def _pop(self, ticket: Ticket) -> None:
        if self._line and self._line[0] is ticket:
            self._line.popleft()
        else:
            heappop(self._heap)
        ticket.queued = False
        self.rows -= ticket.rows
        self.tickets -= 1

    def _compact(self) -> None:
        self._line = deque(ticket for ticket in self._line if ticket.queued)
        self._heap = [entry for entry in self._heap if entry[2].queued]
        heapify(self._heap)
        self._last_deadline = self._line[-1].deadline if self._line else -float("inf")
        self._dropped = 0
