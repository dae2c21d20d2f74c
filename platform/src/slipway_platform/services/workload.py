"""The Rollout of a service and what stands around its pods: Services, account, disruption budget, scaling.

It decides nothing about a release: `canary` makes the steps that are handed in. The invariants: who scales owns
`spec.replicas` alone; the two Services differ in nothing but what Argo Rollouts adds to their selectors.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.manifests import Body, Manifest, manifest
from slipway_platform.services.naming import ADMIN, GRPC, HTTP, TRACK, labels_of, promised, selector_of
from slipway_platform.services.settings import Keda, ServiceSettings

__all__ = ["rollout", "scaling", "surroundings"]

FORCE: Final = "pulumi.com/patchForce"
"""On the Rollout alone: in an incident people and `slipway rollback` patch its template, and what they then own must
not keep the next release out."""
FOR_EVER: Final = 0
"""Aborted pods stay until the next apply. Any delay leaves a deadline on their ReplicaSet after it has passed (Argo
Rollouts 1.9.1), and while an old ReplicaSet has one, `progressDeadlineSeconds` ends no release any more."""
HISTORY: Final = 10
"""Runs of analyses that are kept, of each kind: what was measured in the last releases."""


def rollout(
    service: ServiceSettings,
    namespace: str,
    *,
    template: Body,
    steps: Sequence[Body],
    analysis: Body,
    routing: Body,
) -> Manifest:
    """The Rollout.

    Args:
        service: Whose.
        namespace: Its own.
        template: Of its pods.
        steps: Of its canary.
        analysis: What is asked in the background.
        routing: Where Argo Rollouts sets the weights.
    """
    canary = {
        "stableService": f"{service.object_name}-stable",
        "canaryService": f"{service.object_name}-canary",
        "stableMetadata": {"labels": {TRACK: "stable"}},
        "canaryMetadata": {"labels": {TRACK: "canary"}},
        "maxSurge": "25%",
        "maxUnavailable": 0,
        "abortScaleDownDelaySeconds": FOR_EVER,
        "scaleDownDelaySeconds": service.canary.keep_previous_s,
        "trafficRouting": routing,
        "analysis": analysis,
        "steps": list(steps),
    }
    # No rollbackWindow: it promotes every older ReplicaSet without a step, also one that was aborted.
    # No dynamicStableScale: stable stays whole, so that going back needs no new pod.
    return manifest(
        "argoproj.io/v1alpha1",
        "Rollout",
        service.object_name,
        namespace,
        labels=labels_of(service),
        annotations={FORCE: "true"},
        spec={
            "replicas": None if _scales(service) else service.replicas,
            "revisionHistoryLimit": 5,
            "progressDeadlineSeconds": service.canary.progress_s,
            "progressDeadlineAbort": True,
            "analysis": {"successfulRunHistoryLimit": HISTORY, "unsuccessfulRunHistoryLimit": HISTORY},
            "selector": {"matchLabels": selector_of(service)},
            "strategy": {"canary": canary},
            "template": template,
        },
    )


def surroundings(service: ServiceSettings, namespace: str) -> Iterator[Manifest]:
    """Account, Services, disruption budget: what must be there before the Rollout."""
    labels, name = labels_of(service), service.object_name
    yield manifest("v1", "ServiceAccount", name, namespace, labels=labels, automountServiceAccountToken=False)
    ports = [{"name": "http", "port": HTTP, "targetPort": "http", "protocol": "TCP"}]
    if service.grpc:
        ports.append({"name": "grpc", "port": GRPC, "targetPort": "grpc", "protocol": "TCP"})
    ports.append({"name": "admin", "port": ADMIN, "targetPort": "admin", "protocol": "TCP"})
    for track in ("stable", "canary"):
        yield manifest(
            "v1",
            "Service",
            f"{name}-{track}",
            namespace,
            labels=labels,
            spec={"type": "ClusterIP", "selector": selector_of(service), "ports": ports},
        )
    yield manifest(
        "policy/v1",
        "PodDisruptionBudget",
        name,
        namespace,
        labels=labels,
        spec={
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector_of(service)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    )


def scaling(service: ServiceSettings, namespace: str, cluster: ClusterInfo) -> Iterator[Manifest]:
    """What sets the replicas, where something does."""
    target = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": service.object_name}
    if service.keda is not None:
        yield _scaled_object(service, service.keda, namespace, cluster, target)
    elif service.hpa is not None:
        processors = {
            "type": "Resource",
            "resource": {
                "name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": service.hpa.cpu_percent},
            },
        }
        yield manifest(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            service.object_name,
            namespace,
            labels=labels_of(service),
            spec={
                "scaleTargetRef": target,
                "minReplicas": service.replicas,
                "maxReplicas": service.hpa.max_replicas,
                "metrics": [processors],
                "behavior": _behaviour(service.hpa.scale_down_s),
            },
        )


def _scales(service: ServiceSettings) -> bool:
    return service.hpa is not None or service.keda is not None


def _behaviour(scale_down_s: int) -> Body:
    """Up at once, down slowly: cold pods cost more than idle ones."""
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 15},
                {"type": "Pods", "value": 2, "periodSeconds": 15},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": scale_down_s,
            "selectPolicy": "Min",
            "policies": [
                {"type": "Percent", "value": 25, "periodSeconds": 60},
                {"type": "Pods", "value": 1, "periodSeconds": 60},
            ],
        },
    }


def _scaled_object(
    service: ServiceSettings, keda: Keda, namespace: str, cluster: ClusterInfo, target: Body
) -> Manifest:
    own = f'namespace="{namespace}",service="{promised(service)}"'
    asked = {
        "in-flight": (f"sum(http_server_active_requests{{{own}}})", keda.in_flight),
        # A service without runner pools has no queue, and that is no outage: in-flight tells of those.
        "queued": (f"sum(slipway_queue_depth{{{own}}}) or 0 * sum(http_server_active_requests{{{own}}})", keda.queued),
    }
    triggers = [
        {
            "type": "prometheus",
            "name": name,
            "metricType": "AverageValue",
            "metadata": {
                "serverAddress": cluster.prometheus_url,
                "query": query,
                "threshold": str(threshold),
                "ignoreNullValues": "false",  # an empty answer is an outage of the metrics, and no idle service
            },
        }
        for name, (query, threshold) in asked.items()
    ]
    fallback = keda.fallback_replicas or max(service.replicas, keda.max_replicas // 2)
    return manifest(
        "keda.sh/v1alpha1",
        "ScaledObject",
        service.object_name,
        namespace,
        labels=labels_of(service),
        spec={
            "scaleTargetRef": target,
            "pollingInterval": 15,
            "cooldownPeriod": keda.cooldown_s,
            "minReplicaCount": service.replicas,
            "maxReplicaCount": keda.max_replicas,
            "fallback": {"failureThreshold": 3, "replicas": fallback},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behaviour(keda.cooldown_s)}},
            "triggers": triggers,
        },
    )
