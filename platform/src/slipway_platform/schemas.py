"""`config.schema.json` of each project: what an editor needs to help with a `Pulumi.STACK.yaml`.

Generated from the Structs that the programs decode with, committed, and compared by `scripts/regen.py --check`. A stack
file names it in its first line: `# yaml-language-server: $schema=config.schema.json`.
"""

import json
from pathlib import Path
from typing import Final

import msgspec

from slipway_platform.addons import settings as addons
from slipway_platform.cluster import settings as cluster
from slipway_platform.observability import settings as observability
from slipway_platform.services import settings as services
from slipway_platform.settings import editor_schema

__all__ = ["PROJECTS", "outputs"]

PROJECTS: Final[dict[str, tuple[type[msgspec.Struct], str]]] = {
    "addons": (addons.AddonsSettings, addons.PROJECT),
    "cluster": (cluster.ClusterSettings, cluster.PROJECT),
    "observability": (observability.ObservabilitySettings, observability.PROJECT),
    "services": (services.ServicesSettings, services.PROJECT),
}
"""Folder in `platform/` -> what its configuration is decoded to, and its namespace."""


def outputs() -> dict[Path, str]:
    """What every schema's file must hold, by path relative to the repository's root."""
    return {
        Path("platform") / folder / "config.schema.json": json.dumps(editor_schema(*of), indent=2) + "\n"
        for folder, of in PROJECTS.items()
    }
