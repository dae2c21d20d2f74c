"""Runner pools: a bounded queue, batching against deadlines, and the lanes that compute."""

from slipway_runtime.errors import DeadlineExceeded, ModelFailed, Refused, RefusedReason, RowsExceeded
from slipway_runtime.observer import Observer, SendReason, SilentObserver
from slipway_runtime.pool import Pool
from slipway_runtime.request import Answer, Limits, Ticket
from slipway_runtime.tally import DrainReport, PoolStatistics

__all__ = [
    "Answer",
    "DeadlineExceeded",
    "DrainReport",
    "Limits",
    "ModelFailed",
    "Observer",
    "Pool",
    "PoolStatistics",
    "Refused",
    "RefusedReason",
    "RowsExceeded",
    "SendReason",
    "SilentObserver",
    "Ticket",
]
