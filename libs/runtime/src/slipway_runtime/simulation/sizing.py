"""How many replicas, and batches of what size, a load needs: the smallest pool that keeps its promise in simulation.

Pure. A promise is kept when the wanted share of all requests is answered within the wanted time, the refused counted
against it. The search is over powers of two for the batch and all numbers of replicas, smallest first: more replicas
never help a batch that is too slow alone, so a size whose single row misses the time is left out.
"""

from collections.abc import Sequence

import msgspec

from slipway_bundle.errors import UsageError
from slipway_runtime.simulation.costs import Cost
from slipway_runtime.simulation.optimum import best_rate
from slipway_runtime.simulation.run import Outcome, Setup, simulate
from slipway_runtime.simulation.traces import Arrival

__all__ = ["Choice", "SizingError", "choose"]

_PATIENCE = 2
"""Numbers of replicas tried beyond what throughput alone asks for, times this, before giving up."""


class SizingError(UsageError):
    """No pool of a sensible size keeps the promise."""

    code = "sizing_impossible"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A pool that keeps the promise."""

    replicas: int
    max_rows: int
    """The smallest power of two that does, with so many replicas."""
    kept: float
    """Share of the requests that were answered within the time."""
    outcome: Outcome
    tried: tuple[tuple[int, int, float], ...]
    """(replicas, max_rows, kept) of every pool that was simulated."""


def choose(
    arrivals: Sequence[Arrival],
    cost: Cost,
    setup: Setup,
    *,
    within_s: float,
    share: float = 0.99,
    most_replicas: int = 256,
) -> Choice:
    """The fewest replicas, then the smallest batches, that answer `share` of the requests within `within_s`.

    Args:
        arrivals: the load.
        cost: of a batch.
        setup: all but `replicas`, `max_rows` and `deadline_s`; its `max_rows` is the largest batch to try.
        within_s: from arrival to answer.
        share: of all requests, refused ones included.
        most_replicas: where to give up.

    Raises:
        SizingError: a single row takes too long, or not even `most_replicas` are enough.
    """
    alone_s = cost.mean_s(1) + setup.overhead_s
    if alone_s > within_s:
        raise SizingError(
            f"one row alone takes {alone_s * 1e3:.1f} ms, expected at most {within_s * 1e3:.1f} ms",
            hint="no number of replicas makes a single batch faster: a faster device or model does",
        )
    sizes = [1 << power for power in range(setup.max_rows.bit_length()) if 1 << power <= setup.max_rows]
    rows = sum(arrival.rows for arrival in arrivals)
    seconds = max(arrivals[-1].at if arrivals else 0.0, 1e-9)
    fewest = max(1, int(rows / seconds / best_rate(cost, setup.max_rows)))
    tried: list[tuple[int, int, float]] = []
    for replicas in range(fewest, min(most_replicas, _PATIENCE * fewest + 8) + 1):
        best: Choice | None = None
        for size in reversed(sizes):
            outcome = simulate(
                arrivals,
                cost,
                msgspec.structs.replace(setup, replicas=replicas, max_rows=size, deadline_s=within_s),
            )
            kept = outcome.in_time / max(outcome.offered, 1)
            tried.append((replicas, size, kept))
            if kept < share:
                if best is not None or size < sizes[-1] // 2:
                    break
                continue
            best = Choice(replicas=replicas, max_rows=size, kept=kept, outcome=outcome, tried=())
        if best is not None:
            return msgspec.structs.replace(best, tried=tuple(tried))
    raise SizingError(
        f"no pool of up to {replicas} replicas answers {share:.1%} within {within_s * 1e3:g} ms; "
        f"the best kept {max(kept for *_, kept in tried):.1%}",
        hint="allow more time or a lower share, or make the batch cheaper",
    )
