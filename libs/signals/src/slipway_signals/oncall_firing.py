"""What fires now, over all services: what Prometheus sees, and whether Alertmanager tells it.

It only reads. The invariant: without an Alertmanager the list is complete, and nobody claims to know who is told.
API: https://prometheus.io/docs/alerting/0.25/clients/ (v2, `GET /api/v2/alerts`).
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct

from slipway_bundle import HostError
from slipway_signals.prometheus import ActiveAlert, Prometheus

__all__ = ["AlertmanagerError", "Firing", "Told", "firing", "told_by"]

SEVERITIES: Final = ("page", "ticket", "info")
NOT_SHOWN: Final = frozenset({"SlipwayWatchdog"})
"""It always fires; that it is missing is what its receiver tells."""


class AlertmanagerError(HostError):
    """Alertmanager cannot be reached, or what answers is none."""

    code = "alertmanager"


class Told(Struct, frozen=True, kw_only=True):
    """What Alertmanager does with an alert."""

    labels: dict[str, str]
    state: Literal["active", "suppressed", "unprocessed"]
    by: tuple[str, ...]
    """Who keeps it quiet: `silenced`, `inhibited`; empty when it is told."""


class Firing(Struct, frozen=True, kw_only=True):
    """An alert that fires or is about to."""

    alert: ActiveAlert
    is_told: bool | None
    """None where no Alertmanager was asked, or it does not know the alert (yet)."""

    quiet_by: tuple[str, ...]


def firing(prometheus: Prometheus, told: Sequence[Told] | None = None) -> tuple[Firing, ...]:
    """Every alert but the watchdog: firing before pending, pages before tickets, then the longest.

    Args:
        prometheus: Whom to ask.
        told: What `told_by` gave, or None.

    Raises:
        PrometheusError: it cannot be asked.
    """
    by_labels = {tuple(sorted(one.labels.items())): one for one in told or ()}
    found = []
    for alert in prometheus.alerts():
        if alert.name in NOT_SHOWN:
            continue
        known = by_labels.get(tuple(sorted(alert.labels.items())))
        is_told = None if known is None else known.state == "active"
        found.append(Firing(alert=alert, is_told=is_told, quiet_by=known.by if known else ()))
    return tuple(sorted(found, key=_urgency))


def told_by(url: str, *, timeout_s: float = 5.0) -> tuple[Told, ...]:
    """What the Alertmanager at `url` knows.

    Raises:
        AlertmanagerError: not reachable, or what answers there is no Alertmanager.
    """
    import httpx  # 60 ms, which only those pay who ask

    try:
        answer = httpx.get(f"{url.rstrip('/')}/api/v2/alerts", timeout=timeout_s)
        answer.raise_for_status()
        alerts = msgspec.json.decode(answer.content, type=list[_Alert])
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AlertmanagerError(
            f"cannot ask Alertmanager at {url}: {error}", hint="is it running, and is the address right?", url=url
        ) from error
    return tuple(Told(labels=one.labels, state=one.status.state, by=_who(one.status)) for one in alerts)


def _urgency(one: Firing) -> tuple[bool, int, float]:
    severity = one.alert.labels.get("severity", "")
    rank = SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
    return (one.alert.state != "firing", rank, one.alert.since)


def _who(status: "_Status") -> tuple[str, ...]:
    named = (("silenced", status.silenced_by), ("inhibited", status.inhibited_by))
    return tuple(name for name, by in named if by)


class _Status(Struct, frozen=True, rename="camel"):
    state: Literal["active", "suppressed", "unprocessed"]
    silenced_by: list[str]
    inhibited_by: list[str]


class _Alert(Struct, frozen=True):
    labels: dict[str, str]
    status: _Status
