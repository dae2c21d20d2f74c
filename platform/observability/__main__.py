"""The observability stack: what watches all services of a cluster."""

from pathlib import Path

import pulumi

from slipway_platform.observability.components import Observability
from slipway_platform.observability.settings import PROJECT, ObservabilitySettings
from slipway_platform.provider import linked_cluster
from slipway_platform.settings import load_settings


async def main() -> None:
    """What the stack's file says, on the cluster of another stack."""
    settings = load_settings(ObservabilitySettings, PROJECT)
    cluster = await linked_cluster(settings.cluster)
    opts = pulumi.ResourceOptions(providers=[cluster.provider])
    Observability(settings, cluster.info, Path(__file__).parents[2], opts)


pulumi.run(main)
