"""The metrics of access: who is not let in, by reason, and files that could not be read again.

Wired into `metrics.ALL`. A client is never a label: there may be any number of them, and their names are their own.
"""

from typing import Final, Literal, TypeAlias, get_args

from slipway_signals.slotfile import Metric

__all__ = ["ACCESS_REFUSED", "ACCESS_STALE", "ALL", "REASONS", "AccessReason"]

AccessReason: TypeAlias = Literal["missing", "invalid", "expired", "kind", "scope", "rate", "quota", "unavailable"]
REASONS: Final[tuple[AccessReason, ...]] = get_args(AccessReason)

ACCESS_REFUSED: Final = Metric(
    "slipway_access_refused_total",
    "counter",
    "Requests that were not let in, by reason: missing, invalid, expired, kind, scope, rate, quota, unavailable.",
    ("reason",),
)
ACCESS_STALE: Final = Metric(
    "slipway_access_stale_files",
    "gauge",
    "Keys, issuers' keys and certificates that changed and could not be read again: those before are in use.",
    merge="max",
)

ALL: Final = (ACCESS_REFUSED, ACCESS_STALE)
