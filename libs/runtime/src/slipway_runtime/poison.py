"""Which tickets of a failed batch are bad: bisection, so that one bad ticket fails alone.

It answers nobody and reads no clock. The invariants: every ticket comes back in exactly one part, or in none when it is
not wanted any more; a ticket fails only after it failed alone, unless the bounded number of calls is used up; compute
is called at most `calls` times. One bad ticket of n costs at most 2 log2(n) calls.

Every part is run, also when the failure "must" be in it: a batch may fail as a whole for lack of memory, and then each
half is good. Compute must be free of side effects, as a batcher requires anyway.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from slipway_runtime.request import Ticket

__all__ = ["Compute", "Part", "isolate"]

Compute: TypeAlias = Callable[[Sequence[bytes], int], object]
"""Payloads of a batch and the rows in all of them → one result whose leading axis is those rows, in that order."""


class Part(msgspec.Struct, frozen=True):
    """Tickets with one fate: answered together by `result`, or all failed by `error`."""

    tickets: Sequence[Ticket]
    result: object = None
    error: Exception | None = None


def isolate(
    compute: Compute,
    tickets: Sequence[Ticket],
    error: Exception,
    *,
    calls: int,
    is_wanted: Callable[[Ticket], bool],
) -> list[Part]:
    """Bisect a batch that raised `error`; blocks for up to `calls` calls of `compute`.

    Args:
        compute: What raised; called with ever smaller parts of the batch.
        tickets: The batch.
        error: What compute raised for the whole of it.
        calls: Bound of the calls; what is undecided then fails with the error of the smallest part it was in.
        is_wanted: False for a ticket that has been cancelled or has expired: it is left out and never computed again.
    """
    parts: list[Part] = []
    suspects: list[tuple[Sequence[Ticket], Exception]] = [(tickets, error)]
    while suspects:
        group, raised = suspects.pop()
        if len(group) == 1 or calls <= 0:
            parts.append(Part(group, error=raised))
            continue
        middle = len(group) // 2
        for half in (group[:middle], group[middle:]):
            wanted = [ticket for ticket in half if is_wanted(ticket)]
            if not wanted:
                continue
            if calls <= 0:
                parts.append(Part(wanted, error=raised))
                continue
            calls -= 1
            try:
                result = compute([ticket.payload for ticket in wanted], sum(ticket.rows for ticket in wanted))
            except Exception as cause:  # noqa: BLE001 - a model may raise anything; it is handed to its tickets
                suspects.append((wanted, cause))
            else:
                parts.append(Part(wanted, result))
    return parts
