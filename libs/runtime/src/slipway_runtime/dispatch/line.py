"""One queue of the dispatcher: the tickets of one (pool, model, key), what may enter, and when a batch leaves.

It assigns no replica and takes no turn (`planner` does); the decisions are those of the in-process pool (`admission`,
`batching`), asked with what the line shares. The invariants: rows of different keys never share a batch; a line is
among the waiting of its flow exactly while it has a ticket; a wait for company that was decided stands until its time,
its number of rows, an answer, or an earlier deadline.
"""

import math
from typing import TYPE_CHECKING

from slipway_runtime.admission import Admission, Refusal
from slipway_runtime.arrivals import ArrivalPredictor
from slipway_runtime.batching import Send, decide, shed_late
from slipway_runtime.errors import RowsExceeded
from slipway_runtime.latency import CostTable
from slipway_runtime.queue import TicketQueue
from slipway_runtime.request import Ticket

if TYPE_CHECKING:
    from slipway_runtime.dispatch.flow import Flow

__all__ = ["Line", "line_of"]


class Line:
    """The queue of one key; also the `Capacity` that its own admission asks: the replicas, and who else wants them.

    `until`, `wake_rows` and `send` are the standing decision: wait until then or for so many rows, or send.
    """

    __slots__ = (
        *("_new", "_newest", "admission", "arrivals", "costs", "flow", "in_flight", "judged_in", "key", "limits"),
        *("queue", "send", "until", "wake_rows"),
    )

    def __init__(self, flow: "Flow", key: bytes) -> None:
        self.flow = flow
        self.key = key
        self.in_flight = 0
        """Batches."""
        self.judged_in = 0
        """The plan in which `send` was decided: it is good in that plan only."""
        self.send: Send | None = None
        self.until = -math.inf
        self.wake_rows = 1
        self._new = 0  # tickets since the predictor was told
        self._newest = 0.0  # when the last of them arrived
        self._set_up(flow.latest.costs if flow.latest is not None else None)

    def _set_up(self, prior: CostTable | None) -> None:
        self.limits = limits = self.flow.limits
        self.queue = TicketQueue(limits.max_queued_rows)
        self.costs = CostTable(limits.max_rows, prior=prior)
        self.arrivals = ArrivalPredictor(limits.gather_s)
        self.admission = Admission(self.queue, self.costs, limits, capacity=self)

    def is_unused(self) -> bool:
        """Whether nothing waits here and nothing of it is in flight."""
        return not self.queue.tickets and not self.in_flight

    def teach(self, rows: int, seconds: float) -> None:
        """A batch of this key was measured."""
        self.costs.learn(rows, seconds)
        self.admission.believe(self.costs)
        self.flow.latest = self

    def offer(self, ticket: Ticket, now: float) -> Refusal | None:
        """Take the ticket in, or say why not. HOT: once a request.

        Raises:
            RowsExceeded: It is larger than a batch, or empty.
        """
        flow = self.flow
        if self.limits is not flow.limits and self.is_unused():
            self._set_up(self.costs)
        rows, deadline = ticket.rows, ticket.deadline
        if not 1 <= rows <= self.limits.max_rows:
            raise RowsExceeded(flow.spec.name, rows, self.limits.max_rows)
        refusal = self._judge(rows, deadline, now)
        counts = flow.counts
        if refusal is not None:
            counts.refused[refusal.reason] = counts.refused.get(refusal.reason, 0) + 1
            return refusal
        queue = self.queue
        if not queue.push(ticket):
            self.until = -math.inf  # its deadline may be the earliest now: decide again
        ticket.line = self
        flow.rows += rows
        counts.admitted += 1
        self._new += 1
        self._newest = now
        if queue.tickets == 1:
            flow.begin_waiting(self)
        device = flow.pool.device
        if deadline < device.expires_at:  # noqa: PLR1730 - min() costs 80 ns a request
            device.expires_at = deadline
        return None

    def _judge(self, rows: int, deadline: float, now: float) -> Refusal | None:
        flow = self.flow
        if flow.rows + rows > flow.limits.max_queued_rows:
            return Refusal("queue_full", self.admission.drain_s(now))
        if flow.pool.active:
            return self.admission.judge(rows, deadline, now)
        if deadline <= now:
            return Refusal("deadline", 0.0)
        flow.counts.cold += 1
        return None

    def decide(self, plan: int, now: float, late: list[Ticket]) -> Send | None:
        """What to send if the next replica is this line's; None while it waits for company, or when nothing is left.

        Asked again within one plan it answers from memory. `late` receives what is shed.
        """
        queue = self.queue
        if self.judged_in == plan:
            return self.send
        if now < self.until and queue.rows < self.wake_rows:
            return None
        self.judged_in = plan
        self._tell_arrivals()
        shed = shed_late(queue, self.costs, self.limits, now)
        if shed:
            self._gave_up(shed)
            late += shed
        decision = decide(queue, self.costs, self.arrivals, self.limits, now, share=self._replicas_for_it())
        if isinstance(decision, Send):
            self.send = decision
            self.until = -math.inf
        else:
            self.send = None
            self.until = decision.until
            self.wake_rows = decision.rows
        return self.send

    def _replicas_for_it(self) -> int:
        """How many replicas this line may count on, with those that wait beside it."""
        replicas = self.replicas()
        if replicas > 1:
            flow, device = self.flow, self.flow.pool.device
            weights = device.waiting_weight(None if device.concurrency else flow.pool)
            replicas = int(replicas * flow.share.weight / weights / len(flow.waiting))
        return max(1, replicas)

    def take(self, rows: int) -> tuple[list[Ticket], int]:
        """The tickets of a batch of at most `rows` rows, and their rows."""
        queue, flow = self.queue, self.flow
        waited = queue.rows
        tickets = queue.take(rows)
        taken = waited - queue.rows
        flow.rows -= taken
        self.judged_in = 0
        if not queue.tickets:
            self._rest()
        return tickets, taken

    def sent(self, tickets: int) -> None:
        """A batch of so many tickets leaves."""
        self._tell_arrivals()
        self.in_flight += 1
        self.flow.counts.in_flight += tickets
        self.arrivals.sent(self.queue.tickets, tickets)

    def answered(self, tickets: int, now: float) -> None:
        """A batch of so many tickets is over, by whatever outcome."""
        self._tell_arrivals()
        self.in_flight -= 1
        self.flow.counts.in_flight -= tickets
        self.arrivals.answered(now, tickets)
        self.until = -math.inf

    def cancel(self, ticket: Ticket) -> None:
        """A waiting ticket is not wanted any more."""
        self.queue.cancel(ticket)
        self.flow.counts.cancelled += 1
        self._left(1, ticket.rows)

    def cancel_suspect(self) -> None:
        """One of its tickets that waited for a second attempt is not wanted any more."""
        self.flow.counts.suspects -= 1
        self.flow.counts.cancelled += 1

    def give_up_suspect(self) -> None:
        """The deadline of one of its tickets that waited for a second attempt passed."""
        self.flow.counts.suspects -= 1
        self.flow.counts.expired += 1

    def expire(self, now: float) -> list[Ticket]:
        """Take out what is due; `now` may be inf."""
        gone = self.queue.expire(now)
        if gone:
            self._gave_up(gone)
        return gone

    def _gave_up(self, tickets: list[Ticket]) -> None:
        self.flow.counts.expired += len(tickets)
        self._left(len(tickets), sum([ticket.rows for ticket in tickets]))

    def _left(self, tickets: int, rows: int) -> None:
        self._tell_arrivals()
        self.arrivals.left(tickets)
        self.flow.rows -= rows
        self.until = -math.inf
        if not self.queue.tickets:
            self._rest()

    def _rest(self) -> None:
        self.until = -math.inf
        self.flow.end_waiting(self)

    def _tell_arrivals(self) -> None:
        if self._new:
            self.arrivals.arrived(self._newest, self.queue.tickets, self._new)
            self._new = 0

    def earliest_deadline(self) -> float:
        """Of what waits; inf when nothing does."""
        head = self.queue.head()
        return math.inf if head is None else head.deadline

    def work_s(self, deadline: float = math.inf) -> float:
        """Predicted seconds of one replica for what waits here and leaves before `deadline`."""
        rows = self.queue.rows if deadline == math.inf else self.queue.rows_before(deadline)
        return self.admission.work_s(rows)

    def is_idle(self) -> bool:
        """Nothing is in flight where its batches go, and nobody else waits there. O(1)."""
        flow = self.flow
        pool, device = flow.pool, flow.pool.device
        if pool.slots.ends or device.slots.ends or pool.suspects.tickets or len(flow.waiting) > 1:
            return False
        return not device.waiting or (len(device.waiting) == 1 and flow in device.waiting)

    def replicas(self) -> int:
        """Batches of the pool that can be computed at once."""
        pool = self.flow.pool
        return min(pool.slots.count, pool.device.slots.count)

    def busy_s(self, now: float) -> float:
        """Seconds until a replica of the pool is free, and a slot of its device."""
        pool = self.flow.pool
        busy_s = pool.slots.busy_s(now)
        return max(busy_s, pool.device.slots.busy_s(now)) if pool.device.concurrency else busy_s

    def ahead_s(self, own_s: float, batch_s: float, deadline: float) -> float:
        """`own_s` over the replicas, with what its flow's other keys and other flows may send meanwhile.

        Another flow counts with its backlog, but never with more than its weight lets it take while this flow does its
        own work. O(1) while nobody else waits, O(flows that wait) otherwise.
        """
        flow = self.flow
        pool, device = flow.pool, flow.pool.device
        if len(flow.waiting) > 1:
            own_s += flow.work_s(deadline, besides=self)
        pool_s = device_s = own_s + pool.suspects.tickets * self.costs.p50(1)
        if len(device.waiting) > 1 or flow not in device.waiting:
            for other in device.waiting:
                if other is flow or not (device.concurrency or other.pool is pool):
                    continue
                owed_s = min(other.work_s(), (own_s + batch_s) * other.share.weight / flow.share.weight)
                device_s += owed_s
                if other.pool is pool:
                    pool_s += owed_s
        return max(pool_s / self.replicas(), device_s / device.slots.count)


def line_of(ticket: Ticket) -> Line:
    """The line that admitted the ticket.

    Raises:
        TypeError: None did. This is a bug in slipway.
    """
    if not isinstance(ticket.line, Line):
        msg = f"a ticket of {ticket.rows} rows was never admitted by a dispatcher: this is a bug in slipway"
        raise TypeError(msg)
    return ticket.line
