"""How users get to a service, and where Argo Rollouts sets the weights: Traefik's kinds, or an HTTPRoute.

The invariants: the weights are written once, as all to stable, and belong to Argo from then on; a client's rate is
limited at the edge; the edge takes `X-Slipway-Synthetic` off, so that no user can hide among load tests.
"""

from collections.abc import Iterator
from typing import Final

from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.manifests import Body, Manifest, manifest
from slipway_platform.services.naming import HTTP, labels_of
from slipway_platform.services.settings import Ingress, ServiceSettings

__all__ = ["GATEWAY_PLUGIN", "routes", "traffic_routing"]

TRAEFIK: Final = "traefik.io/v1alpha1"
GATEWAY: Final = "gateway.networking.k8s.io/v1"
GATEWAY_PLUGIN: Final = "argoproj-labs/gatewayAPI"
SYNTHETIC: Final = "X-Slipway-Synthetic"


def traffic_routing(service: ServiceSettings, namespace: str) -> Body:
    """The `trafficRouting` of the Rollout."""
    if service.ingress is not None and service.ingress.gateway is not None:
        return {"plugins": {GATEWAY_PLUGIN: {"httpRoute": service.object_name, "namespace": namespace}}}
    return {"traefik": {"weightedTraefikServiceName": service.object_name}}


def routes(service: ServiceSettings, namespace: str, cluster: ClusterInfo) -> Iterator[Manifest]:
    """What must be there before the Rollout: who is asked for weights, and for users."""
    ingress = service.ingress
    if ingress is not None and ingress.gateway is not None:
        yield _http_route(service, namespace, ingress, ingress.gateway)
        return
    yield manifest(
        TRAEFIK,
        "TraefikService",
        service.object_name,
        namespace,
        labels=labels_of(service),
        others=("spec.weighted.services",),
        spec={"weighted": {"services": _backends(service)}},
    )
    if ingress is not None:
        yield from _traefik(service, namespace, ingress, cluster)


def _traefik(service: ServiceSettings, namespace: str, ingress: Ingress, cluster: ClusterInfo) -> Iterator[Manifest]:
    name, labels = service.object_name, labels_of(service)
    rate = {"average": ingress.rate_per_s, "burst": ingress.burst, "period": "1s"}
    yield manifest(TRAEFIK, "Middleware", f"{name}-rate", namespace, labels=labels, spec={"rateLimit": rate})
    headers = {"customRequestHeaders": {SYNTHETIC: ""}}  # an empty value takes the header off
    yield manifest(TRAEFIK, "Middleware", f"{name}-edge", namespace, labels=labels, spec={"headers": headers})
    route = {
        "kind": "Rule",
        "match": f"Host(`{ingress.host}`) && PathPrefix(`{ingress.path}`)",
        "middlewares": [{"name": f"{name}-rate"}, {"name": f"{name}-edge"}],
        "services": [{"name": name, "kind": "TraefikService"}],
    }
    yield manifest(
        TRAEFIK,
        "IngressRoute",
        name,
        namespace,
        labels=labels,
        annotations={"kubernetes.io/ingress.class": cluster.ingress_class},
        spec={
            "entryPoints": ["websecure" if ingress.tls_secret else "web"],
            "routes": [route],
            "tls": {"secretName": ingress.tls_secret} if ingress.tls_secret else None,
        },
    )


def _http_route(service: ServiceSettings, namespace: str, ingress: Ingress, gateway: str) -> Manifest:
    """The Gateway API has no rate limit of its own: set it at the Gateway, by what its implementation has."""
    where, _, name = gateway.rpartition("/")
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": ingress.path}}],
        "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": [SYNTHETIC]}}],
        "backendRefs": _backends(service),
    }
    return manifest(
        GATEWAY,
        "HTTPRoute",
        service.object_name,
        namespace,
        labels=labels_of(service),
        others=("spec.rules[*].backendRefs",),
        spec={
            "parentRefs": [{"name": name, "namespace": where or None}],
            "hostnames": [ingress.host],
            "rules": [rule],
        },
    )


def _backends(service: ServiceSettings) -> list[Body]:
    return [
        {"name": f"{service.object_name}-{track}", "kind": "Service", "port": HTTP, "weight": weight}
        for track, weight in (("stable", 100), ("canary", 0))
    ]
