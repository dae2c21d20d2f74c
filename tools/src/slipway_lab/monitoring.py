"""Prometheus and Alertmanager of a lab: what they scrape, where their rules are, how they are started.

There is no operator: PodMonitor objects are accepted by the API server and nobody acts on them. Prometheus finds pods
by Kubernetes service discovery, and labels them as the PodMonitor of `ModelService` does; rule files are put into
`Lab.rules` by whoever has rules. Discovery: https://prometheus.io/docs/prometheus/2.42/configuration/configuration/#pod
"""

from pathlib import Path
from typing import Any, Final

import yaml

from slipway_lab import network
from slipway_lab.control_plane import answers
from slipway_lab.node import KUBELET_PORT
from slipway_lab.processes import Programs, Recipe
from slipway_lab.state import Place
from slipway_lab.system import require

PROMETHEUS_PORT: Final = 9090
ALERTMANAGER_PORT: Final = 9093
ROLLOUTS_METRICS_PORT: Final = 8090
TRAEFIK_METRICS_PORT: Final = 8082
INTERVAL: Final = "5s"
"""Between scrapes, and between evaluations: a canary in a lab lasts minutes, not hours."""
KEPT: Final = (
    "container_(cpu_usage_seconds_total|cpu_cfs_throttled_seconds_total|memory_working_set_bytes|oom_events_total)"
)


def rules_folder(place: Place) -> Path:
    """Rule files: `*.yaml`."""
    return place.folder / "prometheus" / "rules"


def prometheus(place: Place, programs: Programs) -> Recipe:
    """Prometheus; it reads its files again on `POST /-/reload`."""
    folder = place.folder / "prometheus"
    rules_folder(place).mkdir(parents=True, exist_ok=True)
    settings = folder / "prometheus.yaml"
    settings.write_text(yaml.safe_dump(prometheus_settings(place), sort_keys=False))
    command = (
        str(programs["prometheus"]),
        f"--config.file={settings}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=1d",
        f"--web.listen-address={network.NODE}:{PROMETHEUS_PORT}",
        "--web.enable-lifecycle",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    )
    return Recipe(name="prometheus", command=command, within="names")


def alertmanager(place: Place) -> Recipe:
    """Alertmanager; it tells nobody until its file is replaced, and reads it again on `POST /-/reload`."""
    folder = place.folder / "alertmanager"
    folder.mkdir(exist_ok=True)
    settings = folder / "alertmanager.yaml"
    settings.write_text(yaml.safe_dump({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}))
    command = (
        str(require("alertmanager")),
        f"--config.file={settings}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={network.NODE}:{ALERTMANAGER_PORT}",
        "--cluster.listen-address=",
        "--log.level=warn",
    )
    return Recipe(name="alertmanager", command=command, within="names")


def is_ready(port: int) -> bool:
    """Whether one of them is ready. Raises OSError: it does not listen yet."""
    return answers("http", str(network.NODE), port, "/-/ready")


def prometheus_settings(place: Place) -> dict[str, Any]:
    """https://prometheus.io/docs/prometheus/2.42/configuration/configuration/."""
    alertmanagers = {"static_configs": [{"targets": [f"{network.NODE}:{ALERTMANAGER_PORT}"]}]}
    return {
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": "4s", "evaluation_interval": INTERVAL},
        "rule_files": [f"{rules_folder(place)}/*.yaml"],
        "alerting": {"alertmanagers": [alertmanagers]},
        "scrape_configs": [
            _services(place),
            _annotated(place),
            _static("argo-rollouts", ROLLOUTS_METRICS_PORT),
            _static("traefik", TRAEFIK_METRICS_PORT),
            _static("prometheus", PROMETHEUS_PORT),
            _static("alertmanager", ALERTMANAGER_PORT),
            _containers(place),
        ],
    }


def _services(place: Place) -> dict[str, Any]:
    """Pods of a `ModelService`: the port `admin`."""
    label = "__meta_kubernetes_pod_label_"
    relabelings = [
        _only(f"{label}slipway_dev_service", ".+"),
        _only("__meta_kubernetes_pod_container_port_name", "admin"),
        _copy(f"{label}slipway_dev_service", "service"),
        _copy(f"{label}slipway_dev_track", "track"),
        _copy(f"{label}rollouts_pod_template_hash", "rollouts_pod_template_hash"),
        *_where(),
    ]
    return {"job_name": "slipway", "kubernetes_sd_configs": [_discovery(place)], "relabel_configs": relabelings}


def _annotated(place: Place) -> dict[str, Any]:
    """Any other pod that asks for it: `prometheus.io/scrape`, `/port`, `/path`."""
    asked = "__meta_kubernetes_pod_annotation_prometheus_io_"
    address = {
        "source_labels": ["__meta_kubernetes_pod_ip", f"{asked}port"],
        "separator": ":",
        "target_label": "__address__",
    }
    path = {"source_labels": [f"{asked}path"], "regex": "(.+)", "target_label": "__metrics_path__"}
    relabelings = [_only(f"{asked}scrape", "true"), address, path, *_where()]
    return {"job_name": "pods", "kubernetes_sd_configs": [_discovery(place)], "relabel_configs": relabelings}


def _containers(place: Place) -> dict[str, Any]:
    """What the kubelet knows of containers' processor time and memory."""
    folder = place.folder / "pki"
    return {
        "job_name": "kubelet",
        "scheme": "https",
        "metrics_path": "/metrics/cadvisor",
        "scrape_interval": "10s",
        "tls_config": {
            "ca_file": str(folder / "ca.crt"),
            "cert_file": str(folder / "admin.crt"),
            "key_file": str(folder / "admin.key"),
        },
        "static_configs": [{"targets": [f"{network.NODE}:{KUBELET_PORT}"]}],
        "metric_relabel_configs": [_only("__name__", KEPT)],
    }


def _discovery(place: Place) -> dict[str, Any]:
    return {"role": "pod", "kubeconfig_file": str(place.kubeconfig)}


def _where() -> list[dict[str, Any]]:
    return [
        {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Succeeded|Failed", "action": "drop"},
        _copy("__meta_kubernetes_namespace", "namespace"),
        _copy("__meta_kubernetes_pod_name", "pod"),
    ]


def _static(job: str, port: int) -> dict[str, Any]:
    return {"job_name": job, "static_configs": [{"targets": [f"{network.NODE}:{port}"]}]}


def _only(label: str, regex: str) -> dict[str, Any]:
    return {"source_labels": [label], "regex": regex, "action": "keep"}


def _copy(source: str, target: str) -> dict[str, Any]:
    return {"source_labels": [source], "target_label": target}
