"""Is an image of a bundle an image of *that* bundle: its weights, its code, its documents, and nothing over them?

It does not judge base and environment: their digests are in the index, which is signed, and a scan reads what they are.
The invariant: whatever an image may serve besides its libraries is what steps 1 to 4 of `verify` have checked.
Source: `docs/bundle-v1.md`, section 3.5; OCI image-spec v1.1.1, config.md ("DiffID").
"""

import gzip
import hashlib
import zlib
from typing import IO, Final

from slipway_bundle.digest import CHUNK_BYTES, Digest
from slipway_bundle.disk import disk_errors
from slipway_bundle.errors import ManifestError
from slipway_bundle.extract import scan_layer
from slipway_bundle.layout import CONTENT_DIGEST
from slipway_bundle.oci import LAYER_TYPE, Descriptor, ImageConfig, ImageManifest
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle
from slipway_bundle.unpacked import ATTACHMENTS, DOCUMENTS, MANIFEST

__all__ = ["check_images"]

MAX_RATIO: Final = 2_000
"""Of unpacked to stored bytes: a megabyte that becomes terabytes would keep a reader busy for ever. Files of zeros
reach 1,000 (gzip) in practice; environments reach 5."""


def check_images(store: Store, bundle: StoredBundle) -> int:
    """Compares every image of `bundle` with the bundle; how many there are. Their blobs must have been verified.

    Raises:
        ManifestError: An image is not one of this bundle, or its layers are not what its configuration says.
        IntegrityError: A layer cannot be read.
        HostError: The disk failed.
    """
    images = bundle.children.get("image", ())
    unpacked: dict[str, str] = {}
    for image in images:
        config = store.read_json(Digest(image.config.digest), ImageConfig)
        where = f"the image for {config.os}/{config.architecture}"
        _require(where, "content digest", config.config.labels.get(CONTENT_DIGEST), bundle.manifest.content_digest)
        weights = [layer.digest for layer in bundle.children["model"][0].layers]
        below, top = image.layers[:-3], image.layers[-3:]  # slipway, code, documents
        _require(where, "number of layers above the weights", len(top), 3)
        _require(where, "code layer", top[1].digest, bundle.manifest.service.layer)
        if weights:
            _require(where, "weights layers", [layer.digest for layer in below[-len(weights) :]], weights)
        _check_documents(store, bundle, top[2], where)
        _check_diff_ids(store, image, config, where, unpacked)
    return len(images)


def _check_documents(store: Store, bundle: StoredBundle, layer: Descriptor, where: str) -> None:
    """The last layer holds the documents of the bundle, and nothing that could hide another layer's files."""
    expected: dict[str, str] = {f"{ATTACHMENTS}/{item.name}": item.digest for item in bundle.manifest.attachments}
    expected[MANIFEST] = bundle.children["manifest"][0].config.digest
    found = {entry.path: str(entry.sha256) for entry in scan_layer(store, layer).entries}
    for path in sorted(found.keys() | expected.keys()):
        if path in expected or not path.startswith(f"{DOCUMENTS}/"):
            _require(where, f"document {path!r}", found.get(path), expected.get(path))


def _check_diff_ids(
    store: Store, image: ImageManifest, config: ImageConfig, where: str, unpacked: dict[str, str]
) -> None:
    diff_ids = config.rootfs.diff_ids
    _require(where, "number of diff_ids", len(diff_ids), len(image.layers))
    for layer, expected in zip(image.layers, diff_ids, strict=True):
        if layer.digest not in unpacked:
            unpacked[layer.digest] = layer.digest if layer.media_type == LAYER_TYPE else _diff_id(store, layer)
        _require(where, f"diff_id of layer {layer.digest}", unpacked[layer.digest], expected)


def _diff_id(store: Store, layer: Descriptor) -> str:
    import zstandard

    running = hashlib.sha256()
    room = layer.size * MAX_RATIO + CHUNK_BYTES
    with disk_errors(store.root, f"reading layer {layer.digest}"):
        try:
            with store.blob(Digest(layer.digest)).open("rb") as blob, _unpacking(blob, layer.media_type) as plain:
                while chunk := plain.read(CHUNK_BYTES):
                    running.update(chunk)
                    room -= len(chunk)
                    if room < 0:
                        raise ManifestError(f"layer {layer.digest} unpacks to more than {MAX_RATIO} times its size")
        except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError, EOFError) as error:
            raise ManifestError(f"layer {layer.digest} cannot be unpacked: {error}", layer=layer.digest) from error
    return f"sha256:{running.hexdigest()}"


def _unpacking(blob: IO[bytes], media_type: str) -> "IO[bytes] | gzip.GzipFile":
    if media_type == f"{LAYER_TYPE}+gzip":
        return gzip.open(blob)
    if media_type == f"{LAYER_TYPE}+zstd":
        import zstandard

        stream: IO[bytes] = zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True)
        return stream
    raise ManifestError(f"an image has a layer of type {media_type!r}, expected a tar, plain, gzip or zstd")


def _require(where: str, what: str, got: object, expected: object) -> None:
    if got != expected:
        raise ManifestError(
            f"{where} is not one of this bundle: its {what} is {got}, expected {expected}",
            hint="the image was put together by something else than `slipway bundle image`",
        )
