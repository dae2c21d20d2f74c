"""Registries: bundles go to them and come from them. Names only; importing it imports the HTTP client."""

from slipway_bundle.registry.copying import copy, tag, tags
from slipway_bundle.registry.errors import (
    RegistryError,
    RegistryRefusedError,
    RemoteInvalidError,
    RemoteNotFoundError,
    TagTakenError,
    TamperedError,
)
from slipway_bundle.registry.images import pull_image
from slipway_bundle.registry.opening import open_registry
from slipway_bundle.registry.protocol import Registry
from slipway_bundle.registry.pulling import Pulled, pull, pull_documents
from slipway_bundle.registry.pushing import Pushed, push
from slipway_bundle.registry.remote import Remote, is_remote, parse_remote
from slipway_bundle.registry.retries import Retry

__all__ = [
    "Pulled",
    "Pushed",
    "Registry",
    "RegistryError",
    "RegistryRefusedError",
    "Remote",
    "RemoteInvalidError",
    "RemoteNotFoundError",
    "Retry",
    "TagTakenError",
    "TamperedError",
    "copy",
    "is_remote",
    "open_registry",
    "parse_remote",
    "pull",
    "pull_documents",
    "pull_image",
    "push",
    "tag",
    "tags",
]
