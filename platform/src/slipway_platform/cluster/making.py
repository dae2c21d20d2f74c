"""The one interface behind which each kind of cluster is: settings in, facts and a kubeconfig out.

It knows no cloud. To add one (GKE, AKS): a word in `info.Kind`, a table in `settings.ClusterSettings`, a module with a
function of the shape `MakeCluster`, and its line in `_maker`. The invariant: a cloud's SDK is imported only by the
stack that uses it.
"""

from typing import NamedTuple, Protocol, assert_never

import pulumi

from slipway_platform.cluster.info import ClusterInfo, Kind
from slipway_platform.cluster.settings import ClusterSettings, facts_given

__all__ = ["MadeCluster", "MakeCluster", "info_of", "make_cluster"]


class MadeCluster(NamedTuple):
    """What a kind of cluster hands over."""

    info: ClusterInfo
    kubeconfig: pulumi.Output[str]
    """A secret output: the text of a kubeconfig with one context."""


class MakeCluster(Protocol):
    """A kind of cluster: makes it, or finds it, and says how to reach it."""

    def __call__(self, settings: ClusterSettings) -> MadeCluster:
        """The cluster of these settings. What must not vanish is made with `protect`."""
        ...


def make_cluster(settings: ClusterSettings) -> MadeCluster:
    """The cluster of the running stack."""
    made = _maker(settings.provider)(settings)
    return MadeCluster(made.info, pulumi.Output.secret(made.kubeconfig))


def info_of(settings: ClusterSettings, **usual: object) -> ClusterInfo:
    """The facts of a cluster: what its kind says (`usual`), where `facts` in the stack file does not say otherwise."""
    known = {**usual, **facts_given(settings.facts)}
    return ClusterInfo(kind=settings.provider, name=settings.name, registry=settings.registry, **known)  # type: ignore[arg-type]  # names and types are those of ClusterFacts, converted before


def _maker(kind: Kind) -> MakeCluster:
    match kind:
        case "existing":
            from slipway_platform.cluster.existing import existing_cluster

            return existing_cluster
        case "lab":
            from slipway_platform.cluster.existing import lab_cluster

            return lab_cluster
        case "eks":
            from slipway_platform.cluster.eks import eks_cluster

            return eks_cluster
        case _:
            assert_never(kind)
