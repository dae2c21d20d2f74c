"""What the objects of a service are called, and how they find each other: labels, ports, addresses.

It makes no object. The invariants: a service's selector never fits a gate's Job; what tells stable from canary is put
on pods by Argo Rollouts alone.
"""

from typing import Final

from slipway_platform.services.settings import ServiceSettings

__all__ = [
    "ADMIN",
    "FAILED",
    "GATE",
    "GRPC",
    "HASH_LABEL",
    "HTTP",
    "KEYS",
    "NAME",
    "SERVICE",
    "TRACK",
    "address",
    "labels_of",
    "promised",
    "selector_of",
]

NAME: Final = "app.kubernetes.io/name"
SERVICE: Final = "slipway.dev/service"
TRACK: Final = "slipway.dev/track"
"""`stable` or `canary`; Argo Rollouts sets it, and changes it when a canary is promoted."""
GATE: Final = "slipway.dev/gate"
"""On the pods of the gate's Jobs: `smoke` or `stage`."""
HASH_LABEL: Final = "rollouts_pod_template_hash"
"""The label of the target, as Prometheus knows it."""

HTTP: Final = 8000
GRPC: Final = 8001
ADMIN: Final = 8002

KEYS: Final = "slipway-verdicts"
"""Keys of the verdict service, in the service's namespace, because analyses read Secrets of their own namespace."""

FAILED: Final = 'http_response_status_code=~"5..|429"'


def labels_of(service: ServiceSettings) -> dict[str, str]:
    """Of every object of a service."""
    return {
        NAME: service.object_name,
        "app.kubernetes.io/part-of": "slipway",
        "app.kubernetes.io/managed-by": "pulumi",
        SERVICE: service.name,
    }


def selector_of(service: ServiceSettings) -> dict[str, str]:
    """Of its pods, all tracks."""
    return {NAME: service.object_name}


def address(service: ServiceSettings, namespace: str, track: str, port: int = HTTP) -> str:
    """URL of one track inside the cluster: `http://churn-canary.shop.svc:8000`."""
    return f"http://{service.object_name}-{track}.{namespace}.svc:{port}"


def promised(service: ServiceSettings) -> str:
    """The name that rules and dashboards know it by."""
    return service.slo or service.name
