"""What the dispatcher tells about itself: replicas and batches of each pool, counts of each model, queues of each line.

It changes nothing. The invariant is that of `tallies`: `is_conserved` holds for every model at any moment.
"""

from collections.abc import Iterable

import msgspec

from slipway_runtime.dispatch.flow import Flow
from slipway_runtime.dispatch.replicas import Replica, RunnerPool
from slipway_runtime.latency import CostPoint
from slipway_runtime.observer import SendReason
from slipway_runtime.queue import QueueStatistics

__all__ = ["DispatcherStatistics", "LineStatistics", "ModelStatistics", "RunnerPoolStatistics", "report"]


class LineStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One key of one model."""

    key: bytes
    queue: QueueStatistics
    in_flight: int
    """Batches."""
    costs: tuple[CostPoint, ...]
    """Learned seconds from sent to landed, by rows."""


class ModelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One model of one pool. Counts are tickets since the start, except where a name says otherwise."""

    name: str
    admitted: int
    cold: int
    """Admitted while the pool had no active replica."""
    answered: int
    """In a batch that landed; whether the model failed for one of them the shell knows."""
    expired: int
    cancelled: int
    retried: int
    """Second attempts; not an end."""
    quarantined: int
    dropped: int
    """In flight on a replica that was lost after the pool had been dropped."""
    refused: dict[str, int]
    waiting: int
    suspects: int
    """Waiting for their second attempt; part of `waiting`."""
    in_flight: int
    batches: dict[SendReason, int]
    lost_batches: int
    computed_rows: int
    used_s: float
    """Seconds of replicas, as predicted while in flight and as measured after."""
    lines: tuple[LineStatistics, ...]

    @property
    def is_conserved(self) -> bool:
        """Whether no ticket was lost or counted twice."""
        ended = self.answered + self.expired + self.cancelled + self.quarantined + self.dropped
        return self.admitted == ended + self.waiting + self.in_flight


class RunnerPoolStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One pool."""

    name: str
    device: str
    active: int
    standby: int
    leaving: int
    in_flight: int
    """Batches."""
    models: tuple[ModelStatistics, ...]

    def queued(self) -> dict[str, int]:
        """Tickets that wait, by model."""
        return {model.name: model.waiting for model in self.models}


class DispatcherStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of everything."""

    pools: tuple[RunnerPoolStatistics, ...]


def report(pools: Iterable[RunnerPool], replicas: Iterable[Replica]) -> DispatcherStatistics:
    """How they are now. O(pools, models, keys)."""
    known = list(replicas)
    return DispatcherStatistics(
        pools=tuple(_pool(pool, [replica for replica in known if replica.pool is pool]) for pool in pools)
    )


def _pool(pool: RunnerPool, replicas: list[Replica]) -> RunnerPoolStatistics:
    return RunnerPoolStatistics(
        name=pool.spec.name,
        device=pool.spec.device,
        active=len(pool.active),
        standby=len(pool.standby),
        leaving=sum(replica.role == "leaving" for replica in replicas),
        in_flight=sum(len(replica.flights) for replica in replicas),
        models=tuple(_model(flow) for flow in pool.flows.values()),
    )


def _model(flow: Flow) -> ModelStatistics:
    counts = flow.counts
    return ModelStatistics(
        name=flow.spec.name,
        admitted=counts.admitted,
        cold=counts.cold,
        answered=counts.answered,
        expired=counts.expired,
        cancelled=counts.cancelled,
        retried=counts.retried,
        quarantined=counts.quarantined,
        dropped=counts.dropped,
        refused=dict(counts.refused),
        waiting=sum(line.queue.tickets for line in flow.lines.values()) + counts.suspects,
        suspects=counts.suspects,
        in_flight=counts.in_flight,
        batches=dict(counts.batches),
        lost_batches=counts.lost_batches,
        computed_rows=counts.computed_rows,
        used_s=flow.share.used_s,
        lines=tuple(
            LineStatistics(key=key, queue=line.queue.statistics(), in_flight=line.in_flight, costs=line.costs.points())
            for key, line in flow.lines.items()
        ),
    )
