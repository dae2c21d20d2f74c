"""Base images: the one for the platform, by digest, as it is; and no network when it is here."""

import gzip
import json
from pathlib import Path

import pytest
from registry_fakes import SOON, send
from registry_process import FaultProxy, RegistryProcess, environ
from store_fakes import put_image, require_whole

from slipway_bundle.oci import INDEX_TYPE, MANIFEST_TYPE, Descriptor, Platform, make_index
from slipway_bundle.registry import RemoteNotFoundError, pull_image
from slipway_bundle.store import Store

AMD64 = Platform(os="linux", architecture="amd64")
ARM64 = Platform(os="linux", architecture="arm64")
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def put_docker_image(store: Store, architecture: str) -> Descriptor:
    """As `docker push` made them: its own types, gzip layers."""
    layer = store.put_bytes(gzip.compress(architecture.encode(), mtime=0))
    config = store.put_json(
        {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer.digest]}},
        "application/vnd.docker.container.image.v1+json",
    )
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": config.media_type, "digest": config.digest, "size": config.size},
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "digest": layer.digest,
                "size": layer.size,
            }
        ],
    }
    return store.put_json(document, DOCKER_MANIFEST)


def put_base(store: Store, ref: str) -> tuple[Descriptor, dict[str, Descriptor]]:
    """An index over a Docker image for each platform."""
    children = {name: put_docker_image(store, name) for name in ("amd64", "arm64")}
    listed = tuple(
        Descriptor(
            media_type=each.media_type,
            digest=each.digest,
            size=each.size,
            platform=Platform(os="linux", architecture=name, variant="v8" if name == "arm64" else None),
        )
        for name, each in children.items()
    )
    index = store.put_json(make_index(listed), INDEX_TYPE)
    store.publish(ref, index)
    return index, children


def test_the_image_of_the_platform_comes_as_it_is(registry: RegistryProcess, store: Store, tmp_path: Path) -> None:
    index, children = put_base(store, "base:1")
    send(store, "base:1", f"{registry.host}/bases/debian:1", tmp_path)
    here = Store.open(tmp_path / "here")

    found = pull_image(
        f"{registry.host}/bases/debian@{index.digest}", here, ARM64, environ=environ(tmp_path), retry=SOON
    )

    assert (found.digest, found.media_type) == (children["arm64"].digest, DOCKER_MANIFEST)
    for each in here.walk(found):
        here.verify_blob(each.digest, size=each.size)
    assert children["amd64"].digest not in {f"sha256:{path.name}" for path in here.layout.blobs.iterdir()}


def test_what_is_here_needs_no_network(proxy: FaultProxy, store: Store, tmp_path: Path) -> None:
    index, _ = put_base(store, "base:1")
    send(store, "base:1", f"{proxy.host}/bases/warm:1", tmp_path)
    here = Store.open(tmp_path / "here")
    source = f"{proxy.host}/bases/warm@{index.digest}"
    first = pull_image(source, here, AMD64, environ=environ(tmp_path), retry=SOON)
    proxy.seen.clear()

    second = pull_image(source, here, AMD64, environ=environ(tmp_path), retry=SOON)

    assert first == second
    assert proxy.seen == []


def test_a_layout_with_one_image_needs_no_tag_and_a_tag_is_told(store: Store, tmp_path: Path) -> None:
    index, children = put_base(store, "base:1")
    told: list[str] = []
    here = Store.open(tmp_path / "here")

    found = pull_image(f"oci:{store.root}", here, AMD64, environ=environ(tmp_path), tell=told.append)

    assert found.digest == children["amd64"].digest
    assert told == [f"oci:{store.root} is {index.digest}"]
    require_whole(here)


def test_a_platform_that_is_not_there_is_said_with_those_that_are(store: Store, tmp_path: Path) -> None:
    put_base(store, "base:1")
    s390x = Platform(os="linux", architecture="s390x")

    with pytest.raises(RemoteNotFoundError, match=r"not there for linux/s390x: it has linux/amd64, linux/arm64/v8"):
        pull_image(f"oci:{store.root}:base:1", Store.open(tmp_path / "here"), s390x, environ=environ(tmp_path))


def test_a_single_image_says_in_its_config_what_it_is_for(store: Store, tmp_path: Path) -> None:
    manifest = put_image(store, "x")
    store.publish("single:1", manifest)
    here = Store.open(tmp_path / "here")

    found = pull_image(f"oci:{store.root}:single:1", here, AMD64, environ=environ(tmp_path))
    with pytest.raises(RemoteNotFoundError, match="it is for linux/amd64"):
        pull_image(f"oci:{store.root}:single:1", here, ARM64, environ=environ(tmp_path))

    assert (found.digest, found.media_type) == (manifest.digest, MANIFEST_TYPE)
    assert json.loads(here.read(found.digest))["layers"]
