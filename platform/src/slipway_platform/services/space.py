"""What the services of a namespace share: nothing open, keys, a quota.

The namespace itself, its Pod Security level and the platform's own quota are made by `platform/addons`. The invariant:
at the caps of all services and during a release of all of them at once, the computed quota is enough, so that a quota
never is what stops a release.
"""

from collections.abc import Iterator

from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.manifests import Body, Manifest, manifest
from slipway_platform.quantities import bytes_of, cpu, memory, millicores_of
from slipway_platform.services.network import deny_all, gate_policy
from slipway_platform.services.secrets import key_secret
from slipway_platform.services.settings import ServiceSettings, ServicesSettings

__all__ = ["shared_labels", "shared_objects"]

RELEASE = 2
"""During a release there may be as many pods of the candidate as of stable."""
MEBI = 1024**2


def shared_labels() -> dict[str, str]:
    """Of what the services of a namespace share."""
    return {"app.kubernetes.io/part-of": "slipway", "app.kubernetes.io/managed-by": "pulumi"}


def shared_objects(settings: ServicesSettings, cluster: ClusterInfo) -> Iterator[Manifest]:
    """Everything in the namespace that is no service's own."""
    name, labels = settings.namespace, shared_labels()
    yield deny_all(name, labels)
    yield gate_policy(name, settings.services, labels, settings.verdicts)
    yield from key_secret(settings.keys, name, labels)
    yield manifest("v1", "ResourceQuota", "services", name, labels=labels, spec={"hard": _quota(settings, cluster)})


def _quota(settings: ServicesSettings, cluster: ClusterInfo) -> Body:
    quota, services = settings.quota, settings.services
    milli = sum(_pods(one) * millicores_of(one.cpu) + millicores_of(one.canary.cpu) for one in services)
    octets = sum(_pods(one) * bytes_of(one.memory) + bytes_of(one.canary.memory) for one in services)
    processors = cpu(quota.cpu) if quota.cpu else cpu(f"{milli}m")
    space = memory(quota.memory) if quota.memory else memory(f"{-(-octets // MEBI)}Mi")
    gpus = sum(_pods(one) * one.gpu.count for one in services if one.gpu is not None)
    hard = {
        "requests.cpu": processors,
        "limits.cpu": processors,
        "requests.memory": space,
        "limits.memory": space,
        "pods": str(quota.pods or sum(_pods(one) + 1 for one in services)),
    }
    if gpus and cluster.gpu_resource is not None:
        hard[f"requests.{cluster.gpu_resource}"] = str(gpus)
    return hard


def _pods(service: ServiceSettings) -> int:
    return RELEASE * service.max_replicas + 1  # one more while an old pod ends
