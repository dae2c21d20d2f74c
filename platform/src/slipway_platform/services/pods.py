"""The pod of a service: one container that runs the bundle's image, as safe as it can be made.

It makes no workload: `workload` puts the template into a Rollout. The invariants: quantities are canonical and nothing
in the template is an empty or zero value that Argo Rollouts would write back differently (#3281); the pod outlives its
own draining; secrets come as files and never as values.
"""

from collections.abc import Iterator
from typing import Any, Final

from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.manifests import Body
from slipway_platform.quantities import cpu, memory
from slipway_platform.services.naming import ADMIN, GRPC, HTTP, labels_of, promised, selector_of
from slipway_platform.services.settings import ModelVolume, ServiceSettings

__all__ = ["USER", "container_security", "pod_security", "pod_template"]

USER: Final = 65_532
"""Of bundle images (docs/images-oci.md) and of the platform image: nobody of the host."""
SPARE_S: Final = 10
"""Above draining and stopping, until the kubelet kills: the supervisor's own end."""
PROBE_S: Final = 5
PYTHON: Final = "/opt/venv/bin/python"
"""In a bundle's image (docs/bundle-v1.md, 3.5)."""
HOSTNAME: Final = "kubernetes.io/hostname"
ZONE: Final = "topology.kubernetes.io/zone"


def pod_template(
    service: ServiceSettings, cluster: ClusterInfo, *, platform_image: str, usd_per_hour: float, traces: str | None
) -> Body:
    """The `template` of the Rollout.

    Args:
        service: What to run.
        cluster: How its GPUs are asked for.
        platform_image: What an init container pulls weights with.
        usd_per_hour: Of one replica; 0: not told.
        traces: Where spans go; None: nowhere.
    """
    spec: Body = {
        "serviceAccountName": service.object_name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "terminationGracePeriodSeconds": service.drain_s + service.stop_s + SPARE_S,
        "priorityClassName": service.priority_class,
        "topologySpreadConstraints": [_spread(service, key) for key in (ZONE, HOSTNAME)],
        "nodeSelector": dict(sorted({**cluster.gpu_node_label, **service.gpu.node_labels}.items()))
        if service.gpu
        else None,
        "tolerations": _tolerations(service, cluster),
        "initContainers": [_pull(volume, platform_image) for volume in service.volumes if volume.by_init_container],
        "containers": [_container(service, cluster, usd_per_hour, traces)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}, *_volumes(service)],
    }
    annotations = {"kubectl.kubernetes.io/default-container": promised(service)}
    return {"metadata": {"labels": labels_of(service), "annotations": annotations}, "spec": spec}


def pod_security() -> Body:
    """Pod Security Standard "restricted"."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Body:
    """Nothing to gain, nothing to write to."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _container(service: ServiceSettings, cluster: ClusterInfo, usd_per_hour: float, traces: str | None) -> Body:
    ports = [{"name": "http", "containerPort": HTTP, "protocol": "TCP"}]
    if service.grpc:
        ports.append({"name": "grpc", "containerPort": GRPC, "protocol": "TCP"})
    ports.append({"name": "admin", "containerPort": ADMIN, "protocol": "TCP"})
    amounts: Body = {"cpu": cpu(service.cpu), "memory": memory(service.memory)}
    if service.gpu is not None and cluster.gpu_resource is not None:
        amounts[cluster.gpu_resource] = str(service.gpu.count)
    variables = dict(_environment(service, usd_per_hour, traces))
    return {
        "name": promised(service),  # rules about restarts and memory know a container by its service
        "image": service.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [PYTHON, "-m", "slipway_serve", service.target] if service.target else None,
        "ports": ports,
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "startupProbe": _probe("/readyz", period_s=2, failures=max(1, service.start_s // 2)),
        "readinessProbe": _probe("/readyz", period_s=5, failures=2),
        "livenessProbe": _probe("/livez", period_s=10, failures=6),
        "securityContext": container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *_mounts(service)],  # noqa: S108 - the pod's own
    }


def _environment(service: ServiceSettings, usd_per_hour: float, traces: str | None) -> Iterator[tuple[str, str]]:
    yield "SLIPWAY_ADMIN_HOST", "0.0.0.0"  # noqa: S104 - the NetworkPolicy says who may
    yield "SLIPWAY_BUNDLE", service.digest
    yield "SLIPWAY_TRUST_SYNTHETIC", "true"  # the edge takes the header off; who is inside is let in by name
    yield "SLIPWAY_DRAIN_S", str(service.drain_s)
    yield "SLIPWAY_STOP_S", str(service.stop_s)
    yield "SLIPWAY_START_S", str(service.start_s)
    if service.grpc:
        yield "SLIPWAY_GRPC", "true"
    if usd_per_hour:
        yield "SLIPWAY_COST_USD_PER_HOUR", f"{usd_per_hour:.6g}"
    if traces:
        yield "OTEL_EXPORTER_OTLP_ENDPOINT", traces
    for volume in service.volumes:
        if volume.by_init_container:
            yield "SLIPWAY_HOME", volume.path
    yield from sorted(service.environment.items())


def _probe(path: str, *, period_s: int, failures: int) -> Body:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period_s,
        "timeoutSeconds": min(PROBE_S, period_s),
        "failureThreshold": failures,
        "successThreshold": 1,
    }


def _spread(service: ServiceSettings, key: str) -> Body:
    """Per release, so that a canary's pods do not count as stable's."""
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector_of(service)},
        "matchLabelKeys": ["rollouts-pod-template-hash"],
    }


def _tolerations(service: ServiceSettings, cluster: ClusterInfo) -> list[Body]:
    toleration = cluster.gpu_toleration
    if service.gpu is None or toleration is None:
        return []
    value = {"operator": "Exists"} if toleration.value is None else {"operator": "Equal", "value": toleration.value}
    return [{"key": toleration.key, "effect": toleration.effect, **value}]


def _pull(volume: ModelVolume, platform_image: str) -> Body:
    amounts = {"cpu": "1", "memory": "512Mi"}
    return {
        "name": f"pull-{volume.name}",
        "image": platform_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["bundle", "pull", "--without-images", volume.reference],
        "env": [{"name": "SLIPWAY_HOME", "value": volume.path}],
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": container_security(),
        "volumeMounts": [{"name": volume.name, "mountPath": volume.path}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _volumes(service: ServiceSettings) -> Iterator[Body]:
    for volume in service.volumes:
        if volume.by_init_container:
            yield {"name": volume.name, "emptyDir": {"sizeLimit": memory(volume.size)}}
        else:
            yield {"name": volume.name, "image": {"reference": volume.reference, "pullPolicy": "IfNotPresent"}}
    for file in service.files:
        yield {"name": file.name, "secret": {"secretName": file.name, "defaultMode": 0o440}}


def _mounts(service: ServiceSettings) -> Iterator[dict[str, Any]]:
    for volume in service.volumes:
        yield {"name": volume.name, "mountPath": volume.path} | ({} if volume.by_init_container else {"readOnly": True})
    for file in service.files:
        yield {"name": file.name, "mountPath": file.path, "readOnly": True}
