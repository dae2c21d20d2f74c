"""Clusters that are there already: any, by a kubeconfig; and the lab of this machine, by its description.

It creates no resource. The invariant: the kubeconfig becomes a secret output before anything else can see it.
"""

from pathlib import Path

import msgspec
import pulumi

from slipway_platform.cluster.info import ClusterInfoError
from slipway_platform.cluster.kubeconfig import load_kubeconfig, portable_kubeconfig
from slipway_platform.cluster.making import MadeCluster, info_of
from slipway_platform.cluster.settings import ClusterSettings, LabSettings

__all__ = ["existing_cluster", "lab_cluster"]


class _Lab(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of `lab.json`."""

    kubeconfig: str
    registry: str
    prometheus: str | None = None


def existing_cluster(settings: ClusterSettings) -> MadeCluster:
    """The cluster that a kubeconfig reaches.

    Raises:
        KubeconfigError: The kubeconfig cannot be read, or has no such context.
    """
    given = settings.existing
    if given is None:
        raise ValueError("no table `existing`: this is a bug in slipway")
    context = given.context
    if given.kubeconfig is not None:
        text = given.kubeconfig.output.apply(lambda secret: portable_kubeconfig(secret, context))
    else:
        text = pulumi.Output.secret(load_kubeconfig(Path(given.kubeconfig_path or ""), context))
    return MadeCluster(info_of(settings), text)


def lab_cluster(settings: ClusterSettings) -> MadeCluster:
    """The lab that `slipway lab up` started on this machine.

    Raises:
        ClusterInfoError: No lab of that name runs here.
    """
    given = settings.lab or LabSettings()
    path = Path(given.home).expanduser() / given.name / "lab.json"
    try:
        lab = msgspec.json.decode(path.read_bytes(), type=_Lab)
    except (OSError, msgspec.MsgspecError) as error:
        raise ClusterInfoError(
            f"the lab {given.name!r} is not described by {str(path)!r}: {error}",
            hint="start it with `slipway lab up`",
            path=str(path),
        ) from error
    usual: dict[str, object] = {} if lab.prometheus is None else {"prometheus_url": lab.prometheus}
    text = load_kubeconfig(path.parent / lab.kubeconfig, None)
    return MadeCluster(info_of(settings, **usual), pulumi.Output.secret(text))
