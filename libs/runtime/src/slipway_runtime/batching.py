"""When a batch leaves, and how large it is.

It reads no clock, keeps no state and touches no ticket: the same function serves the in-process lane, the dispatcher of
a runner pool and the simulator. The invariants: a batch never exceeds max_rows; its predicted p95 meets the earliest
deadline unless not even the earliest ticket alone could; every wait has an end, and nothing waits when nobody is
expected, so one client alone is never delayed.

The rule (`docs/batching.md`): with n rows waiting, cost C(n) and dt the predicted time to the
next arrival of r rows, waiting raises throughput iff (n+r) / (C(n+r) + dt) > n / C(n). Sending at once whatever is
there splits closed-loop traffic in two: 66 to 86 % of the optimum. The wait ends at the earliest of: the burst is
over; the gather window; one batch cost after gathering began; the last moment that meets the earliest deadline.
"""

import math
from typing import TypeAlias

import msgspec

from slipway_runtime.arrivals import ArrivalPredictor
from slipway_runtime.latency import CostTable
from slipway_runtime.observer import SendReason
from slipway_runtime.queue import TicketQueue
from slipway_runtime.request import Limits, Ticket

__all__ = ["Decision", "Send", "Wait", "decide", "last_moment", "shed_late"]

_GOOD_ENOUGH = 0.95
"""A batch shrunk for a tight deadline may cost this much of the throughput of a full one before the tight are shed."""


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send the earliest tickets that fit in `rows` rows, now."""

    rows: int
    reason: SendReason


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Ask again at `until`, or as soon as `rows` rows wait, or when a batch was answered."""

    until: float
    rows: int


Decision: TypeAlias = Send | Wait

_RESERVE_S = 0.002
"""What a wait leaves over before the last moment: timers of event loops count whole milliseconds."""

_HALF = 0.4
"""Share of the clients that counts as half of them: when two halves take turns, nobody waits for the other half."""

_NOTHING_WAITS = Wait(math.inf, 1)


def decide(
    queue: TicketQueue,
    costs: CostTable,
    arrivals: ArrivalPredictor,
    limits: Limits,
    now: float,
    *,
    flush: bool = False,
    share: int = 1,
) -> Decision:
    """What a free replica should do at `now` (seconds, the clock of the deadlines).

    Call it when a replica is free: after an answer, after an arrival, at `Wait.until`. Expired tickets must have been
    taken out before (`queue.expire(now)`). O(log max_rows), about 2 us.

    Args:
        queue: What waits. Read only.
        costs: The cost table of the replica.
        arrivals: The predictor that saw the pool's arrivals, sends and answers.
        limits: Bounds of the pool.
        now: The present.
        flush: Wait for nobody: the pool drains.
        share: Replicas that may compute for this queue at once. With more than one, the tickets that are believed to
            exist are divided among them, so that one batch does not take all clients while the other replicas idle.
    """
    head = queue.head()
    if head is None:
        return _NOTHING_WAITS
    waiting = queue.rows
    largest = limits.max_rows
    if share > 1:
        believed = math.ceil(arrivals.population * waiting / queue.tickets / share)
        largest = max(head.rows, min(largest, believed))
    rows = min(waiting, largest)
    slack_s = head.deadline - now
    if costs.p95(rows) > slack_s:
        return Send(_rows_in_time(head, costs, rows, slack_s), "deadline")
    if waiting >= largest:
        return Send(rows, "full")
    if flush:
        return Send(rows, "flush")
    if limits.gather_s == 0.0 or not arrivals.expects_more(queue.tickets):
        return Send(rows, "idle")
    together = _everybody(queue, costs, arrivals, limits, largest, now)
    if together is not None:
        return together
    more = rows + max(1, round(waiting / queue.tickets))
    if more > largest or not _is_worth_waiting(rows, more, costs, arrivals.gap_s):
        return Send(rows, "knee")
    quiet = arrivals.quiet_at(queue.tickets)
    window = arrivals.gather_since + min(limits.gather_s, costs.p50(rows))
    latest = last_moment(head.deadline, costs, more)
    until = min(quiet, window, latest)
    if until <= now:
        return Send(rows, "deadline" if latest <= now else "idle")
    return Wait(until, min(largest, waiting + arrivals.missing(queue.tickets)))


def _everybody(
    queue: TicketQueue, costs: CostTable, arrivals: ArrivalPredictor, limits: Limits, largest: int, now: float
) -> Decision | None:
    """Wait until everybody who was answered last is back, when one batch of all is better than two halves in turn.

    The next arrival alone never is, when answers take a while to be written and read: it is the whole crowd that is.
    Clients in a closed loop would split in two for good otherwise, and each half would pay the fixed cost. Two halves
    in turn hide the way back of the other half, so all together are better only if C(N) + return < 2 C(N/2).
    """
    waiting = queue.rows
    rows = min(waiting, largest)
    crowd = min(largest, waiting + round(arrivals.missing(queue.tickets) * waiting / queue.tickets))
    back_at = arrivals.back_at
    if crowd <= rows or back_at == math.inf:
        return None
    together_s = costs.p50(crowd) + arrivals.return_s(round(crowd * queue.tickets / waiting))
    if together_s >= 2.0 * costs.p50(max(1, crowd // 2)):
        return Send(rows, "knee") if rows >= _HALF * crowd else None
    if crowd * costs.p50(rows) <= rows * (costs.p50(crowd) + max(0.0, back_at - now)):
        return None
    head = queue.head()
    latest = math.inf if head is None else last_moment(head.deadline, costs, crowd)
    until = min(back_at, arrivals.gather_since + min(limits.gather_s, costs.p50(rows)), latest)
    return Wait(until, crowd) if until > now else None


def last_moment(deadline: float, costs: CostTable, rows: int) -> float:
    """Until when a wait may last, when a batch of `rows` rows must be answered by `deadline`."""
    return deadline - costs.p95(rows) - _RESERVE_S


def shed_late(queue: TicketQueue, costs: CostTable, limits: Limits, now: float) -> list[Ticket]:
    """Take out and return the earliest tickets that are lost, or that would cost others more than they are worth.

    Call it when a replica is free, before `decide`. When the earliest deadline is too tight for all that waits, a
    smaller batch is the answer as long as the tickets behind it still meet theirs. In an overload they would not: every
    batch would shrink for a head that is nearly late, capacity would fall, and all heads would be late (at three times
    the capacity less than a tenth of the peak was answered in time, simulated). Shedding a few heads once puts every
    batch behind them back in time. Source: early drop in Nexus (SOSP 2019, section 6.3), made conditional.

    A ticket that is alone is never shed, however slow the table believes the model to be: it is the probe that corrects
    the table. O(log n) for each ticket shed.
    """
    shed: list[Ticket] = []
    while queue.tickets > 1 and (head := queue.head()) is not None:
        rows = min(queue.rows, limits.max_rows)
        slack_s = head.deadline - now
        if costs.p95(rows) <= slack_s or (
            slack_s >= costs.p50(head.rows) and _can_shrink(queue, costs, limits, rows, slack_s, now)
        ):
            break
        queue.discard_head()
        shed.append(head)
    return shed


def _can_shrink(queue: TicketQueue, costs: CostTable, limits: Limits, rows: int, slack_s: float, now: float) -> bool:
    fits = costs.largest_within(slack_s, rows)
    if fits < 1:
        return False
    cost_s = costs.p50(fits)
    left = min(queue.rows - fits, limits.max_rows)
    if left < 1 or queue.deadline_behind(fits) - now - cost_s >= costs.p95(left):
        return True
    return fits * costs.p50(rows) >= _GOOD_ENOUGH * rows * cost_s


def _is_worth_waiting(rows: int, more: int, costs: CostTable, gap_s: float) -> bool:
    return more * costs.p50(rows) > rows * (costs.p50(more) + gap_s)


def _rows_in_time(head: Ticket, costs: CostTable, rows: int, slack_s: float) -> int:
    """The largest batch that still meets the earliest deadline, when all that waits is too much for it.

    When not even the head alone would meet it, the head is probably lost: it must not shrink the batch of the tickets
    behind it as well, so the batch is sized for throughput.
    """
    fits = costs.largest_within(slack_s, rows)
    return fits if fits >= head.rows else rows
