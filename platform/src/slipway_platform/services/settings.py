"""The stack file of `platform/services`: one environment, and the services in it. `Pulumi.example.yaml` shows all.

It decides nothing about objects: the modules beside it do. Every field that has a default is safe as it is. The rules
that need two fields are in `__post_init__`, the sum of all costs is in `cost`.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from slipway_bundle import UsageError
from slipway_platform.cluster.info import DnsLabel
from slipway_platform.quantities import cpu, memory
from slipway_platform.services.gate_settings import Canary
from slipway_platform.settings import Secret

__all__ = [
    "PROJECT",
    "FileSecret",
    "Gpu",
    "Hpa",
    "ImageReference",
    "Ingress",
    "Keda",
    "Keys",
    "ModelVolume",
    "Prices",
    "Quota",
    "ServiceSettings",
    "ServicesSettings",
    "StackRefusedError",
]

PROJECT: Final = "slipway-services"
"""The name in `platform/services/Pulumi.yaml`, and the namespace of the keys."""

ImageReference = Annotated[str, Meta(pattern=r"^[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}\Z")]
"""`REGISTRY/NAME@sha256:…`: by digest, never by tag."""

Count = Annotated[int, Meta(ge=1, le=10_000)]
Seconds = Annotated[int, Meta(ge=1)]
Money = Annotated[float, Meta(ge=0)]


class StackRefusedError(UsageError):
    """Settings that are valid one by one, and not together."""

    code = "platform_services_refused"


class Hpa(Struct, frozen=True, kw_only=True):
    """Replicas follow the processors that they use (HorizontalPodAutoscaler v2)."""

    max_replicas: Count = 6
    """The cap; a release needs up to as many again for its canary."""
    cpu_percent: Annotated[int, Meta(ge=10, le=95)] = 60
    """Of what a pod asks for, on average."""
    scale_down_s: Annotated[int, Meta(ge=0, le=3_600)] = 300
    """How long less must have been enough before a pod goes."""


class Keda(Struct, frozen=True, kw_only=True):
    """Replicas follow what is under way and what waits (KEDA, asking Prometheus)."""

    max_replicas: Count = 6
    in_flight: Annotated[int, Meta(ge=1)] = 16
    """Requests that one replica should have under way."""
    queued: Annotated[int, Meta(ge=1)] = 64
    """Requests that may wait for one replica's runner pools."""
    fallback_replicas: Count | None = None
    """When Prometheus cannot be asked; None: half of the cap, and at least `replicas`."""
    cooldown_s: Seconds = 300


class Gpu(Struct, frozen=True, kw_only=True):
    """GPUs for each replica; what they are called, and on which nodes they are, the cluster says."""

    count: Annotated[int, Meta(ge=1, le=16)] = 1
    node_labels: dict[str, str] = {}
    """Beside those of the cluster: one kind of GPU, for example."""


class Ingress(Struct, frozen=True, kw_only=True):
    """How users reach the service."""

    host: Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z")]
    path: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9/_-]*\Z")] = "/"
    """Paths that begin so; handed on as they are."""
    rate_per_s: Count = 100
    """Requests that one client address may send, on average; more are answered with 429."""
    burst: Count = 200
    tls_secret: DnsLabel | None = None
    """With the certificate; None: plain HTTP, where something in front ends TLS."""
    gateway: str | None = None
    """`NAMESPACE/NAME` of a Gateway: an HTTPRoute is made instead of Traefik's own kinds. Then Argo Rollouts needs its
    Gateway API plugin."""


class FileSecret(Struct, frozen=True, kw_only=True):
    """A Secret, mounted read-only: API keys, certificates, tokens. A file is followed when it changes."""

    name: DnsLabel
    """Of the Secret."""
    path: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9/._-]+\Z")]
    """Folder to mount it at."""
    remote_key: str | None = None
    """External Secrets copies it from there, from the store of `keys`; None: somebody else makes it."""


class ModelVolume(Struct, frozen=True, kw_only=True):
    """Weights that are not in the service's image."""

    name: DnsLabel
    reference: ImageReference
    """Of a bundle, or of a modelcar image."""
    path: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9/._-]+\Z")]
    by_init_container: bool = False
    """False: an image volume (Kubernetes 1.35 or later), which the node pulls and caches as any image. True: an init
    container pulls the bundle into a store at `path`, on every start of a pod."""
    size: str = "4Gi"
    """Of the store at most, where an init container fills it."""


class ServiceSettings(Struct, frozen=True, kw_only=True):
    """One service: what a model team writes. A name and an image are enough."""

    name: DnsLabel
    """Of the service; it is what `service` says in metrics, rules and dashboards."""
    image: ImageReference
    """The bundle, by the digest that was signed."""
    workload: DnsLabel | None = None
    """Of the objects, where it is not `name`: keep the former one when a service is renamed."""
    formerly: tuple[DnsLabel, ...] = ()
    """Names that this entry had: with `workload`, a rename replaces nothing."""

    replicas: Count = 2
    """At least; without autoscaling, exactly."""
    cpu: str = "1"
    memory: str = "1Gi"
    gpu: Gpu | None = None
    hpa: Hpa | None = Hpa()
    keda: Keda | None = None
    """One of both, or none: then `hpa: null`."""
    ingress: Ingress | None = None
    callers: tuple[DnsLabel, ...] = ()
    """Namespaces whose pods may call it, beside the ingress."""

    environment: dict[str, str] = {}
    """More `SLIPWAY_*` settings. No secrets: they would be in plain state."""
    files: tuple[FileSecret, ...] = ()
    volumes: tuple[ModelVolume, ...] = ()
    target: str | None = None
    """What to serve instead of the bundle in the image: a reference into a store that a volume brings."""
    grpc: bool = False
    drain_s: Seconds = 10
    """How long a stopping pod still takes requests: longer than routers need to hear that it goes."""
    stop_s: Seconds = 30
    """How long it may then take to finish them."""
    start_s: Seconds = 120
    """How long it may take to load its models."""
    priority_class: DnsLabel | None = "slipway-serving"
    """Made by `platform/addons`."""

    canary: Canary = Canary()
    slo: str | None = None
    """The service in `services/` whose objectives hold here; None: `name`."""
    usd_per_hour: Money | None = None
    """Of one replica; None: what `prices` make of its processors, memory and GPUs."""

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        cpu(self.cpu)
        memory(self.memory)
        if self.hpa is not None and self.keda is not None:
            raise ValueError("`hpa` and `keda` would both set the replicas; write `hpa: null` beside `keda`")
        if self.replicas > self.max_replicas:
            raise ValueError(f"`replicas` is {self.replicas} and the cap {self.max_replicas}; expected no more than it")
        for name in self.environment:
            if not name.startswith(("SLIPWAY_", "OTEL_")):
                raise ValueError(f"`environment` has {name!r}, expected names that begin with SLIPWAY_ or OTEL_")

    @property
    def object_name(self) -> str:
        """Of its Kubernetes objects."""
        return self.workload or self.name

    @property
    def max_replicas(self) -> int:
        """How many there may be, a release aside."""
        scaling = self.keda or self.hpa
        return self.replicas if scaling is None else scaling.max_replicas

    @property
    def digest(self) -> str:
        """Of the image: `sha256:…`."""
        return self.image.partition("@")[2]


class Keys(Struct, frozen=True, kw_only=True):
    """The Secret `slipway-verdicts`: `read` is for Argo Rollouts, `write` for Jobs, `signing` for their evidence."""

    store: str | None = None
    """A ClusterSecretStore of External Secrets; None: `read` and `write` here, or somebody else makes the Secret."""
    remote_key: str = "slipway/verdicts"
    """In that store; its properties are `read`, `write` and, where evidence is signed, `signing`."""
    read: Secret | None = None
    write: Secret | None = None
    signing: Secret | None = None
    signs: bool = False
    """Whether the Secret has `signing`."""

    def __post_init__(self) -> None:
        """Both keys or none."""
        if (self.read is None) != (self.write is None):
            raise ValueError("`keys` has one of `read` and `write`, expected both or none")
        if self.read is not None and self.store is not None:
            raise ValueError("`keys` has a store and keys of its own, expected one of both")

    @property
    def is_signing(self) -> bool:
        """Whether Jobs sign their evidence."""
        return self.signs or self.signing is not None


class Quota(Struct, frozen=True, kw_only=True):
    """What the services may ask for at most, beside the platform's own quota.

    None: what they need at their caps, during a release of all.
    """

    cpu: str | None = None
    memory: str | None = None
    pods: Count | None = None


class Prices(Struct, frozen=True, kw_only=True):
    """What the machines cost, an hour. Zeros say nothing, and then no cost is recorded."""

    usd_per_cpu: Money = 0.0
    usd_per_gib: Money = 0.0
    usd_per_gpu: Money = 0.0


class ServicesSettings(Struct, frozen=True, kw_only=True):
    """One environment: a namespace that `platform/addons` made, what its services share, and the services."""

    cluster: str
    """The cluster's stack: `ORGANIZATION/slipway-cluster/NAME`."""
    namespace: DnsLabel
    platform_image: ImageReference
    """What the gate's Jobs run: the slipway command line, by digest."""
    verdicts: Annotated[str, Meta(pattern=r"^https?://[^/\s]+\Z")] = "http://slipway-verdicts.slipway.svc:8010"
    """The verdict service, as Argo Rollouts and Jobs reach it."""
    plain_registry: bool = False
    """The registry speaks HTTP, and the gate's Jobs are told so; for a lab."""
    keys: Keys = Keys()
    traces: str | None = None
    """Where spans go: `http://otel-collector.monitoring.svc:4318`; None: nowhere."""
    prices: Prices = Prices()
    usd_per_hour_cap: Money | None = None
    """All services at their caps may cost so much; more is refused at preview. None: no cap."""
    quota: Quota = Quota()
    services: Annotated[tuple[ServiceSettings, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        """One entry a name."""
        names = [service.object_name for service in self.services]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"`services` has {', '.join(map(repr, twice))} more than once")
