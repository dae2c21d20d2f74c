"""What each chart is told: the values under which an add-on is safe and does what the platform needs of it.

Pure: settings and facts of the cluster in, tables out. The invariants: nothing phones home, no dashboard is public, no
password is a chart's default, and Prometheus sees monitors and rules of every namespace.
Names are those of the charts in `addons.lock`. Not executed in CI: the charts themselves.
"""

from collections.abc import Mapping
from typing import Any

from slipway_platform.addons.settings import AddonsSettings
from slipway_platform.cluster.info import ClusterInfo

__all__ = ["GRAFANA_SECRET", "merged", "values_of"]

GRAFANA_SECRET = "grafana-admin"  # noqa: S105  # the name of a Secret
Values = dict[str, Any]


def values_of(name: str, settings: AddonsSettings, info: ClusterInfo) -> Values:
    """The values of the add-on `name`: ours, and over them those of the stack file."""
    usual = {
        "argo-rollouts": _argo_rollouts,
        "external-secrets": _external_secrets,
        "keda": _keda,
        "kube-prometheus-stack": _kube_prometheus_stack,
        "metrics-server": _metrics_server,
        "opentelemetry-collector": _collector,
        "tempo": _tempo,
        "traefik": _traefik,
    }.get(name)
    ours = {} if usual is None else usual(settings, info)
    own = settings.addons.get(name)
    return ours if own is None else merged(ours, own.values)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    """Two tables as one: where both have a table under a key these are merged, else `above` wins."""
    return {
        **below,
        **{
            key: merged(below[key], value)
            if isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
            else value
            for key, value in above.items()
        },
    }


def _argo_rollouts(_settings: AddonsSettings, _info: ClusterInfo) -> Values:
    return {
        "installCRDs": True,
        "keepCRDs": True,
        "dashboard": {"enabled": False},
        "controller": {
            "replicas": 2,
            # Up to 1.9 the controller asks for Traefik's API of version 2, which is gone.
            "extraArgs": ["--traefik-api-group=traefik.io", "--traefik-api-version=traefik.io/v1alpha1"],
            "pdb": {"enabled": True, "maxUnavailable": 1},
            "resources": _resources("100m", "256Mi", "1", "512Mi"),
            "metrics": {"enabled": True, "serviceMonitor": {"enabled": True}},
        },
    }


def _external_secrets(_settings: AddonsSettings, _info: ClusterInfo) -> Values:
    return {
        "installCRDs": True,
        "leaderElect": True,
        "replicaCount": 2,
        "podDisruptionBudget": {"enabled": True, "minAvailable": 1},
        "resources": _resources("50m", "128Mi", "500m", "256Mi"),
        "serviceMonitor": {"enabled": True},
    }


def _keda(_settings: AddonsSettings, _info: ClusterInfo) -> Values:
    return {
        "crds": {"install": True},
        "operator": {"replicaCount": 2},
        "metricsServer": {"replicaCount": 2},
        "podDisruptionBudget": {"operator": {"maxUnavailable": 1}, "metricServer": {"maxUnavailable": 1}},
        "prometheus": {"operator": {"enabled": True, "serviceMonitor": {"enabled": True}}},
        "resources": {"operator": _resources("100m", "256Mi", "1", "1Gi")},
    }


def _kube_prometheus_stack(_settings: AddonsSettings, info: ClusterInfo) -> Values:
    everywhere = {
        f"{kind}SelectorNilUsesHelmValues": False
        for kind in ("podMonitor", "probe", "rule", "scrapeConfig", "serviceMonitor")
    }
    return {
        "crds": {"enabled": False},
        "fullnameOverride": "prometheus",
        "prometheus": {
            "prometheusSpec": {
                **everywhere,
                "retention": "15d",
                "enableFeatures": ["exemplar-storage"],
                "enableOTLPReceiver": False,
                "resources": _resources("500m", "2Gi", "2", "4Gi"),
                "storageSpec": {"volumeClaimTemplate": {"spec": _claim("50Gi", info)}},
            }
        },
        "alertmanager": {
            "alertmanagerSpec": {
                "alertmanagerConfigMatcherStrategy": {"type": "None"},
                "resources": _resources("50m", "64Mi", "200m", "256Mi"),
                "storage": {"volumeClaimTemplate": {"spec": _claim("2Gi", info)}},
            }
        },
        "grafana": {
            # The chart's own password is the same for everybody who does not change it.
            "admin": {"existingSecret": GRAFANA_SECRET, "userKey": "user", "passwordKey": "password"},
            "service": {"type": "ClusterIP"},
            "sidecar": {
                "dashboards": {"enabled": True, "label": "grafana_dashboard", "searchNamespace": "ALL"},
                "datasources": {
                    "enabled": True,
                    "exemplarTraceIdDestinations": {"datasourceUid": "tempo", "traceIdLabelName": "trace_id"},
                },
            },
            "grafana.ini": {
                "analytics": {"reporting_enabled": False, "check_for_updates": False},
                "users": {"allow_sign_up": False},
                "auth.anonymous": {"enabled": False},
            },
            "additionalDataSources": [
                {
                    "name": "Tempo",
                    "uid": "tempo",
                    "type": "tempo",
                    "url": f"http://tempo.{info.monitoring_namespace}.svc:3200",
                }
            ],
        },
    }


def _metrics_server(_settings: AddonsSettings, _info: ClusterInfo) -> Values:
    return {
        "replicas": 2,
        "podDisruptionBudget": {"enabled": True, "minAvailable": 1},
        "resources": _resources("100m", "200Mi", "500m", "400Mi"),
    }


def _collector(_settings: AddonsSettings, info: ClusterInfo) -> Values:
    """As observability/collector/collector.yaml: services choose which traces they keep, nothing is sampled here."""
    return {
        "mode": "deployment",
        "replicaCount": 2,
        "image": {"repository": "otel/opentelemetry-collector-k8s"},
        "podDisruptionBudget": {"enabled": True, "minAvailable": 1},
        "resources": _resources("100m", "256Mi", "1", "512Mi"),
        "ports": {name: {"enabled": False} for name in ("jaeger-compact", "jaeger-thrift", "jaeger-grpc", "zipkin")},
        "config": {
            "receivers": {"jaeger": None, "zipkin": None, "prometheus": None},
            "exporters": {
                "otlp": {
                    "endpoint": f"tempo.{info.monitoring_namespace}.svc:4317",
                    "tls": {"insecure": True},  # inside the cluster; with a mesh, the mesh's
                }
            },
            "service": {
                "pipelines": {
                    "traces": {"receivers": ["otlp"], "processors": ["memory_limiter", "batch"], "exporters": ["otlp"]},
                    "metrics": None,
                    "logs": None,
                }
            },
        },
    }


def _tempo(_settings: AddonsSettings, info: ClusterInfo) -> Values:
    return {
        "tempo": {
            "reportingEnabled": False,
            "retention": "168h",
            "resources": _resources("200m", "512Mi", "1", "2Gi"),
        },
        "persistence": {"enabled": True, "size": "20Gi", **_class(info, "storageClassName")},
        "serviceMonitor": {"enabled": True},
    }


def _traefik(settings: AddonsSettings, info: ClusterInfo) -> Values:
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "deployment": {"replicas": 2},
        "podDisruptionBudget": {"enabled": True, "minAvailable": 1},
        "priorityClassName": "system-cluster-critical",
        "resources": _resources("200m", "128Mi", "2", "512Mi"),
        "ingressClass": {"enabled": True, "name": info.ingress_class},
        "ingressRoute": {"dashboard": {"enabled": False}},
        "providers": {
            "kubernetesCRD": {"enabled": True, "allowCrossNamespace": False},
            "kubernetesIngress": {"enabled": False},
            "kubernetesGateway": {"enabled": info.gateway_api},
        },
        "service": {"type": "LoadBalancer" if settings.public_ingress else "ClusterIP"},
        "metrics": {"prometheus": {"service": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
    }


def _resources(cpu: str, memory: str, cpu_limit: str, memory_limit: str) -> Values:
    return {
        "requests": {"cpu": cpu, "memory": memory},
        "limits": {"cpu": cpu_limit, "memory": memory_limit},
    }


def _claim(size: str, info: ClusterInfo) -> Values:
    return {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
        **_class(info, "storageClassName"),
    }


def _class(info: ClusterInfo, key: str) -> Values:
    return {} if info.storage_class is None else {key: info.storage_class}
