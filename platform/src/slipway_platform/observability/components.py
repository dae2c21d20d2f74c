"""The component of `platform/observability`."""

from pathlib import Path

import pulumi

from slipway_platform.cluster.info import ClusterInfo
from slipway_platform.manifests import register
from slipway_platform.observability.objects import observability_objects
from slipway_platform.observability.settings import ObservabilitySettings

__all__ = ["Observability"]


class Observability(pulumi.ComponentResource):
    """What watches all services of a cluster.

    Args:
        settings: Of the stack.
        cluster: Where it goes.
        root: Of the repository.
        opts: With the provider.
    """

    def __init__(
        self,
        settings: ObservabilitySettings,
        cluster: ClusterInfo,
        root: Path,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("slipway:observability:Observability", "observability", None, opts)
        own = pulumi.ResourceOptions(parent=self)
        for one in observability_objects(settings, cluster, root):
            register(one, f"{one.kind.lower()}-{one.name}", own)
        self.register_outputs({})
