"""The Kubernetes provider of a stack: made from what the cluster stack exports, never from this machine's kubeconfig.

It makes no resource but the provider. The invariant: every resource of `platform/` is given a provider by name, so a
`pulumi up` in the wrong terminal cannot reach the cluster that `kubectl` happens to point at.
"""

from typing import NamedTuple, cast

import pulumi
import pulumi_kubernetes as kubernetes

from slipway_platform.cluster.info import ClusterInfo, ClusterInfoError, decode_info

__all__ = ["INFO_OUTPUT", "KUBECONFIG_OUTPUT", "LinkedCluster", "linked_cluster", "make_provider", "provider_of"]

INFO_OUTPUT = "info"
"""The stack output with the facts of the cluster (`ClusterInfo`)."""

KUBECONFIG_OUTPUT = "kubeconfig"
"""The stack output with the kubeconfig's text; a secret."""


class LinkedCluster(NamedTuple):
    """A cluster as another stack sees it."""

    info: ClusterInfo
    provider: kubernetes.Provider


async def linked_cluster(stack: str) -> LinkedCluster:
    """The cluster of another stack: its facts as plain values, and a provider that reaches it.

    Args:
        stack: The cluster stack's full name, `ORGANIZATION/slipway-cluster/NAME` (`organization/…` with a state
            backend of one's own).

    Raises:
        ClusterInfoError: The stack has no such outputs; its `pulumi up` has not run.
    """
    reference = pulumi.StackReference(stack)
    details = await reference.get_output_details(INFO_OUTPUT)
    if not isinstance(details.value, dict):
        raise ClusterInfoError(
            f"the stack {stack!r} has no output {INFO_OUTPUT!r}",
            hint=f"run `pulumi up --stack {stack.rpartition('/')[2]}` in platform/cluster first",
            stack=stack,
        )
    return LinkedCluster(decode_info(details.value, stack), provider_of(reference))


def provider_of(cluster: pulumi.StackReference) -> kubernetes.Provider:
    """The provider that reaches the cluster of the stack `cluster`, by the kubeconfig that it exports as a secret."""
    kubeconfig = cast("pulumi.Output[str]", cluster.require_output(KUBECONFIG_OUTPUT))
    return make_provider("cluster", kubeconfig, identity=cluster.name)


def make_provider(name: str, kubeconfig: pulumi.Input[str], *, identity: pulumi.Input[str]) -> kubernetes.Provider:
    """A provider that applies on the server and never adopts or overrides what somebody else owns.

    Args:
        name: The provider's name in the stack.
        kubeconfig: The text of a kubeconfig; kept as a secret whatever it was.
        identity: What stays the same for as long as it is the same cluster. A rotated certificate changes the
            kubeconfig and not this, so nothing is replaced for it.
    """
    return kubernetes.Provider(
        name,
        kubeconfig=pulumi.Output.secret(kubeconfig),
        enable_server_side_apply=True,
        cluster_identifier=identity,
        # What has a fixed name is changed in place: our servers read mounted files again, and a ConfigMap that is
        # deleted and made again is gone in between.
        enable_config_map_mutable=True,
        enable_secret_mutable=True,
        enable_patch_force=False,
        upsert_existing_objects=False,
    )
