"""The metrics of a split: who was sent where, what came back, what copies showed. Wired into `metrics.ALL`.

An arm is a label: there are 16 at most, and the configuration names them.
"""

from typing import Final, Literal, TypeAlias, get_args

from slipway_signals.slotfile import Metric

__all__ = ["ALL", "Chosen", "Copied"]

Chosen: TypeAlias = Literal["weight", "sticky", "override", "fallback"]
"""Why an arm has a request: drawn by weight, by its key, named by a trusted caller, or in place of one that is away."""
CHOSEN: Final[tuple[Chosen, ...]] = get_args(Chosen)
Copied: TypeAlias = Literal["agreed", "differed", "failed", "unread", "dropped"]
"""How a copy ended: `unread` where answers are no JSON; `dropped` was not sent, because too many waited."""
COPIED: Final[tuple[Copied, ...]] = get_args(Copied)

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

SPLIT_REQUESTS: Final = Metric(
    "slipway_split_requests_total",
    "counter",
    "Requests by the arm that was asked, and why that one: weight, sticky, override, fallback.",
    ("arm", "chosen"),
)
SPLIT_ANSWERS: Final = Metric(
    "slipway_split_answers_total",
    "counter",
    "How requests to an arm ended: 2xx, 3xx, 4xx, 5xx, connection, timeout, protocol, busy, client_left.",
    ("arm", "result"),
)
SPLIT_DURATION: Final = Metric(
    "slipway_split_request_duration_seconds",
    "histogram",
    "Time from the complete request until the arm's answer was complete.",
    ("arm",),
    SECONDS,
)
SPLIT_OWN: Final = Metric(
    "slipway_split_refused_total",
    "counter",
    "Requests that the split itself answered with an error, before any arm, by code.",
    ("code",),
)
SPLIT_WEIGHT: Final = Metric(
    "slipway_split_weight_ratio", "gauge", "Share of the requests that each arm is to get.", ("arm",), merge="max"
)
SPLIT_COPIES: Final = Metric(
    "slipway_split_copies_total",
    "counter",
    "Copies for the shadow by how they ended: agreed, differed, failed, unread, dropped.",
    ("result",),
)
SPLIT_FROZEN: Final = Metric(
    "slipway_split_frozen", "gauge", "1 while a guardrail keeps Thompson sampling from changing shares.", merge="max"
)
SPLIT_STALE: Final = Metric(
    "slipway_split_stale_files",
    "gauge",
    "Configuration, keys and certificates that changed and could not be read again: those before are in use.",
    merge="max",
)
SPLIT_WINDOWS_LOST: Final = Metric(
    "slipway_split_windows_lost_total", "counter", "Windows that could not be written to their file."
)

ALL: Final = (
    *(SPLIT_REQUESTS, SPLIT_ANSWERS, SPLIT_DURATION, SPLIT_OWN, SPLIT_WEIGHT),
    *(SPLIT_COPIES, SPLIT_FROZEN, SPLIT_STALE, SPLIT_WINDOWS_LOST),
)
