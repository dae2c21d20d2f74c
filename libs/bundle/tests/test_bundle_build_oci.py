"""The OCI shape: an index that other tools read, whose children share blobs."""

import json
import subprocess
from pathlib import Path

import pytest
from bundle_fakes import Shelf, Trained

from slipway_bundle.assembly import BUNDLE_TYPE
from slipway_bundle.canonical import canonical_json
from slipway_bundle.stored import read_bundle


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def image(shelf: Shelf) -> str:
    return f"oci:{shelf.store.root}:{shelf.built.ref}"


def test_the_index_says_what_it_is_and_its_children_say_their_roles(shelf: Shelf) -> None:
    index = read_bundle(shelf.store, shelf.built.ref).index

    assert index.artifact_type == BUNDLE_TYPE
    assert [child.annotations["io.slipway.role"] for child in index.manifests] == [
        "manifest", "model", "modelcar", "modelcar"
    ]  # fmt: skip
    assert all(child.artifact_type is None for child in index.manifests)
    platforms = [(child.platform.os, child.platform.architecture) for child in index.manifests if child.platform]
    assert platforms == [("unknown", "unknown"), ("unknown", "unknown"), ("linux", "amd64"), ("linux", "arm64")]
    assert index.annotations["io.slipway.content-digest"] == shelf.built.content_digest


def test_weights_are_stored_once_and_have_two_media_types(shelf: Shelf) -> None:
    children = read_bundle(shelf.store, shelf.built.ref).children

    model, car = children["model"][0].layers, children["modelcar"][0].layers
    assert [layer.digest for layer in model] == [layer.digest for layer in car]
    assert {layer.media_type for layer in model} == {"application/vnd.cncf.model.weight.v1.tar"}
    assert {layer.media_type for layer in car} == {"application/vnd.oci.image.layer.v1.tar"}


def test_the_modelpack_config_has_what_its_specification_requires(shelf: Shelf) -> None:
    model = read_bundle(shelf.store, shelf.built.ref).children["model"][0]

    config = json.loads(shelf.store.read(model.config.digest))

    assert model.artifact_type == "application/vnd.cncf.model.manifest.v1+json"
    assert model.config.media_type == "application/vnd.cncf.model.config.v1+json"
    assert config["descriptor"]["name"] == "tiny"
    assert config["config"] == {"format": "xgboost"}
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer.digest for layer in model.layers]}


def test_every_document_is_canonical(shelf: Shelf) -> None:
    for path in (shelf.store.root / "blobs" / "sha256").iterdir():
        data = path.read_bytes()
        if data.startswith(b'{"') and b"\n" not in data:
            assert canonical_json(json.loads(data)) == data


@pytest.mark.needs("skopeo")
def test_skopeo_inspects_a_bundle_and_sees_its_modelcar(shelf: Shelf, image: str) -> None:
    car = read_bundle(shelf.store, shelf.built.ref).children["modelcar"][0]

    seen = json.loads(run("skopeo", "--override-arch", "amd64", "--override-os", "linux", "inspect", image))

    assert seen["Digest"] == shelf.built.digest
    assert seen["Layers"] == [layer.digest for layer in car.layers]
    assert seen["Labels"]["io.slipway.content-digest"] == shelf.built.content_digest


@pytest.mark.needs("skopeo")
def test_skopeo_copies_a_whole_bundle_without_changing_its_digest(shelf: Shelf, image: str, tmp_path: Path) -> None:
    run("skopeo", "copy", "--quiet", "--all", "--preserve-digests", image, f"oci:{tmp_path}/copy:tiny")

    index = json.loads((tmp_path / "copy" / "index.json").read_bytes())
    assert [entry["digest"] for entry in index["manifests"]] == [shelf.built.digest]


@pytest.mark.needs("skopeo", "umoci")
@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_umoci_unpacks_the_modelcar_where_kserve_looks_for_it(
    shelf: Shelf, image: str, tmp_path: Path, trained: Trained, architecture: str
) -> None:
    car = f"{tmp_path}/car"
    platform = ["--override-os", "linux", "--override-arch", architecture]
    run("skopeo", *platform, "copy", "--quiet", "--preserve-digests", image, f"oci:{car}:tiny")

    run("umoci", "raw", "unpack", "--rootless", "--image", f"{car}:tiny", f"{tmp_path}/root")

    files = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
    assert [path.relative_to(tmp_path / "root").as_posix() for path in files] == ["models/tiny/tiny.ubj"]
    assert files[0].read_bytes() == trained.model


@pytest.mark.needs("umoci")
def test_umoci_lists_the_bundles_of_a_store(shelf: Shelf) -> None:
    listed = run("umoci", "ls", "--layout", str(shelf.store.root))

    assert listed.split() == [shelf.built.ref]


def test_plain_tar_reads_the_layers(shelf: Shelf) -> None:
    weights = read_bundle(shelf.store, shelf.built.ref).manifest.models[0].files[0].layer

    listed = run("tar", "--list", "--file", str(shelf.store.root / "blobs" / "sha256" / weights[7:]))

    assert listed.split() == ["models/", "models/tiny/", "models/tiny/tiny.ubj"]
