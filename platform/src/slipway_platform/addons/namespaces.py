"""The namespaces of the platform and of models: what may run in them, how much of it, and what goes first.

Pure: settings in, manifests out. The invariants: a namespace of models takes restricted pods only, judged by the
webhook, and all of them together no more than its quota; serving is never evicted for a batch job.
Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from slipway_platform.addons.lock import PodSecurity
from slipway_platform.addons.settings import Caps, ModelNamespace
from slipway_platform.manifests import Manifest, manifest
from slipway_platform.quantities import cpu, memory
from slipway_serve.admission.manifests import LABEL as POLICY_LABEL

__all__ = ["BATCH", "OWNER", "PLATFORM", "SERVING", "model_namespace", "namespace", "part_labels", "priority_classes"]

PLATFORM: Final = "slipway-platform"
"""The priority of what models need to start: the webhook, and the service that rollouts ask."""
SERVING: Final = "slipway-serving"
"""The priority of pods that answer users."""
BATCH: Final = "slipway-batch"
"""The priority of jobs: the gate's load, reports."""
OWNER: Final = "slipway.dev/owner"


def part_labels(name: str) -> dict[str, str]:
    """Labels of every object that the platform makes for itself."""
    return {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/part-of": "slipway",
        "app.kubernetes.io/managed-by": "pulumi",
    }


def namespace(name: str, security: PodSecurity, labels: Mapping[str, str] | None = None) -> Manifest:
    """A namespace that enforces a level of Pod Security; what would break the next stricter one is told."""
    warn = {"privileged": "baseline", "baseline": "restricted", "restricted": "restricted"}[security]
    levels = {
        f"pod-security.kubernetes.io/{mode}": level
        for mode, level in (("enforce", security), ("warn", warn), ("audit", warn))
    }
    return manifest("v1", "Namespace", name, None, labels={**part_labels(name), **levels, **(labels or {})})


def model_namespace(name: str, given: ModelNamespace, caps: Caps, gpu_resource: str | None) -> Iterator[Manifest]:
    """A namespace for models, its quota, and what a container gets that says nothing.

    Args:
        name: Of the namespace.
        given: What all its pods together may take.
        caps: Whether it may have load balancers.
        gpu_resource: How a GPU is called; None: the cluster has none.
    """
    owner = {} if given.owner is None else {OWNER: given.owner}
    labels = part_labels(name) | owner
    yield namespace(name, "restricted", {POLICY_LABEL: "enforce", **owner})
    hard = {
        "requests.cpu": cpu(given.cpu),
        "requests.memory": memory(given.memory),
        "requests.storage": memory(given.storage),
        "pods": str(given.pods),
        "services.nodeports": "0",
    }
    if not caps.public_load_balancers:
        hard["services.loadbalancers"] = "0"
    if gpu_resource is not None:
        hard[f"requests.{gpu_resource}"] = str(given.gpus)
    yield manifest("v1", "ResourceQuota", "models", name, labels=labels, spec={"hard": hard})
    limits = {
        "type": "Container",
        "default": {"cpu": "1", "memory": "1Gi"},
        "defaultRequest": {"cpu": "100m", "memory": "256Mi"},
    }
    yield manifest("v1", "LimitRange", "models", name, labels=labels, spec={"limits": [limits]})


def priority_classes() -> Iterator[Manifest]:
    """The platform before serving, serving before batch; all after what the cluster itself needs (2,000,000,000)."""
    platform = "The platform's own servers: without them no pod of a model starts"
    yield _priority(PLATFORM, 2_000_000, platform)
    yield _priority(SERVING, 1_000_000, "Pods that answer users")
    jobs = "Jobs: they wait for room and evict nobody"
    yield _priority(BATCH, 1_000, jobs, preemptionPolicy="Never")


def _priority(name: str, value: int, description: str, **more: Any) -> Manifest:
    labels = part_labels(name)
    api, kind = "scheduling.k8s.io/v1", "PriorityClass"
    return manifest(api, kind, name, None, labels=labels, value=value, description=description, **more)
