"""Rules about the monitoring itself, dashboards, data sources and routes, as objects of a cluster.

It writes none of them: each comes out of the repository's `observability/`, where tests have judged it, and only
addresses are put in. What is about one service is that service's (`services.alerts`). The invariant: an address that is
a secret is in a file that Alertmanager reads (`url_file`), and never in its configuration.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from slipway_bundle import UsageError
from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.manifests import Body, Manifest, manifest
from slipway_platform.observability.settings import ObservabilitySettings

__all__ = ["CONFIG_SECRET", "RECEIVERS", "ReceiverUnknownError", "observability_objects"]

LABELS: Final = {"app.kubernetes.io/part-of": "slipway", "app.kubernetes.io/managed-by": "pulumi"}
CONFIG_SECRET: Final = "slipway-alertmanager"  # noqa: S105 - its name
"""Name it as the Alertmanager's `configSecret`."""
RECEIVERS: Final = "slipway-receivers"
"""Name it among the Alertmanager's `secrets`: the operator mounts it."""
MOUNTED: Final = f"/etc/alertmanager/secrets/{RECEIVERS}"
PLACEHOLDER: Final = "http://alert-webhook:9099"
"""What the committed file calls the receiver."""


class ReceiverUnknownError(UsageError):
    """An address for a receiver that no route has."""

    code = "platform_receiver_unknown"


def observability_objects(settings: ObservabilitySettings, cluster: ClusterInfo, root: Path) -> Iterator[Manifest]:
    """All of them.

    Args:
        settings: Addresses.
        cluster: Where Prometheus and its namespace are.
        root: Of the repository.

    Raises:
        ReceiverUnknownError: `receivers` names one that the routes have not.
    """
    folder, namespace = root / "observability", cluster.monitoring_namespace
    groups = yaml.safe_load((folder / "rules" / "monitoring.yaml").read_text(encoding="utf-8"))["groups"]
    yield manifest(
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        "slipway-monitoring",
        namespace,
        labels=LABELS,
        spec={"groups": groups},
    )
    for path in sorted((folder / "dashboards").glob("*.json")):
        yield _dashboard(path, namespace, settings.dashboard_label)
    yield _data_sources(folder, namespace, settings, cluster)
    yield from _routes(folder, namespace, settings)


def _dashboard(path: Path, namespace: str, label: str) -> Manifest:
    """Compact: a ConfigMap holds a mebibyte."""
    text = json.dumps(json.loads(path.read_text(encoding="utf-8")), separators=(",", ":"), ensure_ascii=False)
    return manifest(
        "v1",
        "ConfigMap",
        f"dashboard-{path.stem}",
        namespace,
        labels=LABELS | {label: "1"},
        annotations={"grafana_folder": "slipway"},
        data={path.name: text},
    )


def _data_sources(folder: Path, namespace: str, settings: ObservabilitySettings, cluster: ClusterInfo) -> Manifest:
    file = folder / "grafana" / "provisioning" / "datasources" / "slipway.yaml"
    sources: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    addresses = {
        "prometheus": cluster.prometheus_url,
        "tempo": settings.tempo_url,
        "alertmanager": settings.alertmanager_url,
    }
    for source in sources["datasources"]:
        source["url"] = addresses[source["uid"]]
    return manifest(
        "v1",
        "ConfigMap",
        "slipway-datasources",
        namespace,
        labels=LABELS | {settings.datasource_label: "1"},
        data={"slipway.yaml": yaml.safe_dump(sources, sort_keys=False)},
    )


def _routes(folder: Path, namespace: str, settings: ObservabilitySettings) -> Iterator[Manifest]:
    file = folder / "alertmanager" / "alertmanager.yaml"
    config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    names = [receiver["name"] for receiver in config["receivers"]]
    unknown = sorted(set(settings.receivers) - set(names))
    if unknown:
        raise ReceiverUnknownError(
            f"`receivers` has {unknown[0]!r}, expected one of {', '.join(sorted(names))}",
            hint="receivers are made from the owners in services/*/slo.yaml: `slipway slo build`",
        )
    config["receivers"] = [_addressed(receiver, settings) for receiver in config["receivers"]]
    text = yaml.safe_dump(config, sort_keys=False)
    yield manifest(
        "v1",
        "Secret",
        CONFIG_SECRET,
        namespace,
        labels=LABELS,
        type="Opaque",
        stringData={"alertmanager.yaml": text},
    )
    if settings.receivers:
        data = {name: secret.output for name, secret in sorted(settings.receivers.items())}
        yield manifest("v1", "Secret", RECEIVERS, namespace, labels=LABELS, type="Opaque", stringData=data)


def _addressed(receiver: Mapping[str, Any], settings: ObservabilitySettings) -> Body:
    name, hooks = receiver["name"], receiver.get("webhook_configs", [])
    if not hooks:
        return dict(receiver)
    base = settings.webhook.rstrip("/")
    plain = [{**hook, "url": hook["url"].replace(PLACEHOLDER, base)} for hook in hooks]
    secret = [
        {"url_file": f"{MOUNTED}/{name}", **{key: value for key, value in hook.items() if key != "url"}}
        for hook in hooks
    ]
    return {**receiver, "webhook_configs": secret if name in settings.receivers else plain}
