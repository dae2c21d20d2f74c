"""Ask an Alertmanager who was told of an alert, and what keeps others from hearing it. Reads only.

API: https://prometheus.io/docs/alerting/0.25/clients/ and Alertmanager's own `api/v2/openapi.yaml`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from slipway_bundle import HostError

__all__ = ["Alertmanager", "AlertmanagerError", "Routed", "routed_as"]

T = TypeVar("T")


class AlertmanagerError(HostError):
    """Alertmanager cannot be reached in time, or what answers is none."""

    code = "alertmanager"


class Routed(Struct, frozen=True, kw_only=True):
    """What Alertmanager did with one alert."""

    labels: dict[str, str]
    receivers: tuple[str, ...] = ()
    """Names of receivers in `alertmanager.yaml`."""

    is_muted: bool = False
    """A silence or another alert keeps it from being told."""

    because: str = ""
    """Why it is muted, as a sentence's end: `silenced until …`, `SlipwayServiceDown fires`."""


class Alertmanager:
    """One Alertmanager; nothing is asked before the first question, threads may share it.

    Args:
        url: `http://127.0.0.1:9093`, with the path it is served below, if any.
        timeout_s: How long a connection, and each part of an answer, may take.
    """

    def __init__(self, url: str, *, timeout_s: float = 3.0) -> None:
        import httpx  # 60 ms, which only those pay who ask

        self.url = url.rstrip("/")
        self._client = httpx.Client(timeout=timeout_s, limits=httpx.Limits(max_keepalive_connections=0))

    def routed(self) -> list[Routed]:
        """Every alert that it holds and has decided about.

        Raises:
            AlertmanagerError: not reachable, or no Alertmanager.
        """
        alerts = self._get("alerts", list[_Alert])
        silences: dict[str, _Silence] = {}
        if any(alert.status.silenced_by for alert in alerts):
            silences = {silence.id: silence for silence in self._get("silences", list[_Silence])}
        names = {alert.fingerprint: alert.labels.get("alertname", "") for alert in alerts}
        return [
            Routed(
                labels=alert.labels,
                receivers=tuple(receiver.name for receiver in alert.receivers),
                is_muted=alert.status.state == "suppressed",
                because=_because(alert.status, silences, names),
            )
            for alert in alerts
            if alert.status.state != "unprocessed"
        ]

    def _get(self, path: str, kind: type[T]) -> T:
        import httpx

        try:
            reply = self._client.get(f"{self.url}/api/v2/{path}").raise_for_status()
            return msgspec.json.decode(reply.content, type=kind)
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise AlertmanagerError(
                f"cannot ask Alertmanager at {self.url}: {error or type(error).__name__}",
                hint="is it running, and is the address right?",
                url=self.url,
            ) from error


def routed_as(labels: Mapping[str, str], routed: Sequence[Routed]) -> Routed | None:
    """What was done with the alert of these labels; Alertmanager's have Prometheus' external labels as well."""
    return next((one for one in routed if labels.items() <= one.labels.items()), None)


class _Receiver(Struct, frozen=True):
    name: str


class _Status(Struct, frozen=True, rename="camel"):
    state: str
    silenced_by: list[str]
    inhibited_by: list[str]


class _Alert(Struct, frozen=True, rename="camel"):
    labels: dict[str, str]
    fingerprint: str
    receivers: list[_Receiver]
    status: _Status


class _Silence(Struct, frozen=True, rename="camel"):
    id: str
    ends_at: datetime
    created_by: str
    comment: str


def _because(status: _Status, silences: dict[str, _Silence], names: dict[str, str]) -> str:
    for known in status.silenced_by:
        if known in silences:
            silence = silences[known]
            ends = silence.ends_at.strftime("%Y-%m-%d %H:%M UTC")
            return f"silenced until {ends} by {silence.created_by}: {silence.comment}"
    if status.inhibited_by:
        return f"{names.get(status.inhibited_by[0]) or 'another alert'} fires, and tells it already"
    return "a silence or a deploy window" if status.state == "suppressed" else ""
