"""The documents of the OCI image specification, as Structs.

It reads and writes nothing; `canonical.py` does. Unknown fields are accepted and dropped, as the specification asks
of readers. The invariant: every field of image-spec v1.1.1 is here under its wire name, so decoding and encoding a
document that follows the specification loses nothing but other people's extensions.
Source: https://github.com/opencontainers/image-spec/tree/v1.1.1 (descriptor.md, manifest.md, image-index.md,
config.md, image-layout.md).
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from slipway_bundle.digest import DIGEST_PATTERN, Digest

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
BYTES_TYPE = "application/octet-stream"

DOCKER_INDEX_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"

INDEX_TYPES = frozenset({INDEX_TYPE, DOCKER_INDEX_TYPE})
"""Documents whose children are `manifests`; the Docker form has the same fields."""

MANIFEST_TYPES = frozenset({MANIFEST_TYPE, DOCKER_MANIFEST_TYPE})
"""Documents whose children are `config` and `layers`."""

REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation that gives an entry of `index.json` its name."""

LAYOUT_FILE = "oci-layout"
LAYOUT_VERSION = "1.0.0"
INDEX_FILE = "index.json"
BLOBS = "blobs/sha256"

WireDigest = Annotated[Digest, Meta(pattern=DIGEST_PATTERN)]
"""A digest in a stored document: checked while decoding."""


class Platform(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an image runs on."""

    architecture: str
    os: str
    os_version: str | None = field(name="os.version", default=None)
    os_features: tuple[str, ...] = field(name="os.features", default=())
    variant: str | None = None


class Descriptor(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A reference to a blob: what it is, its digest, its size in bytes."""

    media_type: str
    digest: WireDigest
    size: Annotated[int, Meta(ge=0)]
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    data: str | None = None
    artifact_type: str | None = None
    platform: Platform | None = None


class ImageManifest(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A config and its layers. `schema_version` is 2 and always written."""

    schema_version: Literal[2]
    media_type: str | None = None
    artifact_type: str | None = None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class ImageIndex(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A list of manifests: a bundle, or the `index.json` of a layout."""

    schema_version: Literal[2]
    media_type: str | None = None
    artifact_type: str | None = None
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


class LayoutMarker(Struct, frozen=True, kw_only=True, rename="camel"):
    """The content of the file `oci-layout`."""

    image_layout_version: str


class RootFs(Struct, frozen=True, kw_only=True):
    """The digests of the uncompressed layers, in order."""

    type: Literal["layers"]
    diff_ids: tuple[WireDigest, ...]


class RunConfig(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """How a container of the image starts."""

    user: str | None = None
    exposed_ports: dict[str, dict[str, str]] = {}
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str | None = None
    labels: dict[str, str] = {}
    stop_signal: str | None = None


class History(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `docker history`."""

    created: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool = False


class ImageConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The config of a runnable image."""

    architecture: str
    os: str
    rootfs: RootFs
    config: RunConfig = RunConfig()
    created: str | None = None
    history: tuple[History, ...] = ()
    variant: str | None = None


def make_manifest(
    config: Descriptor,
    layers: tuple[Descriptor, ...],
    *,
    artifact_type: str | None = None,
    annotations: dict[str, str] | None = None,
    subject: Descriptor | None = None,
) -> ImageManifest:
    """An image manifest with its constants filled in."""
    return ImageManifest(
        schema_version=2,
        media_type=MANIFEST_TYPE,
        artifact_type=artifact_type,
        config=config,
        layers=layers,
        subject=subject,
        annotations=annotations or {},
    )


def make_index(
    manifests: tuple[Descriptor, ...],
    *,
    artifact_type: str | None = None,
    annotations: dict[str, str] | None = None,
) -> ImageIndex:
    """An image index with its constants filled in."""
    return ImageIndex(
        schema_version=2,
        media_type=INDEX_TYPE,
        artifact_type=artifact_type,
        manifests=manifests,
        annotations=annotations or {},
    )
