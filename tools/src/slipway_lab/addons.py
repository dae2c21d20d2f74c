"""What a cluster needs beside itself: names (CoreDNS), figures (metrics-server), a way in (Traefik), Argo Rollouts.

They run as processes in the lab's network, not as pods: they start faster, and need no images. Services without
selector lead to them, so pods find them where they would find pods. They act as the administrator; what each may do in
a real cluster is its chart's to say. It says how each is started and when it is ready; `cluster.py` does it.
"""

from typing import Any, Final

from slipway_lab import network
from slipway_lab.control_plane import answers
from slipway_lab.monitoring import ALERTMANAGER_PORT, PROMETHEUS_PORT, ROLLOUTS_METRICS_PORT, TRAEFIK_METRICS_PORT
from slipway_lab.processes import Programs, Recipe
from slipway_lab.state import Place

DNS_READY_PORT: Final = 8182
METRICS_PORT: Final = 4443
INGRESS_PORT: Final = 8088
TRAEFIK_API_PORT: Final = 8089
ROLLOUTS_HEALTH_PORT: Final = 8091
ROLLOUTS_NAMESPACE: Final = "argo-rollouts"
COREFILE: Final = """\
.:53 {{
    bind {node}
    errors
    ready 127.0.0.1:{ready}
    kubernetes {domain} in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 5
    }}
    cache 5
    loadbalance
}}
"""
"""https://coredns.io/plugins/kubernetes/; a name outside the cluster does not exist."""


def coredns(place: Place, programs: Programs) -> Recipe:
    """The cluster's DNS."""
    corefile = place.folder / "Corefile"
    corefile.write_text(
        COREFILE.format(node=network.NODE, ready=DNS_READY_PORT, domain=network.DOMAIN, kubeconfig=place.kubeconfig)
    )
    return Recipe(name="coredns", command=(str(programs["coredns"]), "-conf", str(corefile)))


def is_coredns_ready() -> bool:
    """Whether it knows the services. Raises OSError: it does not listen yet."""
    return answers("http", "127.0.0.1", DNS_READY_PORT, "/ready")


def metrics_server(place: Place, programs: Programs) -> Recipe:
    """The figures that `kubectl top` and autoscalers read; the first come about 15 s after the first pod."""
    command = (
        f"--kubeconfig={place.kubeconfig}",
        f"--authentication-kubeconfig={place.kubeconfig}",
        f"--authorization-kubeconfig={place.kubeconfig}",
        f"--bind-address={network.NODE}",
        f"--secure-port={METRICS_PORT}",
        f"--cert-dir={place.folder / 'metrics-server'}",
        "--kubelet-insecure-tls",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=10s",
        "--kubelet-request-timeout=5s",  # must be below the resolution
    )
    return Recipe(name="metrics-server", command=(str(programs["metrics-server"]), *command))


def is_metrics_server_alive() -> bool:
    """Whether it answers; ready it is after its first look. Raises OSError: it does not listen yet."""
    return answers("https", str(network.NODE), METRICS_PORT, "/livez")


def traefik(place: Place, programs: Programs) -> Recipe:
    """The way in: it reads IngressRoute and TraefikService objects."""
    command = (
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--providers.kubernetescrd",
        "--providers.kubernetescrd.allowcrossnamespace=true",
        "--providers.kubernetescrd.throttleduration=100ms",
        "--providers.providersthrottleduration=100ms",
        f"--entrypoints.web.address={network.NODE}:{INGRESS_PORT}",
        f"--entrypoints.traefik.address={network.NODE}:{TRAEFIK_API_PORT}",
        f"--entrypoints.metrics.address={network.NODE}:{TRAEFIK_METRICS_PORT}",
        "--metrics.prometheus.entrypoint=metrics",
        "--ping",
        "--api.insecure",  # the lab's own network only
        "--log.level=WARN",
    )
    environ = {"KUBECONFIG": str(place.kubeconfig)}
    return Recipe(name="traefik", command=(str(programs["traefik"]), *command), environ=environ, within="names")


def is_traefik_ready() -> bool:
    """Whether it takes requests. Raises OSError: it does not listen yet."""
    return answers("http", str(network.NODE), TRAEFIK_API_PORT, "/ping")


def rollouts(place: Place, programs: Programs) -> Recipe:
    """Argo Rollouts' controller; its definitions must be there before it."""
    command = (
        f"--kubeconfig={place.kubeconfig}",
        "--leader-elect=false",
        f"--namespace={ROLLOUTS_NAMESPACE}",
        "--traefik-api-group=traefik.io",  # releases up to 1.9 look for a group that Traefik gave up
        "--traefik-api-version=traefik.io/v1alpha1",
        f"--metricsPort={ROLLOUTS_METRICS_PORT}",
        f"--healthzPort={ROLLOUTS_HEALTH_PORT}",
        "--loglevel=info",
    )
    return Recipe(name="rollouts-controller", command=(str(programs["rollouts-controller"]), *command), within="names")


def is_rollouts_ready() -> bool:
    """Whether it runs. Raises OSError: it does not listen yet."""
    return answers("http", "127.0.0.1", ROLLOUTS_HEALTH_PORT, "/healthz")


def objects() -> list[dict[str, Any]]:
    """What must be in the cluster so that pods find the processes, in the order of making."""
    namespaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        for name in ("monitoring", "traefik", ROLLOUTS_NAMESPACE)
    ]
    dns = {"dns": (53, "UDP", 53), "dns-tcp": (53, "TCP", 53)}
    return [
        *namespaces,
        *_leading("kube-system", "kube-dns", dns, address=str(network.DNS_SERVICE)),
        *_leading("kube-system", "metrics-server", {"https": (443, "TCP", METRICS_PORT)}),
        *_leading("monitoring", "prometheus", {"web": (PROMETHEUS_PORT, "TCP", PROMETHEUS_PORT)}),
        *_leading("monitoring", "alertmanager", {"web": (ALERTMANAGER_PORT, "TCP", ALERTMANAGER_PORT)}),
        *_leading("traefik", "traefik", {"web": (80, "TCP", INGRESS_PORT)}),
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "service": {"name": "metrics-server", "namespace": "kube-system", "port": 443},
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]


def _leading(
    namespace: str, name: str, ports: dict[str, tuple[int, str, int]], *, address: str | None = None
) -> list[dict[str, Any]]:
    """A service that leads to the node; `ports`: name → its port, protocol, the process's port."""
    own = [
        {"name": key, "port": port, "protocol": protocol, "targetPort": target}
        for key, (port, protocol, target) in ports.items()
    ]
    theirs = [{"name": key, "port": target, "protocol": protocol} for key, (_, protocol, target) in ports.items()]
    metadata = {"name": name, "namespace": namespace}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": own, **({"clusterIP": address} if address else {})},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": theirs,
            "endpoints": [{"addresses": [str(network.NODE)], "conditions": {"ready": True}}],
        },
    ]
