"""What fires now, over all services: what Prometheus sees, and whether Alertmanager tells it.

It only reads. The invariant: without an Alertmanager the list is complete, and nobody claims to know who is told.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from slipway_signals.alertmanager import Routed, routed_as
from slipway_signals.prometheus import ActiveAlert, Prometheus

__all__ = ["Firing", "firing"]

SEVERITIES: Final = ("page", "ticket", "info")
NOT_SHOWN: Final = frozenset({"SlipwayWatchdog"})
"""It always fires; that it is missing is what its receiver tells."""


class Firing(Struct, frozen=True, kw_only=True):
    """An alert that fires or is about to."""

    alert: ActiveAlert
    is_told: bool | None
    """None where no Alertmanager was asked, or it does not know the alert (yet)."""

    quiet_because: str = ""
    """Why it is not told: `silenced until …`, `SlipwayServiceDown fires, …`."""


def firing(prometheus: Prometheus, routed: Sequence[Routed] = ()) -> tuple[Firing, ...]:
    """Every alert but the watchdog: firing before pending, pages before tickets, then the longest.

    Args:
        prometheus: Whom to ask.
        routed: What Alertmanager knows; empty where none was asked.

    Raises:
        PrometheusError: it cannot be asked.
    """
    found = []
    for alert in prometheus.alerts():
        if alert.name in NOT_SHOWN:
            continue
        known = routed_as(alert.labels, routed)
        is_told = None if known is None else not known.is_muted
        found.append(Firing(alert=alert, is_told=is_told, quiet_because=known.because if known else ""))
    return tuple(sorted(found, key=_urgency))


def _urgency(one: Firing) -> tuple[bool, int, float]:
    severity = one.alert.labels.get("severity", "")
    rank = SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
    return (one.alert.state != "firing", rank, one.alert.since)
