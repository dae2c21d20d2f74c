"""Bundles that are here in part: without the blobs that only some of their children need.

It fetches nothing. The invariants: every document of a bundle is here, and every config, also of the children that were
left out; what is missing is said in `index.json` (`io.slipway.absent`), and only what that allows may be missing, so a
damaged bundle is never taken for one that was pulled in part.
"""

from collections.abc import Collection

from msgspec.structs import replace

from slipway_bundle.digest import Digest
from slipway_bundle.layout import ABSENT, ROLE
from slipway_bundle.oci import Descriptor, ImageIndex, ImageManifest
from slipway_bundle.store import Store

__all__ = ["absent_blobs", "absent_roles", "mark_absent", "own_blobs"]


def absent_roles(bundle: Descriptor) -> frozenset[str]:
    """The roles whose blobs an entry of `index.json` was pulled without."""
    return frozenset(role for role in bundle.annotations.get(ABSENT, "").split(",") if role)


def own_blobs(store: Store, bundle: Descriptor, roles: Collection[str]) -> dict[Digest, Descriptor]:
    """The layers that only children of these roles need: what other children share is not among them, nor is a config.

    Raises:
        BlobMissingError, BlobCorruptError, JsonError: A document is not here, or damaged.
    """
    index = store.read_json(bundle.digest, ImageIndex)
    own: dict[Digest, Descriptor] = {}
    shared: set[Digest] = set()
    for child in index.manifests:
        layers = _layers(store, child)
        if child.annotations.get(ROLE, "") in roles:
            own.update((leaf.digest, leaf) for leaf in layers)
        else:
            shared.update(leaf.digest for leaf in layers)
    return {digest: leaf for digest, leaf in own.items() if digest not in shared}


def absent_blobs(store: Store, bundle: Descriptor) -> frozenset[Digest]:
    """The blobs of an entry that are missing and may be; raises like `own_blobs`."""
    roles = absent_roles(bundle)
    if not roles:
        return frozenset()
    return frozenset(digest for digest in own_blobs(store, bundle, roles) if not store.layout.blob(digest).is_file())


def mark_absent(bundle: Descriptor, roles: Collection[str]) -> Descriptor:
    """The entry of a bundle that is here without the blobs of `roles`; none takes the mark away."""
    annotations = {key: value for key, value in bundle.annotations.items() if key != ABSENT}
    return replace(bundle, annotations={**annotations, **({ABSENT: ",".join(sorted(roles))} if roles else {})})


def _layers(store: Store, child: Descriptor) -> tuple[Descriptor, ...]:
    document = store.read_json(child.digest, ImageManifest)
    return document.layers
