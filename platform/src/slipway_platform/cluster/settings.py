"""The configuration of `platform/cluster`: which kind of cluster, and what that kind has to be told.

It makes nothing. The invariant: exactly the table of the chosen kind is there, so that a stack file never carries
settings that nothing reads.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from slipway_platform.cluster.info import DnsLabel, Kind, Toleration
from slipway_platform.settings import Secret

__all__ = [
    "PROJECT",
    "ClusterFacts",
    "ClusterSettings",
    "CpuPool",
    "EksSettings",
    "ExistingSettings",
    "GpuPool",
    "Identity",
    "LabSettings",
    "Network",
]

PROJECT: Final = "slipway-cluster"
"""The name in `platform/cluster/Pulumi.yaml`: the namespace of these keys."""

Cidr = Annotated[str, Meta(pattern=r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}\Z")]
Arn = Annotated[str, Meta(pattern=r"^arn:[a-z-]+:iam::(\d{12}|aws):\S+\Z")]
Count = Annotated[int, Meta(ge=0, le=10_000)]


class ClusterFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What differs from the usual in a cluster; the meaning of each is that of `ClusterInfo`."""

    ingress_class: str | None = None
    ingress_namespace: DnsLabel | None = None
    gateway_api: bool | None = None
    gpu_resource: str | None = None
    gpu_node_label: dict[str, str] | None = None
    gpu_toleration: Toleration | None = None
    storage_class: str | None = None
    monitoring_namespace: DnsLabel | None = None
    rollouts_namespace: DnsLabel | None = None
    platform_namespace: DnsLabel | None = None
    prometheus_url: str | None = None


class ExistingSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cluster that is there: how to reach it, in one of two ways."""

    kubeconfig: Secret | None = None
    """The text of a kubeconfig: `pulumi config set --secret --path existing.kubeconfig < FILE`."""

    kubeconfig_path: str | None = None
    """A file on the machine where `pulumi up` runs; files that it names are read too."""

    context: str | None = None
    """Which context of it; None: its current one."""

    def __post_init__(self) -> None:
        if (self.kubeconfig is None) == (self.kubeconfig_path is None):
            raise ValueError("expected either `kubeconfig` (a secret) or `kubeconfig_path`")


class LabSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The lab on this machine (`slipway lab up`)."""

    name: DnsLabel = "lab"
    home: str = "~/.local/share/slipway/lab"
    """The folder that holds `NAME/lab.json`."""


class Network(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where nodes live: a network that is made here, or subnets that somebody else owns."""

    cidr: Cidr = "10.40.0.0/16"
    """Of the network that is made; a /16, which is cut into /20."""

    zones: Annotated[tuple[str, ...], Meta(max_length=4)] = ()
    """Availability zones of the network that is made; two at least, three for a control plane that matters."""

    nat_per_zone: bool = False
    """A NAT gateway in each zone: a zone that fails takes no other one's way out with it, for twice or three times
    the price."""

    private_subnets: tuple[str, ...] = ()
    """Ids of private subnets to use instead; nothing of the network is made then."""

    def __post_init__(self) -> None:
        if bool(self.zones) == bool(self.private_subnets):
            raise ValueError("expected either `zones` (a network is made) or `private_subnets`")
        if len(self.zones or self.private_subnets) < 2:
            raise ValueError("expected at least two zones or subnets: EKS takes no fewer")


class CpuPool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nodes without a GPU."""

    families: Annotated[tuple[str, ...], Meta(min_length=1)] = ("m7a", "m7i", "c7a", "c7i")
    """Instance families that the autoscaler chooses from."""

    spot: bool = False
    """Also take spot instances; only what may be interrupted belongs on them."""

    max_cpus: Annotated[int, Meta(ge=2, le=10_000)] = 64
    """Processors of all nodes of this pool together: the cap on its cost."""


class GpuPool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nodes with NVIDIA GPUs; the driver and the device plugin are part of EKS Auto Mode's image."""

    families: Annotated[tuple[str, ...], Meta(min_length=1)] = ("g6", "g5")
    spot: bool = False
    max_gpus: Annotated[int, Meta(ge=1, le=1_000)] = 4
    """GPUs of all nodes of this pool together: the cap on its cost."""

    max_cpus: Annotated[int, Meta(ge=2, le=10_000)] = 96


class Identity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service account that may act as a role of AWS, without a key anywhere."""

    namespace: DnsLabel
    service_account: DnsLabel
    policies: Annotated[tuple[Arn, ...], Meta(min_length=1)]
    """ARNs of the IAM policies of the role."""


class EksSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cluster that is made on AWS. Not executed in CI."""

    region: Annotated[str, Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-\d\Z")]
    version: Annotated[str, Meta(pattern=r"^1\.\d{2}\Z")] = "1.35"
    """Kubernetes; 1.34 is the oldest that the platform is written for."""

    network: Network
    cpu: CpuPool = CpuPool()
    gpu: GpuPool | None = None
    """None: no nodes with a GPU."""

    public_access: tuple[Cidr, ...] = ()
    """Who may reach the API server from the internet; empty: only the private network."""

    administrators: tuple[Arn, ...] = ()
    """ARNs of roles that administer the cluster, beside whoever makes it."""

    identities: dict[DnsLabel, Identity] = {}
    """Name of a role -> who may act as it."""

    logs: tuple[str, ...] = ("api", "audit", "authenticator")
    """What of the control plane is logged to CloudWatch."""

    def __post_init__(self) -> None:
        if "0.0.0.0/0" in self.public_access:
            raise ValueError("`public_access` with 0.0.0.0/0 opens the API server to everybody")


class ClusterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`slipway-cluster:` in a stack file."""

    name: DnsLabel
    provider: Kind
    registry: Annotated[str, Meta(min_length=1)]
    """Where nodes pull bundles from: `HOST[:PORT][/PATH]`."""

    facts: ClusterFacts = ClusterFacts()
    existing: ExistingSettings | None = None
    lab: LabSettings | None = None
    eks: EksSettings | None = None

    def __post_init__(self) -> None:
        given = [kind for kind in ("existing", "lab", "eks") if getattr(self, kind) is not None]
        if self.provider != "lab" and self.provider not in given:
            raise ValueError(f"`provider: {self.provider}` needs the table `{self.provider}`")
        foreign = [kind for kind in given if kind != self.provider]
        if foreign:
            raise ValueError(
                f"the table `{foreign[0]}` is given with `provider: {self.provider}`, expected it not to be"
            )


def facts_given(facts: ClusterFacts) -> dict[str, object]:
    """The facts that are not None, by name: what replaces the defaults of a kind of cluster."""
    return {name: value for name, value in msgspec.structs.asdict(facts).items() if value is not None}
