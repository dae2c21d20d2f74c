"""The Deployments of the platform's own servers: one shape for the webhook and the verdict service.

Pure: it makes manifests. The invariants: a server runs as nobody, from an image by digest, with a root that cannot be
written, without a token of Kubernetes, and with limits; models never take its place on a node, because without the
webhook nothing starts any more.
"""

from typing import Any, Final

from msgspec import Struct

from slipway_platform.addons.namespaces import PLATFORM, part_labels
from slipway_platform.manifests import Body, Manifest, manifest
from slipway_platform.quantities import cpu, memory

__all__ = ["PlatformServer", "Port"]

USER: Final = 65_532
"""Of the platform's image: nobody of the host."""
PULL_SECRET: Final = "/etc/slipway/registry"  # noqa: S105  # a folder
METRICS: Final = "admin"
"""The name of the port that Prometheus asks; only its namespace may."""


class Port(Struct, frozen=True, kw_only=True):
    """A port of a server."""

    name: str
    number: int


class PlatformServer(Struct, frozen=True, kw_only=True):
    """A server of the platform."""

    name: str
    namespace: str
    image: str
    """By digest; its entry point is `slipway`."""

    args: tuple[str, ...]
    ports: tuple[Port, ...]
    """The first is asked by the probes."""

    scheme: str = "HTTP"
    replicas: int = 1
    cpu: str = "100m"
    """That it is sure of: it starts on a full node, and is asked little."""

    cpu_limit: str = "500m"
    memory: str = "512Mi"
    environment: dict[str, str] = {}
    volumes: tuple[Body, ...] = ()
    """As in a pod's spec."""

    mounts: dict[str, str] = {}
    """Name of a volume -> where it is; read-only but for `writable`."""

    writable: tuple[str, ...] = ()
    registry_secret: str | None = None
    """A Secret with a `.dockerconfigjson`: how the server reads bundles."""

    has_state: bool = False
    """True: the pod before is gone before the next one starts, for both would open one store."""

    @property
    def labels(self) -> dict[str, str]:
        """Of all its objects."""
        return part_labels(self.name)

    @property
    def selector(self) -> dict[str, str]:
        """Of its pods."""
        return {"app.kubernetes.io/name": self.name}

    def deployment(self) -> Manifest:
        """The Deployment."""
        return self._object(
            "apps/v1",
            "Deployment",
            spec={
                "replicas": self.replicas,
                "selector": {"matchLabels": self.selector},
                "strategy": _AT_ONCE if self.has_state else _ROLLING,
                "template": {"metadata": {"labels": self.labels}, "spec": self._pod()},
            },
        )

    def service(self) -> Manifest:
        """The Service, with the same ports."""
        ports = [{"name": port.name, "port": port.number, "targetPort": port.name} for port in self.ports]
        return self._object("v1", "Service", spec={"selector": self.selector, "ports": ports})

    def account(self) -> Manifest:
        """The ServiceAccount, which may do nothing."""
        return self._object("v1", "ServiceAccount", automountServiceAccountToken=False)

    def disruption_budget(self) -> Manifest:
        """One pod at a time, whoever drains a node."""
        return self._object(
            "policy/v1",
            "PodDisruptionBudget",
            spec={"maxUnavailable": 1, "selector": {"matchLabels": self.selector}},
        )

    def network_policy(self, ingress: list[Body], egress: list[Body]) -> Manifest:
        """Who may ask it, and whom it may ask; nothing else."""
        return self._object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            spec={
                "podSelector": {"matchLabels": self.selector},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": ingress,
                "egress": egress,
            },
        )

    def monitor(self) -> Manifest:
        """How Prometheus finds its metrics."""
        return self._object(
            "monitoring.coreos.com/v1",
            "PodMonitor",
            spec={
                "selector": {"matchLabels": self.selector},
                "podMetricsEndpoints": [{"port": METRICS, "path": "/metrics", "interval": "15s"}],
            },
        )

    def _object(self, api_version: str, kind: str, **fields: Any) -> Manifest:
        return manifest(api_version, kind, self.name, self.namespace, labels=self.labels, **fields)

    def _pod(self) -> Body:
        registry = {"name": "registry", "secret": {"secretName": self.registry_secret, "items": [_DOCKER_CONFIG]}}
        return {
            "serviceAccountName": self.name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "priorityClassName": PLATFORM,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": self.selector},
                }
            ],
            "containers": [self._container()],
            "volumes": [
                {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
                *self.volumes,
                *([registry] if self.registry_secret else []),
            ],
        }

    def _container(self) -> Body:
        space = memory(self.memory)
        amounts = {
            "requests": {"cpu": cpu(self.cpu), "memory": space},
            "limits": {"cpu": cpu(self.cpu_limit), "memory": space},
        }
        variables = dict(self.environment)
        mounts = dict(self.mounts)
        if self.registry_secret:
            variables["DOCKER_CONFIG"] = PULL_SECRET
            mounts["registry"] = PULL_SECRET
        return {
            "name": "slipway",
            "image": self.image,
            "args": list(self.args),
            "env": [{"name": name, "value": value} for name, value in sorted(variables.items())],
            "ports": [{"name": port.name, "containerPort": port.number, "protocol": "TCP"} for port in self.ports],
            "resources": amounts,
            "startupProbe": self._probe("/livez", period_s=2, failures=30),
            "readinessProbe": self._probe("/readyz", period_s=5, failures=2),
            "livenessProbe": self._probe("/livez", period_s=10, failures=6),
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # the pod's own
                *(_mount(name, path, writable=name in self.writable) for name, path in mounts.items()),
            ],
        }

    def _probe(self, path: str, *, period_s: int, failures: int) -> Body:
        return {
            "httpGet": {"path": path, "port": self.ports[0].name, "scheme": self.scheme},
            "periodSeconds": period_s,
            "timeoutSeconds": min(5, period_s),
            "failureThreshold": failures,
        }


_ROLLING: Final = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
_AT_ONCE: Final = {"type": "Recreate"}
_DOCKER_CONFIG: Final = {"key": ".dockerconfigjson", "path": "config.json"}


def _mount(name: str, path: str, *, writable: bool) -> dict[str, Any]:
    return {"name": name, "mountPath": path} | ({} if writable else {"readOnly": True})
