"""The OCI documents around a manifest: one image index whose children share the same layer blobs.

It reads no folder and publishes nothing. The invariants: the documents are a function of the manifest and its layers;
a layer of weights is stored once and has two media types; a role stands in a descriptor's annotations, because
`skopeo copy --all` refuses an index whose descriptors have an `artifactType`.
Sources: `docs/bundle-v1.md`; OCI image-spec v1.1.1; CNCF model-spec v0.0.7 (config and weight layers).
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle.layers import Layer
from slipway_bundle.layout import CONTENT_DIGEST, ROLE
from slipway_bundle.manifest import MANIFEST_MEDIA_TYPE, Manifest, encode_manifest
from slipway_bundle.oci import (
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    ImageConfig,
    ImageIndex,
    Platform,
    RootFs,
    RunConfig,
    make_index,
    make_manifest,
)
from slipway_bundle.store import Store

__all__ = [
    "ATTACHMENT",
    "BUNDLE_TYPE",
    "CONTENT_DIGEST",
    "IMAGE",
    "ROLE",
    "Parts",
    "describe",
    "put_bundle",
    "with_images",
    "without_images",
]

BUNDLE_TYPE = "application/vnd.slipway.bundle.v1+json"
"""`artifactType` of the index; on no descriptor."""

MODEL_TYPE = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.tar"
FILE_PATH = "org.cncf.model.filepath"

ATTACHMENT = "io.slipway.attachment"

IMAGE = "image"
"""The role of a runnable image among the children of a bundle."""

NO_PLATFORM = Platform(architecture="unknown", os="unknown")
"""For children that nothing can run; readers that choose by platform pass them over."""

PLATFORMS = (Platform(architecture="amd64", os="linux"), Platform(architecture="arm64", os="linux"))


class Parts(Struct, frozen=True, kw_only=True):
    """What the documents are made from; everything is in the store already."""

    code: Layer
    weights: tuple[Layer, ...]
    attachments: Mapping[str, Descriptor]
    """Name -> blob."""


class _ModelDescriptor(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    name: str
    version: str
    created_at: str | None = None
    licenses: tuple[str, ...] = ()
    source_url: str | None = None
    revision: str | None = None


class _ModelSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    format: str | None = None


class _ModelFs(Struct, frozen=True, kw_only=True, rename="camel"):
    type: str
    diff_ids: tuple[str, ...]


class _ModelDocument(Struct, frozen=True, kw_only=True):
    """The config of a CNCF ModelPack manifest."""

    descriptor: _ModelDescriptor
    config: _ModelSettings
    modelfs: _ModelFs


def put_bundle(store: Store, manifest: Manifest, parts: Parts) -> Descriptor:
    """Stores the documents of a bundle and gives the descriptor of its index; nothing is visible yet.

    Raises:
        HostError: Disk full, not allowed, busy.
    """
    annotations = describe(manifest)
    children = (
        _put_manifest(store, manifest, parts),
        _put_model(store, manifest, parts.weights),
        *(_put_modelcar(store, manifest, parts.weights, platform) for platform in PLATFORMS),
    )
    index = store.put_json(make_index(children, artifact_type=BUNDLE_TYPE, annotations=annotations), INDEX_TYPE)
    return replace(index, annotations={ROLE: "bundle", CONTENT_DIGEST: manifest.content_digest})


def with_images(index: ImageIndex, images: tuple[Descriptor, ...]) -> ImageIndex:
    """`index` with these runnable images instead of those that it has.

    They come first: whoever chooses by platform takes the first that fits, and a modelcar cannot run.
    """
    return replace(index, manifests=(*images, *without_images(index).manifests))


def without_images(index: ImageIndex) -> ImageIndex:
    """`index` as `put_bundle` made it, without runnable images."""
    kept = tuple(child for child in index.manifests if child.annotations.get(ROLE) != IMAGE)
    return replace(index, manifests=kept)


def describe(manifest: Manifest) -> dict[str, str]:
    """The annotations that OCI defines, for a bundle and for images of it."""
    found = {
        "org.opencontainers.image.title": manifest.name,
        "org.opencontainers.image.version": manifest.version,
        "org.opencontainers.image.created": manifest.created,
        "org.opencontainers.image.revision": manifest.source.commit if manifest.source else None,
        "org.opencontainers.image.source": manifest.source.url if manifest.source else None,
        "org.opencontainers.image.licenses": " AND ".join(manifest.licenses) or None,
        CONTENT_DIGEST: manifest.content_digest,
    }
    return {key: value for key, value in found.items() if value is not None}


def _put_manifest(store: Store, manifest: Manifest, parts: Parts) -> Descriptor:
    config = store.put_bytes(encode_manifest(manifest), MANIFEST_MEDIA_TYPE)
    layers = [replace(parts.code.descriptor, annotations={ROLE: "code"})]
    layers += [
        replace(blob, annotations={ROLE: "attachment", ATTACHMENT: name})
        for name, blob in sorted(parts.attachments.items())
    ]
    document = make_manifest(config, tuple(layers), artifact_type=MANIFEST_MEDIA_TYPE)
    return _child(store.put_json(document, MANIFEST_TYPE), "manifest", NO_PLATFORM)


def _put_model(store: Store, manifest: Manifest, weights: Sequence[Layer]) -> Descriptor:
    formats = {model.format for model in manifest.models}
    source = manifest.source
    config = _ModelDocument(
        descriptor=_ModelDescriptor(
            name=manifest.name,
            version=manifest.version,
            created_at=manifest.created,
            licenses=manifest.licenses,
            source_url=source.url if source else None,
            revision=source.commit if source else None,
        ),
        config=_ModelSettings(format=formats.pop() if len(formats) == 1 else None),
        modelfs=_ModelFs(type="layers", diff_ids=tuple(layer.descriptor.digest for layer in weights)),
    )
    layers = tuple(
        replace(
            layer.descriptor,
            media_type=WEIGHT_TYPE,
            annotations={ROLE: "weights", FILE_PATH: ",".join(entry.path for entry in layer.entries)},
        )
        for layer in weights
    )
    document = make_manifest(store.put_json(config, MODEL_CONFIG_TYPE), layers, artifact_type=MODEL_TYPE)
    return _child(store.put_json(document, MANIFEST_TYPE), "model", NO_PLATFORM)


def _put_modelcar(store: Store, manifest: Manifest, weights: Sequence[Layer], platform: Platform) -> Descriptor:
    config = ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        rootfs=RootFs(type="layers", diff_ids=tuple(layer.descriptor.digest for layer in weights)),
        config=RunConfig(labels=describe(manifest)),
        created=manifest.created,
    )
    layers = tuple(replace(layer.descriptor, media_type=LAYER_TYPE) for layer in weights)
    document = make_manifest(store.put_json(config, CONFIG_TYPE), layers)
    return _child(store.put_json(document, MANIFEST_TYPE), "modelcar", platform)


def _child(descriptor: Descriptor, role: str, platform: Platform) -> Descriptor:
    return replace(descriptor, platform=platform, annotations={ROLE: role})
