"""The stack file of `platform/observability`: what watches all services of a cluster, and who is told.

It names addresses; rules, dashboards and routes are in the repository's `observability/`, generated and committed.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from slipway_platform.settings import Secret

__all__ = ["PROJECT", "ObservabilitySettings"]

PROJECT: Final = "slipway-observability"
"""The name in `platform/observability/Pulumi.yaml`, and the namespace of the keys."""

Url = Annotated[str, Meta(pattern=r"^https?://[^\s]+\Z")]


class ObservabilitySettings(Struct, frozen=True, kw_only=True):
    """One cluster's."""

    cluster: str
    """The cluster's stack: `ORGANIZATION/slipway-cluster/NAME`."""
    webhook: Url = "http://alert-webhook:9099"
    """Base address of what is told of alerts: `/page/OWNER`, `/ticket/OWNER` and `/watchdog` are added to it."""
    receivers: dict[str, Secret] = {}
    """Receiver (`page-team-churn`) -> the whole address of its webhook, where it is a secret of its own."""
    alertmanager_url: Url = "http://alertmanager-operated.monitoring.svc:9093"
    tempo_url: Url = "http://tempo.monitoring.svc:3200"
    dashboard_label: str = "grafana_dashboard"
    """Grafana's sidecar takes ConfigMaps that have it."""
    datasource_label: str = "grafana_datasource"
