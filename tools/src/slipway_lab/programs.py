"""The programs of the lab and where their source is: a table, nothing else.

Every program is built from its published Go module; versions stand in the `go.mod` of its folder under `tools/`, the
sums in the `go.sum` beside it. One folder a family, because their requirements clash: a module has one version of
`k8s.io/client-go`, and Argo Rollouts, Traefik and Kubernetes each need another.

It builds nothing (build.py). The invariant: a program's name is the name of its file.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

__all__ = ["KUBERNETES", "PROGRAMS", "Kind", "Program"]

KUBERNETES: Final = "v1.36.3"
"""The lab's Kubernetes: what `tools/kubernetes/go.mod` requires (a test compares the two)."""

Kind = Literal["cluster", "addon", "image", "check"]
"""`cluster`: the node and the control plane; `addon`: runs on it; `image`: is put into an image; `check`: reads
manifests, and no lab starts it."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program: the same source, flags and Go give the same file."""

    name: str
    kind: Kind
    folder: str
    """of its Go module under `tools/`."""
    package: str
    """what `go build` is asked for: an import path, or `.` for source of our own."""
    ldflags: str = ""
    """for the linker, beside `-s -w`."""
    tags: str = ""
    """build tags, with commas between them."""


# Without the stamp Kubernetes says that it is v0.0.0-master, and clients that compare versions refuse it.
_VERSION: Final = "k8s.io/component-base/version."
_MAJOR, _MINOR, _ = KUBERNETES.removeprefix("v").split(".")
_STAMP: Final = f"-X {_VERSION}gitVersion={KUBERNETES} -X {_VERSION}gitMajor={_MAJOR} -X {_VERSION}gitMinor={_MINOR}"


def _kubernetes(name: str) -> Program:
    return Program(
        name=name, kind="cluster", folder="kubernetes", package=f"k8s.io/kubernetes/cmd/{name}", ldflags=_STAMP
    )


def _containerd(name: str) -> Program:
    package = f"github.com/containerd/containerd/v2/cmd/{name}"
    return Program(name=name, kind="cluster", folder="containerd", package=package)


def _cni(kind: str, name: str) -> Program:
    package = f"github.com/containernetworking/plugins/plugins/{kind}/{name}"
    return Program(name=name, kind="cluster", folder="cni", package=package)


def _addon(name: str, folder: str, package: str) -> Program:
    return Program(name=name, kind="addon", folder=folder, package=package)


# In the order in which they are built: what the others wait for comes first.
_TABLE: Final = (
    _kubernetes("kube-apiserver"),
    Program(name="etcd", kind="cluster", folder="etcd", package="go.etcd.io/etcd/server/v3"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubectl"),
    _containerd("containerd"),
    _containerd("containerd-shim-runc-v2"),
    _containerd("ctr"),
    _cni("main", "bridge"),
    _cni("main", "loopback"),
    _cni("ipam", "host-local"),
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Program(name="pause", kind="image", folder="pause", package="."),
    _addon("coredns", "coredns", "github.com/coredns/coredns"),
    _addon("traefik", "traefik", "github.com/traefik/traefik/v3/cmd/traefik"),
    _addon("rollouts-controller", "rollouts", "github.com/argoproj/argo-rollouts/cmd/rollouts-controller"),
    Program(
        name="prometheus",
        kind="addon",
        folder="prometheus",
        package="github.com/prometheus/prometheus/cmd/prometheus",
        # Every cloud's client is compiled in otherwise; Debian's has no discovery by Kubernetes.
        tags="netgo,remove_all_sd,enable_kubernetes_sd",
    ),
    _addon("metrics-server", "metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    Program(name="kubeconform", kind="check", folder="lint", package="github.com/yannh/kubeconform/cmd/kubeconform"),
)

PROGRAMS: Final[Mapping[str, Program]] = MappingProxyType({program.name: program for program in _TABLE})
"""Every program by its name, in the order in which they are built."""
