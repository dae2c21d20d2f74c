"""The verdict service in the cluster: `slipway gate serve` with its store on a volume of its own.

Pure: it makes manifests. The invariants: one pod owns the store, and the one before it is gone first; without keys it
does not start; the volume outlives the pod, the Deployment and a `pulumi destroy` (docs/disaster-recovery.md).
"""

from collections.abc import Iterator, Mapping
from typing import Final

from slipway_platform.addons.namespaces import part_labels
from slipway_platform.addons.peers import anywhere, gate_jobs, namespace_peer, tcp
from slipway_platform.addons.servers import METRICS, PlatformServer, Port
from slipway_platform.addons.settings import VerdictSettings
from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.manifests import Manifest, manifest
from slipway_platform.quantities import memory

__all__ = ["KEYS_SECRET", "NAME", "PORT", "verdict_server", "verdict_service", "verdict_store", "verdicts_url"]

NAME: Final = "slipway-verdicts"
KEYS_SECRET: Final = "slipway-verdicts-keys"  # noqa: S105  # the name of a Secret
PORT: Final = 8010
ADMIN_PORT: Final = 8012
STORE: Final = "/var/lib/slipway"
KEYS: Final = "/etc/slipway/keys"
SIGNERS: Final = "/etc/slipway/signers"


def verdicts_url(info: ClusterInfo) -> str:
    """Where it is, from inside the cluster."""
    return f"http://{NAME}.{info.platform_namespace}.svc:{PORT}"


def verdict_server(
    settings: VerdictSettings, image: str, info: ClusterInfo, signers: Mapping[str, str]
) -> PlatformServer:
    """The server.

    Args:
        settings: Of the service.
        image: The platform's image by digest.
        info: Of the cluster.
        signers: File name -> public key, PEM.
    """
    return PlatformServer(
        name=NAME,
        namespace=info.platform_namespace,
        image=image,
        args=(
            *("gate", "serve", "--store", f"{STORE}/verdicts.db", "--keys", f"{KEYS}/keys.json"),
            *("--host", "0.0.0.0", "--port", str(PORT)),  # noqa: S104  # the NetworkPolicy says who may
            *("--admin-host", "0.0.0.0", "--admin-port", str(ADMIN_PORT)),  # noqa: S104
            *("--max-age", settings.max_age, "--keep", settings.keep),
            *(word for name in sorted(signers) for word in ("--signer", f"{SIGNERS}/{name}")),
        ),
        ports=(Port(name="http", number=PORT), Port(name=METRICS, number=ADMIN_PORT)),
        memory="1Gi",
        volumes=(
            {"name": "store", "persistentVolumeClaim": {"claimName": NAME}},
            {"name": "keys", "secret": {"secretName": KEYS_SECRET, "defaultMode": 0o440}},
            *([{"name": "signers", "configMap": {"name": NAME}}] if signers else []),
        ),
        mounts={"store": STORE, "keys": KEYS} | ({"signers": SIGNERS} if signers else {}),
        writable=("store",),
        has_state=True,
    )


def verdict_store(settings: VerdictSettings, info: ClusterInfo) -> Manifest:
    """The claim of the volume that verdicts are on; to be made with `protect`."""
    return manifest(
        "v1",
        "PersistentVolumeClaim",
        NAME,
        info.platform_namespace,
        labels=part_labels(NAME),
        spec={
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": info.storage_class,
            "resources": {"requests": {"storage": memory(settings.storage)}},
        },
    )


def verdict_service(
    server: PlatformServer, settings: VerdictSettings, info: ClusterInfo, signers: Mapping[str, str]
) -> Iterator[Manifest]:
    """Everything but the store and the keys."""
    if signers:
        yield manifest("v1", "ConfigMap", NAME, server.namespace, labels=server.labels, data=dict(signers))
    yield server.account()
    yield server.deployment()
    yield server.service()
    callers = [gate_jobs(), namespace_peer(info.rollouts_namespace), *anywhere(settings.callers)]
    yield server.network_policy(
        [
            {"from": callers, "ports": tcp(PORT)},
            {"from": [namespace_peer(info.monitoring_namespace)], "ports": tcp(ADMIN_PORT)},
        ],
        [],  # it calls nobody
    )
    yield server.monitor()
