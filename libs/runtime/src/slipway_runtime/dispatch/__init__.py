"""The dispatcher's pure core: which batch goes to which replica, when, and what is refused, retried or given up."""

from slipway_runtime.dispatch.outcome import Batch, Loss, Plan
from slipway_runtime.dispatch.planner import Dispatcher
from slipway_runtime.dispatch.reports import (
    DispatcherStatistics,
    LineStatistics,
    ModelStatistics,
    RunnerPoolStatistics,
)
from slipway_runtime.dispatch.spec import ModelSpec, PoolSpec

__all__ = [
    "Batch",
    "Dispatcher",
    "DispatcherStatistics",
    "LineStatistics",
    "Loss",
    "ModelSpec",
    "ModelStatistics",
    "Plan",
    "PoolSpec",
    "RunnerPoolStatistics",
]
