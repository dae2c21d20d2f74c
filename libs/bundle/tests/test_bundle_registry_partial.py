"""A bundle that was pulled without its images serves, says what is missing, and is completed by a later pull."""

from pathlib import Path

import pytest
from bundle_fakes import Shelf
from msgspec.structs import replace
from registry_fakes import copy_of, fetch, send
from registry_process import RegistryProcess
from store_fakes import require_whole

from slipway_bundle.layers import LayerFile
from slipway_bundle.layout import ABSENT, ROLE
from slipway_bundle.oci import (
    CONFIG_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    ImageConfig,
    ImageIndex,
    Platform,
    RootFs,
    make_manifest,
)
from slipway_bundle.store import Store
from slipway_bundle.store_errors import BlobMissingError
from slipway_bundle.stored import read_bundle
from slipway_bundle.verify import verify
from slipway_bundle.view import open_bundle

SERVING = frozenset({"manifest", "model", "modelcar"})


def with_image(store: Store) -> Descriptor:
    """Gives the bundle an image: the weights that it has, and a layer of its own."""
    bundle = read_bundle(store, "tiny")
    weights = bundle.children["model"][0].layers[0]
    own = store.put_layer([LayerFile("usr/lib/python.so", b"an environment")]).descriptor
    layers = (own, replace(weights, media_type=own.media_type, annotations={}))
    rootfs = RootFs(type="layers", diff_ids=tuple(layer.digest for layer in layers))
    config = store.put_json(ImageConfig(architecture="amd64", os="linux", rootfs=rootfs), CONFIG_TYPE)
    image = store.put_json(make_manifest(config, layers), MANIFEST_TYPE)
    child = replace(image, platform=Platform(os="linux", architecture="amd64"), annotations={ROLE: "image"})
    index: ImageIndex = replace(bundle.index, manifests=(*bundle.index.manifests, child))
    entry = replace(store.put_json(index, INDEX_TYPE), annotations=dict(bundle.descriptor.annotations))
    ref = store.find("tiny").text
    store.delete(ref)
    store.publish(ref, replace(entry, annotations={k: v for k, v in entry.annotations.items() if "ref.name" not in k}))
    return own


@pytest.fixture
def pushed(registry: RegistryProcess, shelf: Shelf, tmp_path: Path) -> tuple[str, Descriptor]:
    """Where a bundle with an image is, and the layer that only the image has."""
    full = copy_of(shelf, tmp_path)
    own = with_image(full)
    return send(full, "tiny", f"{registry.host}/partial/{tmp_path.name.lower().replace('_', '')}:1", tmp_path).ref, own


def test_without_its_image_a_bundle_serves_and_says_what_is_missing(
    pushed: tuple[str, Descriptor], store: Store, tmp_path: Path
) -> None:
    source, own = pushed

    pulled = fetch(source, store, tmp_path, roles=SERVING)

    report = verify(store, "tiny", is_replaying=False)
    steps = {step.name: step.status for step in report.steps}
    assert pulled.absent == ("image",)
    assert not store.layout.blob(own.digest).exists()
    assert open_bundle(store, "tiny").models["tiny"].file.path.is_file()
    assert (report.is_valid, steps["absent"], steps["blobs"]) == (True, "skipped", "ok")
    assert store.gc().removed == ()


def test_a_later_pull_brings_the_rest_and_forgets_that_it_was_missing(
    pushed: tuple[str, Descriptor], store: Store, tmp_path: Path
) -> None:
    source, own = pushed
    fetch(source, store, tmp_path, roles=SERVING)

    whole = fetch(source, store, tmp_path)
    again = fetch(source, store, tmp_path, roles=SERVING)

    assert (whole.fetched_bytes, whole.absent, again.absent) == (own.size, (), ())
    assert ABSENT not in store.find("tiny").descriptor.annotations
    require_whole(store)


def test_what_is_here_in_part_is_not_pushed(
    registry: RegistryProcess, pushed: tuple[str, Descriptor], store: Store, tmp_path: Path
) -> None:
    source, _ = pushed
    fetch(source, store, tmp_path, roles=SERVING)

    with pytest.raises(BlobMissingError, match="without its image") as refused:
        send(store, "tiny", f"{registry.host}/partial/refused:1", tmp_path)

    assert refused.value.hint is not None
    assert "pull it again" in refused.value.hint


def test_weights_that_are_missing_are_damage_in_a_partial_bundle_too(
    pushed: tuple[str, Descriptor], store: Store, tmp_path: Path
) -> None:
    source, _ = pushed
    fetch(source, store, tmp_path, roles=SERVING)
    weights = read_bundle(store, "tiny").children["model"][0].layers[0]
    store.layout.blob(weights.digest).unlink()

    report = verify(store, "tiny", is_replaying=False)

    assert not report.is_valid
    assert {step.code for step in report.steps} == {"blob_missing", None}
