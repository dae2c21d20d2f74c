"""Verifying a bundle with images: an image that is not one of this bundle is found."""

import io
import tarfile
from collections.abc import Callable

import pytest
import zstandard
from image_fakes import Workshop
from msgspec.structs import replace

from slipway_bundle.assembly import CONTENT_DIGEST, ROLE, with_images
from slipway_bundle.digest import Digest
from slipway_bundle.layers import LayerFile
from slipway_bundle.oci import (
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    ImageConfig,
    ImageIndex,
    ImageManifest,
)
from slipway_bundle.verify import VerifyReport, verify

Change = Callable[[ImageManifest, ImageConfig], tuple[ImageManifest, ImageConfig]]


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_a_bundle_with_images_is_what_it_says(workshop: Workshop, compression: str) -> None:
    workshop.add(compression=compression, platforms=("linux/amd64", "linux/arm64"))

    report = verify(workshop.store, workshop.ref, is_replaying=False)

    assert report.is_valid
    assert "2 images" in next(step.detail for step in report.steps if step.name == "layers")


def changed(workshop: Workshop, change: Change) -> VerifyReport:
    """The report about a bundle whose image went through `change`; all digests are right."""
    store = workshop.store
    imaged = workshop.add()
    manifest = store.read_json(imaged.images[0].digest, ImageManifest)
    config = store.read_json(Digest(manifest.config.digest), ImageConfig)
    with store.lease():
        manifest, config = change(manifest, config)
        manifest = replace(manifest, config=store.put_json(config, CONFIG_TYPE))
        child = store.put_json(manifest, MANIFEST_TYPE)
        index = store.read_json(imaged.digest, ImageIndex)
        child = replace(child, platform=index.manifests[0].platform, annotations={ROLE: "image"})
        made = store.put_json(with_images(index, (child,)), INDEX_TYPE)
        annotations = {ROLE: "bundle", CONTENT_DIGEST: imaged.content_digest}
        store.publish(workshop.ref, replace(made, annotations=annotations), replaces_same_content=True)
    return verify(store, workshop.ref, is_replaying=False)


def put_tar(workshop: Workshop, path: str, data: bytes) -> Descriptor:
    with workshop.store.lease():
        return workshop.store.put_layer([LayerFile(path, data)]).descriptor


def with_layer(
    manifest: ImageManifest, config: ImageConfig, at: int, layer: Descriptor
) -> tuple[ImageManifest, ImageConfig]:
    """A layer more."""
    layers, ids = list(manifest.layers), list(config.rootfs.diff_ids)
    where = len(layers) + at + 1
    layers.insert(where, layer)
    ids.insert(where, Digest(layer.digest))
    return replace(manifest, layers=tuple(layers)), replace(config, rootfs=replace(config.rootfs, diff_ids=tuple(ids)))


def test_a_layer_over_the_code_is_found(workshop: Workshop) -> None:
    evil = put_tar(workshop, "opt/app/src/tiny_service/service.py", b"evil")

    for at in (-1, -2):  # over everything; between code and documents
        report = changed(workshop, lambda manifest, config, at=at: with_layer(manifest, config, at, evil))  # type: ignore[misc]  # a default binds it

        failed = next(step for step in report.steps if step.status == "failed")
        assert (failed.name, failed.code) == ("layers", "manifest_invalid")
        assert "is not one of this bundle" in failed.detail


@pytest.mark.parametrize(
    ("at", "path", "said"),
    [
        (-1, "opt/slipway/slipway.json", "document 'opt/slipway/"),
        (-2, "opt/app/src/tiny_service/service.py", "code layer"),
    ],
    ids=["documents", "code"],
)
def test_a_layer_of_another_bundle_is_found(workshop: Workshop, at: int, path: str, said: str) -> None:
    other = put_tar(workshop, path, b"{}")

    def swap(manifest: ImageManifest, config: ImageConfig) -> tuple[ImageManifest, ImageConfig]:
        layers, ids = list(manifest.layers), list(config.rootfs.diff_ids)
        layers[at], ids[at] = other, Digest(other.digest)
        rootfs = replace(config.rootfs, diff_ids=tuple(ids))
        return replace(manifest, layers=tuple(layers)), replace(config, rootfs=rootfs)

    report = changed(workshop, swap)

    assert said in next(step.detail for step in report.steps if step.status == "failed")


def test_weights_of_another_model_are_found(workshop: Workshop) -> None:
    other = put_tar(workshop, "models/tiny/tiny.ubj", b"evil")

    def swap(manifest: ImageManifest, config: ImageConfig) -> tuple[ImageManifest, ImageConfig]:
        layers = tuple(other if at == 2 else layer for at, layer in enumerate(manifest.layers))
        ids = tuple(Digest(other.digest) if at == 2 else one for at, one in enumerate(config.rootfs.diff_ids))
        return replace(manifest, layers=layers), replace(config, rootfs=replace(config.rootfs, diff_ids=ids))

    report = changed(workshop, swap)

    assert "weights layers" in next(step.detail for step in report.steps if step.status == "failed")


def test_a_configuration_that_names_other_bytes_is_found(workshop: Workshop) -> None:
    """A runtime compares diff_ids after unpacking; we do before anybody pulls."""

    def lie(manifest: ImageManifest, config: ImageConfig) -> tuple[ImageManifest, ImageConfig]:
        ids = (Digest("sha256:" + "0" * 64), *config.rootfs.diff_ids[1:])
        return manifest, replace(config, rootfs=replace(config.rootfs, diff_ids=ids))

    report = changed(workshop, lie)

    assert "diff_id of layer" in next(step.detail for step in report.steps if step.status == "failed")


def test_a_layer_that_is_no_gzip_is_found(workshop: Workshop) -> None:
    layer = replace(workshop.store.put_bytes(b"not gzip at all"), media_type=f"{LAYER_TYPE}+gzip")

    def put(manifest: ImageManifest, config: ImageConfig) -> tuple[ImageManifest, ImageConfig]:
        return replace(manifest, layers=(layer, *manifest.layers[1:])), config

    report = changed(workshop, put)

    assert "cannot be unpacked" in next(step.detail for step in report.steps if step.status == "failed")


def test_a_layer_that_unpacks_for_ever_is_given_up(workshop: Workshop) -> None:
    """256 MB of zeros in 12 kB of zstd: more than any file of a file system gives."""
    data = zstandard.ZstdCompressor(level=3).compress(bytes(256 << 20))
    layer = replace(workshop.store.put_bytes(data), media_type=f"{LAYER_TYPE}+zstd")

    def put(manifest: ImageManifest, config: ImageConfig) -> tuple[ImageManifest, ImageConfig]:
        return replace(manifest, layers=(layer, *manifest.layers[1:])), config

    report = changed(workshop, put)

    assert "unpacks to more than" in next(step.detail for step in report.steps if step.status == "failed")


def test_layers_of_a_base_may_hold_what_a_bundle_may_not(workshop: Workshop) -> None:
    """A base has links and other owners; `verify` hashes it and judges only the bundle's own layers by section 5."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        link = tarfile.TarInfo("usr/bin/python3.11")
        link.type, link.linkname = tarfile.SYMTYPE, "/usr/local/bin/python3.11"
        archive.addfile(link)
    layer = replace(workshop.store.put_bytes(written.getvalue()), media_type=LAYER_TYPE)

    def put(manifest: ImageManifest, config: ImageConfig) -> tuple[ImageManifest, ImageConfig]:
        ids = (Digest(layer.digest), *config.rootfs.diff_ids[1:])
        return (
            replace(manifest, layers=(layer, *manifest.layers[1:])),
            replace(config, rootfs=replace(config.rootfs, diff_ids=ids)),
        )

    assert changed(workshop, put).is_valid
