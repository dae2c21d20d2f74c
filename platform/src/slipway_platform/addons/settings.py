"""The configuration of `platform/addons`: how each add-on comes, which namespaces models get, what runs of our own.

It makes nothing. The defaults are those of a cluster that is to be safe: every add-on pinned and made here, nothing
public, namespaces that take only restricted pods and only so many of them.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from slipway_platform.cluster.info import DnsLabel
from slipway_platform.settings import Secret

__all__ = [
    "PROJECT",
    "AddonSettings",
    "AddonsSettings",
    "Caps",
    "ModelNamespace",
    "VerdictSettings",
    "WebhookSettings",
]

PROJECT: Final = "slipway-addons"
"""The name in `platform/addons/Pulumi.yaml`: the namespace of these keys."""

Mode = Literal["managed", "mirror", "external"]
"""Made here from the chart of the lock; the same from a place of the company; or there already, and left alone."""

Image = Annotated[str, Meta(pattern=r"^[^\s@]+@sha256:[0-9a-f]{64}\Z")]
"""A container image by digest."""

Quantity = Annotated[str, Meta(pattern=r"^\d+(\.\d+)?[A-Za-z]*\Z")]
Count = Annotated[int, Meta(ge=1, le=100_000)]


class AddonSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One add-on, where it differs from the rest."""

    mode: Mode | None = None
    """None: the stack's `mode`."""

    values: dict[str, Any] = {}
    """Values of the chart that go over ours, table by table."""


class ModelNamespace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A namespace in which models run: what all of them together may take."""

    cpu: Quantity = "16"
    memory: Quantity = "64Gi"
    gpus: Annotated[int, Meta(ge=0, le=1_000)] = 0
    pods: Count = 100
    storage: Quantity = "100Gi"
    """Of all volume claims together."""

    owner: str | None = None
    """Who answers for it: a label, for cost and for on-call."""


class Caps(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What no object in a namespace of models may exceed, whoever applies it."""

    max_replicas: Count = 20
    """Of one workload or autoscaler."""

    public_load_balancers: bool = False
    """Whether a Service of type LoadBalancer may be made there; what serves the public comes through the ingress."""


class WebhookSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The webhook that asks `policy.toml` before a pod runs (docs/admission.md)."""

    policy: str
    """The file `policy.toml`, from the folder of this stack; the keys that it names go along."""

    ca: str | None = None
    """A file: who signed the webhook's certificate, PEM. None: an injector (cert-manager) fills it in."""

    certificate: str | None = None
    """A file, PEM. None: the Secret `slipway-policy-tls` is made by somebody else (cert-manager, External Secrets)."""

    key: Secret | None = None
    """The certificate's private key, PEM."""

    replicas: Annotated[int, Meta(ge=1, le=10)] = 2
    registry_secret: DnsLabel | None = None
    """A Secret of type `kubernetes.io/dockerconfigjson` in the platform's namespace, to read bundles with."""

    plain_registry: bool = False
    """Whether the registry speaks plain HTTP, as the lab's does."""

    environment: dict[str, str] = {}
    """More variables, `SLIPWAY_REGISTRY_MIRRORS` say (docs/registry.md); nothing secret."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("expected `certificate` and `key` together, or neither")


class VerdictSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The service that keeps verdicts and answers rollouts (docs/verdicts.md)."""

    keys: Secret | None = None
    """The text of `keys.json`. None: the Secret `slipway-verdicts-keys` is made by somebody else."""

    signers: tuple[str, ...] = ()
    """Files with public keys, PEM: evidence must have the signature of one."""

    storage: Quantity = "10Gi"
    keep: Annotated[str, Meta(pattern=r"^\d+[smhdw]\Z")] = "90d"
    """How long evidence is kept; verdicts are kept for ever."""

    max_age: Annotated[str, Meta(pattern=r"^\d+[smhdw]\Z")] = "1d"
    """How long a verdict counts."""

    callers: tuple[str, ...] = ()
    """CIDRs outside of the cluster's pods that may call: where the rollouts controller runs as a process, its node."""


class AddonsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`slipway-addons:` in a stack file."""

    cluster: Annotated[str, Meta(pattern=r"^[^/\s]+/[^/\s]+/[^/\s]+\Z")]
    """The cluster's stack: `ORGANIZATION/slipway-cluster/NAME`."""

    mode: Mode = "managed"
    mirror: Annotated[str, Meta(pattern=r"^(oci://\S+[^/\s]|\.{0,2}/\S*)\Z")] | None = None
    """Where the charts of mode `mirror` are: `oci://HOST/PATH`, or a folder that begins with `./`, `../` or `/`."""

    addons: dict[str, AddonSettings] = {}
    lock: str = "addons.lock"
    grafana_password: Secret | None = None
    public_ingress: bool = False
    """Whether Traefik gets a load balancer; else its Service has an address of the cluster only."""

    namespaces: dict[DnsLabel, ModelNamespace] = {}
    caps: Caps = Caps()
    image: Image | None = None
    """The platform's own image, which the webhook and the verdict service run from."""

    webhook: WebhookSettings | None = None
    """None: no webhook; then nothing in the cluster asks for signatures."""

    verdicts: VerdictSettings | None = None

    def __post_init__(self) -> None:
        if self.image is None and (self.webhook is not None or self.verdicts is not None):
            raise ValueError("`webhook` and `verdicts` need `image`: the platform's image by digest")

    def mode_of(self, name: str) -> Mode:
        """How the add-on `name` comes."""
        given = self.addons.get(name)
        return self.mode if given is None or given.mode is None else given.mode
