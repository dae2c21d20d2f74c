"""The services stack: one environment, every service in it."""

from pathlib import Path

import pulumi

from slipway_platform.provider import linked_cluster
from slipway_platform.services import PROJECT, Services, ServicesSettings
from slipway_platform.settings import load_settings


async def main() -> None:
    """What the stack's file says, on the cluster of another stack."""
    settings = load_settings(ServicesSettings, PROJECT)
    cluster = await linked_cluster(settings.cluster)
    opts = pulumi.ResourceOptions(providers=[cluster.provider])
    services = Services(settings, cluster.info, Path(__file__).parents[2], opts)
    pulumi.export("usd_per_hour", services.usd_per_hour)


pulumi.run(main)
