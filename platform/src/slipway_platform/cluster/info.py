"""What other stacks know about a cluster: the stack outputs of `platform/cluster`, except its kubeconfig.

It holds facts and no choice: which class an ingress has, how a GPU is called, where metrics are. The invariant: every
kind of cluster answers the same questions, so no other stack asks which kind it is. The kubeconfig is a second output,
always a secret, and only `slipway_platform.provider` reads it.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from slipway_bundle import UsageError

__all__ = ["ClusterInfo", "ClusterInfoError", "Toleration", "decode_info"]

Kind = Literal["existing", "lab", "eks"]
"""The kinds of cluster that have a module beside this one."""

DnsLabel = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")]
"""What a namespace may be called (RFC 1123)."""


class ClusterInfoError(UsageError):
    """The cluster stack's outputs are missing or are not what this version expects."""

    code = "cluster_info_invalid"


class Toleration(Struct, frozen=True, kw_only=True):
    """What a pod tolerates to be placed on a node with a GPU."""

    key: str
    value: str | None = None
    """None tolerates every value of the key."""

    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


class ClusterInfo(Struct, frozen=True, kw_only=True):
    """The facts of one cluster; the output `info` of `platform/cluster`.

    A stored format: new fields have defaults, unknown fields of a newer cluster stack are ignored.
    """

    kind: Kind
    name: str
    """The cluster's own name, for messages and labels."""

    ingress: Literal["traefik"] = "traefik"
    """What routes traffic, and what Argo Rollouts moves weights in."""

    ingress_class: str = "traefik"
    ingress_namespace: DnsLabel = "traefik"
    gateway_api: bool = False
    """True where the Gateway API's kinds are installed."""

    gpu_resource: str | None = None
    """The extended resource that a GPU is asked for by (`nvidia.com/gpu`); None where the cluster has no GPU."""

    gpu_node_label: dict[str, str] = {}
    """Labels of the nodes that have a GPU; empty means that the resource alone decides."""

    gpu_toleration: Toleration | None = None
    storage_class: str | None = None
    """None asks for the cluster's default class."""

    registry: str
    """Host and port, and path where there is one, that nodes pull bundles from."""

    monitoring_namespace: DnsLabel = "monitoring"
    rollouts_namespace: DnsLabel = "argo-rollouts"
    platform_namespace: DnsLabel = "slipway"
    """Where the admission webhook and the verdict service run."""

    prometheus_url: str = "http://prometheus-operated.monitoring.svc:9090"
    """How the gate and Argo Rollouts ask Prometheus, from inside the cluster."""


def decode_info(raw: Mapping[str, object], stack: str) -> ClusterInfo:
    """The `info` output of the cluster stack `stack`.

    Raises:
        ClusterInfoError: It is not what this version of the platform expects.
    """
    try:
        return msgspec.convert(raw, ClusterInfo)
    except msgspec.ValidationError as error:
        raise ClusterInfoError(
            f"the output 'info' of the stack {stack!r} is not the facts of a cluster: {error}",
            hint="run `pulumi up` in platform/cluster with the same version of this repository",
            stack=stack,
        ) from error
