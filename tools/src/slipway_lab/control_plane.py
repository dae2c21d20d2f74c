"""The control plane of a lab: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

It says how each is started and when it is ready; `cluster.py` does it. It makes no manifest. Every flag that is not
obvious says why it is there; flags of Kubernetes: https://kubernetes.io/docs/reference/command-line-tools-reference/
"""

import datetime as dt
import http.client
import ssl
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from msgspec import Struct

from slipway_lab import kubectl, network, pki
from slipway_lab.processes import Programs, Recipe
from slipway_lab.state import Place

SERVER: Final = f"https://{network.NODE}:{kubectl.API_PORT}"
ETCD: Final = "http://127.0.0.1:2379"
ISSUER: Final = f"https://kubernetes.default.svc.{network.DOMAIN}"


class Trust(Struct, frozen=True):
    """Who is who: what the programs read from the folder `pki`."""

    authority: pki.Identity
    server: pki.Identity
    to_kubelet: pki.Identity
    front_proxy: pki.Identity
    admin: pki.Identity
    kubelet: pki.Identity
    signing_key: Path


def make_trust(place: Place, now: dt.datetime) -> Trust:
    """Make certificates, and a kubeconfig for every program that has one."""
    folder = place.folder / "pki"
    authority = pki.Authority(folder, now)
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{network.DOMAIN}")
    trust = Trust(
        authority=authority.identity,
        server=authority.issue(
            "apiserver",
            "kube-apiserver",
            dns=(*names, "localhost"),
            addresses=(IPv4Address("127.0.0.1"), network.NODE, network.API_SERVICE),
        ),
        to_kubelet=authority.issue("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
        front_proxy=authority.issue("front-proxy", "front-proxy"),
        admin=authority.issue("admin", "slipway-lab-admin", "system:masters"),
        kubelet=authority.issue(
            "kubelet", f"system:node:{place.node}", "system:nodes", dns=(place.node,), addresses=(network.NODE,)
        ),
        signing_key=folder / "service-accounts.key",
    )
    pki.write_signing_key(trust.signing_key)
    pki.write_kubeconfig(place.kubeconfig, SERVER, trust.authority, trust.admin)
    pki.write_kubeconfig(kubeconfig(place, "kubelet"), SERVER, trust.authority, trust.kubelet)
    for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
        who = authority.issue(name, f"system:{name}")
        pki.write_kubeconfig(kubeconfig(place, name), SERVER, trust.authority, who)
    return trust


def kubeconfig(place: Place, name: str) -> Path:
    """Where a program's own kubeconfig is."""
    return place.folder / "pki" / f"{name}.kubeconfig"


def etcd(place: Place, programs: Programs) -> Recipe:
    """The store. It may lose what a power cut takes: nobody keeps anything in a lab."""
    command = (
        f"--data-dir={place.folder / 'etcd'}",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    return Recipe(name="etcd", command=(str(programs["etcd"]), *command))


def apiserver(programs: Programs, trust: Trust) -> Recipe:
    """The API server. It is ready about 3 s after etcd."""
    command = (
        f"--etcd-servers={ETCD}",
        "--bind-address=0.0.0.0",
        f"--secure-port={kubectl.API_PORT}",
        f"--advertise-address={network.NODE}",
        f"--client-ca-file={trust.authority.certificate}",
        f"--tls-cert-file={trust.server.certificate}",
        f"--tls-private-key-file={trust.server.key}",
        f"--kubelet-certificate-authority={trust.authority.certificate}",
        f"--kubelet-client-certificate={trust.to_kubelet.certificate}",
        f"--kubelet-client-key={trust.to_kubelet.key}",
        "--kubelet-preferred-address-types=InternalIP",  # else logs and exec wait for the node's name to resolve
        f"--requestheader-client-ca-file={trust.authority.certificate}",
        "--requestheader-allowed-names=front-proxy",  # both authorities are one: without it the server refuses to start
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={trust.front_proxy.certificate}",
        f"--proxy-client-key-file={trust.front_proxy.key}",
        "--enable-aggregator-routing=true",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={trust.signing_key}.pub",
        f"--service-account-signing-key-file={trust.signing_key}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={network.SERVICES}",
        "--allow-privileged=true",
        "--shutdown-delay-duration=0s",
    )
    return Recipe(name="kube-apiserver", command=(str(programs["kube-apiserver"]), *command))


def controller_manager(place: Place, programs: Programs, trust: Trust) -> Recipe:
    """Its autoscaler looks every 5 s (15) and shrinks what was too large for 15 s (5 min): tests wait for it."""
    own = kubeconfig(place, "kube-controller-manager")
    command = (
        f"--kubeconfig={own}",
        f"--authentication-kubeconfig={own}",
        f"--authorization-kubeconfig={own}",
        "--leader-elect=false",
        f"--root-ca-file={trust.authority.certificate}",
        f"--service-account-private-key-file={trust.signing_key}",
        "--use-service-account-credentials=true",
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--horizontal-pod-autoscaler-downscale-stabilization=15s",
        "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
        "--horizontal-pod-autoscaler-cpu-initialization-period=15s",
        f"--cert-dir={place.folder / 'controller-manager'}",
    )
    return Recipe(name="kube-controller-manager", command=(str(programs["kube-controller-manager"]), *command))


def scheduler(place: Place, programs: Programs) -> Recipe:
    """One scheduler, so it needs no election."""
    own = kubeconfig(place, "kube-scheduler")
    command = (
        f"--kubeconfig={own}",
        f"--authentication-kubeconfig={own}",
        f"--authorization-kubeconfig={own}",
        "--leader-elect=false",
    )
    return Recipe(name="kube-scheduler", command=(str(programs["kube-scheduler"]), *command))


def is_etcd_ready() -> bool:
    """Whether etcd has a leader. Raises OSError: it does not listen yet."""
    return answers("http", "127.0.0.1", 2379, "/readyz")


def is_api_ready(place: Place) -> bool:
    """Whether the API server has started all that it is. Raises OSError: it does not listen yet."""
    return answers("https", str(network.NODE), kubectl.API_PORT, "/readyz", place)


def answers(scheme: str, host: str, port: int, path: str, place: Place | None = None) -> bool:
    """Whether a GET is answered with 200; inside the lab's network.

    Args:
        scheme: `http` or `https`.
        host: An address: no name is resolved.
        port: TCP.
        path: With its slash.
        place: For https: whose administrator asks, and whose authority is believed; None believes anybody.

    Raises:
        OSError: Nobody listens, or the answer broke off.
    """
    try:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        if scheme == "https":
            believed = kubectl.context(place) if place else ssl._create_unverified_context()  # noqa: SLF001, S323
            connection = http.client.HTTPSConnection(host, port, timeout=5, context=believed)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()
    except http.client.HTTPException as error:
        raise OSError(f"the answer broke off: {error!r}") from error
