"""A bundle in a store, read: its index, its manifest, its attachments.

It unpacks nothing and opens no weights. The invariant: everything it hands out has been checked against its digest and
against the manifest; what the manifest names and the index does not hold is an error here, not later.
"""

from msgspec import Struct

from slipway_bundle.assembly import BUNDLE_TYPE, ROLE
from slipway_bundle.digest import parse_digest
from slipway_bundle.errors import ManifestError
from slipway_bundle.manifest import MANIFEST_MEDIA_TYPE, Manifest
from slipway_bundle.manifest_reader import decode_manifest
from slipway_bundle.oci import Descriptor, ImageIndex, ImageManifest
from slipway_bundle.store import Store

__all__ = ["StoredBundle", "read_bundle", "read_descriptor"]


class StoredBundle(Struct, frozen=True, kw_only=True):
    """A bundle's documents."""

    descriptor: Descriptor
    """Of the index; its digest is what is signed and deployed."""

    index: ImageIndex
    children: dict[str, tuple[ImageManifest, ...]]
    """Role -> documents: `manifest` and `model` have one, `modelcar` and `image` one a platform."""

    manifest: Manifest

    @property
    def digest(self) -> str:
        """Digest of the index."""
        return self.descriptor.digest

    def layers(self) -> dict[str, Descriptor]:
        """Digest -> descriptor of every layer of every child, each once."""
        documents = (document for documents in self.children.values() for document in documents)
        return {layer.digest: layer for document in documents for layer in document.layers}

    def size_bytes(self) -> int:
        """Bytes of all distinct layers: what a pull transfers, but for a few kilobytes of documents."""
        return sum(layer.size for layer in self.layers().values())

    def attachment(self, store: Store, name: str) -> bytes:
        """The bytes of a named attachment, verified.

        Raises:
            ManifestError: The bundle has no such attachment.
            BlobMissingError, BlobCorruptError: As `Store.read`.
        """
        found = self.manifest.attachment(name)
        if found is None:
            names = ", ".join(attachment.name for attachment in self.manifest.attachments)
            raise ManifestError(f"bundle {self.digest} has no attachment {name!r}, expected one of {names}")
        return store.read(parse_digest(found.digest))


def read_bundle(store: Store, ref: str) -> StoredBundle:
    """Reads the bundle that `ref` means.

    Raises:
        UsageError: The reference is wrong, or means no bundle or several.
        ManifestVersionError: The bundle has a major version that is not known.
        IntegrityError: A document is missing, damaged or breaks the format.
    """
    return read_descriptor(store, store.find(ref).descriptor)


def read_descriptor(store: Store, descriptor: Descriptor) -> StoredBundle:
    """Reads the bundle whose index `descriptor` is, published or not; raises as `read_bundle`, less the reference."""
    index = store.read_json(descriptor.digest, ImageIndex)
    if index.artifact_type != BUNDLE_TYPE:
        raise ManifestError(
            f"{descriptor.digest} is not a slipway bundle: got artifactType {index.artifact_type!r}, "
            f"expected {BUNDLE_TYPE!r}",
            hint="other tools may keep their own images in the same layout",
        )
    children: dict[str, tuple[ImageManifest, ...]] = {}
    for child in index.manifests:
        role = child.annotations.get(ROLE, "")
        children[role] = (*children.get(role, ()), store.read_json(child.digest, ImageManifest))
    found = children.get("manifest", ())
    if len(found) != 1 or found[0].config.media_type != MANIFEST_MEDIA_TYPE:
        raise ManifestError(
            f"index {descriptor.digest} has {len(found)} children with the role 'manifest', expected one "
            f"whose config is {MANIFEST_MEDIA_TYPE!r}"
        )
    config = found[0].config
    manifest = decode_manifest(store.read(config.digest), where=f"slipway.json of {descriptor.digest}")
    bundle = StoredBundle(descriptor=descriptor, index=index, children=children, manifest=manifest)
    _check_layers(bundle)
    return bundle


def _check_layers(bundle: StoredBundle) -> None:
    """Index and manifest name the same blobs: what only one of them names would be lost, or trusted, by mistake."""
    present = bundle.layers()
    own: dict[str, Descriptor] = {layer.digest: layer for layer in bundle.children["manifest"][0].layers}
    named = {bundle.manifest.service.layer: "the code layer"}
    named |= {item.digest: f"attachment {item.name!r}" for item in bundle.manifest.attachments}
    for digest in sorted(own.keys() ^ named.keys()):
        raise ManifestError(
            f"manifest and index {bundle.digest} do not name the same blobs: {digest} is "
            + (f"{named[digest]} of the manifest only" if digest in named else "in the index only"),
            got=digest,
        )
    for item in bundle.manifest.attachments:
        layer = own[item.digest]
        if (layer.size, layer.media_type) != (item.size, item.media_type):
            raise ManifestError(
                f"attachment {item.name!r} is {layer.size} bytes of {layer.media_type!r} in the index, "
                f"expected {item.size} bytes of {item.media_type!r}"
            )
    for model in bundle.manifest.models:
        for file in model.files:
            size = present[file.layer].size if file.layer in present else 0
            if file.offset + file.size > size:
                raise ManifestError(
                    f"file {file.path!r} of model {model.name!r} ends at byte {file.offset + file.size} of layer "
                    f"{file.layer}, expected at most {size}, its size in the index {bundle.digest}"
                )
