"""How many requests a scheduler that knows the future could answer in time: exactly for small cases, bounded for all.

Exact, for one replica, one row a request, one deadline length and costs without noise: among the schedules that are
best, one serves requests in order of arrival, in batches of requests that are neighbours in the trace (an exchange
argument: with deadlines in order of arrival, a batch that skips one may as well take it instead of its earliest). So
the earliest end of any schedule that answers k of the first j requests follows from shorter ones, O(n^2 B).

The bound: replicas that compute at their best rate without interruption, and for nobody longer than a single row takes.
No scheduler can answer more: it is a relaxation of every rule that costs time.
"""

import math
from collections.abc import Sequence

from slipway_runtime.simulation.costs import Cost
from slipway_runtime.simulation.traces import Arrival

__all__ = ["best_rate", "most_in_time", "upper_bound"]


def best_rate(cost: Cost, max_rows: int) -> float:
    """The most rows a second that one replica can compute, in batches of any size up to `max_rows`."""
    return max(rows / cost.mean_s(rows) for rows in range(1, max_rows + 1))


def most_in_time(arrivals: Sequence[Arrival], cost: Cost, *, deadline_s: float, max_rows: int) -> int:
    """The exact optimum; a few seconds for 300 arrivals and batches of 64.

    Args:
        arrivals: in order of time, one row each.
        cost: its noise is left out.
        deadline_s: from each arrival to its deadline.
        max_rows: of a batch.
    """
    if any(arrival.rows != 1 for arrival in arrivals):
        raise ValueError("this is a bug in slipway: the exact optimum is for one row a request")
    times = [arrival.at for arrival in arrivals]
    count = len(times)
    costs = [0.0, *(cost.mean_s(rows) for rows in range(1, max_rows + 1))]
    # ends[k][j]: the earliest end of a schedule that answers k in time, all of them among the first j.
    ends = [[-math.inf] * (count + 1)]
    while True:
        answered = len(ends)
        row = [math.inf] * (count + 1)
        for last in range(answered, count + 1):
            best = row[last - 1]
            arrived = times[last - 1]
            for size in range(1, min(answered, max_rows) + 1):
                end = max(ends[answered - size][last - size], arrived) + costs[size]
                if end < best and end <= times[last - size] + deadline_s:
                    best = end
            row[last] = best
        if row[count] == math.inf:
            return answered - 1
        ends.append(row)


def upper_bound(arrivals: Sequence[Arrival], cost: Cost, *, deadline_s: float, max_rows: int, replicas: int) -> int:
    """More than any scheduler can answer in time, and not much more when requests are many; O(n)."""
    row_s = 1.0 / (best_rate(cost, max_rows) * replicas)
    shortest_s = cost.mean_s(1)
    if shortest_s > deadline_s:
        return 0
    free_at, answered = -math.inf, 0
    for arrival in arrivals:
        # Equal work and deadlines in order: taking whoever can still be in time, first come first, is best.
        end = max(free_at, arrival.at) + arrival.rows * row_s
        if end <= arrival.at + deadline_s:
            free_at = end
            answered += 1
    return answered
