"""The add-ons stack: charts, namespaces, rules and the platform's own servers, for one cluster."""

from pathlib import Path

import pulumi

from slipway_platform.addons.settings import PROJECT, AddonsSettings
from slipway_platform.addons.stack import Addons
from slipway_platform.provider import linked_cluster
from slipway_platform.settings import load_settings


async def main() -> dict[str, object]:
    """Make them, and say what other stacks need to know."""
    settings = load_settings(AddonsSettings, PROJECT)
    return Addons(settings, await linked_cluster(settings.cluster), Path(__file__).parent).outputs


pulumi.run(main)
