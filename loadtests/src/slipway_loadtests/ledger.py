"""What one worker counts until a window is over, and how the windows of several workers become one.

It sends nothing and asks no clock. The invariants: what was due in the warm-up and is settled after it counts nowhere;
everything else is in exactly one window; merging is adding, so the order of the workers means nothing.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

from slipway_signals.gate.histogram import Histogram, Sketch
from slipway_signals.gate.load_plan import LoadPlan
from slipway_signals.gate.records import Arm, Counts, Generator, Pairs, Window
from slipway_signals.gate.tally import ArmTally, PairTally

__all__ = ["Ledger", "merge_windows", "warm_until"]

Buckets = TypeVar("Buckets", Histogram, Sketch)


def warm_until(plan: LoadPlan) -> float:
    """When the warm-up is over, in seconds from the start: at the end of a window."""
    return math.ceil(plan.warm_up_s / plan.window_s - 1e-9) * plan.window_s


class Ledger:
    """The counts of one worker."""

    def __init__(self, plan: LoadPlan) -> None:
        self.arms: dict[Arm, ArmTally] = {arm: ArmTally() for arm in plan.arms}
        self.pairs = PairTally(plan.tolerances)
        self.offered = 0
        self.dropped = 0
        self.slips_us: list[int] = []
        self._window_s = plan.window_s
        self._warm_until = warm_until(plan)

    def take(self, index: int, end_s: float, cpu_share: float, sockets: tuple[int, int]) -> Window:
        """The window that is over, and begin anew.

        Args:
            index: of the window, from 0.
            end_s: when it ended; before its time when the run was stopped.
            cpu_share: of one core, of this process.
            sockets: how many files it has open, and how many it may.
        """
        generator = Generator(
            offered=self.offered,
            dropped=self.dropped,
            slip_us=Histogram.of(self.slips_us),
            cpu_share=cpu_share,
            sockets=sockets[0],
            sockets_limit=sockets[1],
        )
        self.offered = self.dropped = 0
        self.slips_us = []
        begin_s = index * self._window_s
        return Window(
            index=index,
            begin_s=begin_s,
            end_s=end_s,
            is_warm_up=begin_s < self._warm_until - 1e-9,
            arms={arm: tally.take() for arm, tally in self.arms.items()},
            pairs=self.pairs.take(),
            generator=generator,
        )


def merge_windows(parts: Sequence[Window]) -> Window:
    """One window out of those of all workers, of the same index; sockets and their limits add up."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Window(
        index=first.index,
        begin_s=min(part.begin_s for part in parts),
        end_s=max(part.end_s for part in parts),
        is_warm_up=first.is_warm_up,
        arms={arm: _counts([part.arms[arm] for part in parts]) for arm in first.arms},
        pairs=Pairs(
            compared=sum(part.pairs.compared for part in parts),
            disagreed=_sum([part.pairs.disagreed for part in parts]),
        ),
        generator=_generator([part.generator for part in parts]),
    )


def _counts(parts: Sequence[Counts]) -> Counts:
    labels = {name for part in parts for name in part.labels}
    outputs = {name for part in parts for name in part.outputs}
    return Counts(
        sent=sum(part.sent for part in parts),
        succeeded=sum(part.succeeded for part in parts),
        failed=_sum([part.failed for part in parts]),
        latency_us=_merged(Histogram(), [part.latency_us for part in parts]),
        first_sent=sum(part.first_sent for part in parts),
        digests=_sum([part.digests for part in parts]),
        malformed=sum(part.malformed for part in parts),
        outputs={
            name: _merged(Sketch(), [part.outputs[name] for part in parts if name in part.outputs])
            for name in sorted(outputs)
        },
        labels={name: _sum([part.labels.get(name, {}) for part in parts]) for name in sorted(labels)},
        labelled=sum(part.labelled for part in parts),
        correct=sum(part.correct for part in parts),
    )


def _generator(parts: Sequence[Generator]) -> Generator:
    offsets = [part.clock_offset_s for part in parts if part.clock_offset_s is not None]
    return Generator(
        offered=sum(part.offered for part in parts),
        dropped=sum(part.dropped for part in parts),
        slip_us=_merged(Histogram(), [part.slip_us for part in parts]),
        cpu_share=max(part.cpu_share for part in parts),
        sockets=sum(part.sockets for part in parts),
        sockets_limit=sum(part.sockets_limit for part in parts),
        clock_offset_s=max(offsets, key=abs, default=None),
    )


def _sum(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _merged(into: Buckets, parts: Sequence[Buckets]) -> Buckets:
    for part in parts:
        into.merge(part)
    return into
