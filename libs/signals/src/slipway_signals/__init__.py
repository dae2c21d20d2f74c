"""Metrics that merge over processes.

The names here are what a worker needs to count; they load in a few milliseconds. What shows the counts has its own
modules, because it brings prometheus_client along: `slipway_signals.collector` and `slipway_signals.admin`.
"""

from slipway_signals.instruments import ServiceMetrics, SupervisorMetrics
from slipway_signals.pool_instruments import PoolMetrics
from slipway_signals.slotfile import Metric, SlotError, make_slot_fd
from slipway_signals.slots import Counter, Gauge, Histogram, Slots

__all__ = [
    "Counter",
    "Gauge",
    "Histogram",
    "Metric",
    "PoolMetrics",
    "ServiceMetrics",
    "SlotError",
    "Slots",
    "SupervisorMetrics",
    "make_slot_fd",
]
