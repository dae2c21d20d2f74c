"""Who may talk to whom in a namespace of services: nobody, and then these.

The invariants: every pod of the namespace is under a policy that lets nothing in and nothing out; each exception names
both a peer and a port; the admin port, which asks nobody who he is, is open to monitoring and to the gate's Jobs only.
A cluster whose network plugin knows no NetworkPolicy enforces none of it.
"""

from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.manifests import Body, Manifest, manifest
from slipway_platform.services.naming import ADMIN, GATE, GRPC, HTTP, NAME, labels_of, selector_of
from slipway_platform.services.settings import ServiceSettings

__all__ = ["deny_all", "gate_policy", "service_policy"]

NAMESPACE: Final = "kubernetes.io/metadata.name"
"""The label that every namespace has, with its own name."""
ANYWHERE: Final = "0.0.0.0/0"
HTTPS: Final = 443


def deny_all(namespace: str, labels: dict[str, str]) -> Manifest:
    """Nothing in, nothing out, for every pod that no other policy lets."""
    return manifest(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "deny-all",
        namespace,
        labels=labels,
        spec={"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    )


def service_policy(service: ServiceSettings, namespace: str, cluster: ClusterInfo, traces: str | None) -> Manifest:
    """Users from the ingress and the named callers, scrapes from monitoring, load from the gate; out: names, spans."""
    public = [HTTP, GRPC] if service.grpc else [HTTP]
    pull = any(volume.by_init_container for volume in service.volumes)
    jobs = {"podSelector": {"matchExpressions": [{"key": GATE, "operator": "Exists"}]}}
    return manifest(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        service.object_name,
        namespace,
        labels=labels_of(service),
        spec={
            "podSelector": {"matchLabels": selector_of(service)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [_namespace(name) for name in (cluster.ingress_namespace, *service.callers)],
                    "ports": _tcp(*public),
                },
                {"from": [_namespace(cluster.monitoring_namespace)], "ports": _tcp(ADMIN)},
                {"from": [jobs], "ports": _tcp(*public, ADMIN)},
            ],
            "egress": [
                *_names(),
                *([_to_url(traces)] if traces else []),
                *(_registries([volume.reference for volume in service.volumes]) if pull else []),
            ],
        },
    )


def gate_policy(namespace: str, services: Sequence[ServiceSettings], labels: dict[str, str], verdicts: str) -> Manifest:
    """Jobs of the gate reach the services, the verdict service and the registries, and nobody reaches them."""
    names = sorted(service.object_name for service in services)
    pods = {"podSelector": {"matchExpressions": [{"key": NAME, "operator": "In", "values": names}]}}
    return manifest(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "gate",
        namespace,
        labels=labels,
        spec={
            "podSelector": {"matchExpressions": [{"key": GATE, "operator": "Exists"}]},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [
                *_names(),
                {"to": [pods], "ports": _tcp(HTTP, GRPC, ADMIN)},
                _to_url(verdicts),
                *_registries([service.image for service in services]),
            ],
        },
    )


def _names() -> Iterator[Body]:
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    yield {"to": [_namespace("kube-system")], "ports": ports}


def _to_url(url: str) -> Body:
    """A service of the cluster (`NAME.NAMESPACE.svc`) is let through by its namespace, what is outside by its port.

    Policies see pods behind a Service, and so the pods' port: name the Service's port as its pods' is.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (HTTPS if parts.scheme == "https" else 80)
    labels = host.split(".")
    inside = len(labels) > 2 and labels[2] == "svc"
    peer = _namespace(labels[1]) if inside else {"ipBlock": {"cidr": ANYWHERE}}
    return {"to": [peer], "ports": _tcp(port)}


def _registries(references: Sequence[str]) -> Iterator[Body]:
    ports = {urlsplit(f"//{reference.partition('/')[0]}").port or HTTPS for reference in references}
    for port in sorted(ports):
        yield {"to": [{"ipBlock": {"cidr": ANYWHERE}}], "ports": _tcp(port)}


def _namespace(name: str) -> Body:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE: name}}}


def _tcp(*ports: int) -> list[Body]:
    return [{"protocol": "TCP", "port": port} for port in ports]
