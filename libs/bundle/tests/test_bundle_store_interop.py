"""Programs that nobody here wrote read what the store writes, and the store reads what they write."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from store_fakes import put_bundle, put_image, require_whole

from slipway_bundle.canonical import canonical_json
from slipway_bundle.store import Store

needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
needs_umoci = pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed")


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@needs_skopeo
@pytest.mark.parametrize("ref", ["churn:1.0.0", "team/churn:2026.11.21", "a.b_c--d:g1f3a-2"])
def test_skopeo_reads_a_bundle_under_every_kind_of_name(store: Store, ref: str) -> None:
    index = put_bundle(store, "x", ref)

    raw = run("skopeo", "inspect", "--raw", f"oci:{store.root}:{ref}")

    assert raw.encode() == store.read(index.digest)


@needs_skopeo
def test_skopeo_inspects_an_image(store: Store) -> None:
    manifest = put_image(store, "x")
    store.publish("churn:1", manifest)

    found = json.loads(run("skopeo", "inspect", f"oci:{store.root}:churn:1"))

    assert found["Digest"] == manifest.digest
    assert (found["Architecture"], found["Os"], len(found["Layers"])) == ("amd64", "linux", 1)


@needs_skopeo
def test_a_copy_by_skopeo_is_a_store_with_the_same_digests(store: Store, tmp_path: Path) -> None:
    index = put_bundle(store, "x", "churn:1")

    run(
        "skopeo", "copy", "--all", "--preserve-digests", f"oci:{store.root}:churn:1", f"oci:{tmp_path / 'copy'}:churn:1"
    )  # fmt: skip

    copy = Store.open(tmp_path / "copy")
    assert copy.resolve("churn:1") == index.digest
    require_whole(copy)
    put_bundle(copy, "y", "churn:2")
    assert copy.gc().removed == ()
    assert len(copy.refs()) == 2


@needs_umoci
def test_umoci_lists_and_unpacks_an_image(store: Store, tmp_path: Path) -> None:
    store.publish("churn:1", put_image(store, "x"))

    listed = run("umoci", "list", "--layout", store.root)
    run("umoci", "raw", "unpack", "--rootless", "--image", f"{store.root}:churn:1", tmp_path / "out")

    assert listed.split() == ["churn:1"]
    assert (tmp_path / "out/code/app.py").read_bytes() == b"x"


def test_the_layout_is_what_the_specification_says(store: Store) -> None:
    """image-layout.md, the three things that MUST be there."""
    index = put_bundle(store, "x", "churn:1")

    assert json.loads((store.root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((store.root / "index.json").read_bytes()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "digest": index.digest,
                "size": index.size,
                "annotations": {"org.opencontainers.image.ref.name": "churn:1"},
            }
        ],
    }
    assert (store.root / "blobs/sha256" / index.digest[7:]).is_file()


def test_a_layout_of_another_tool_is_read_and_extended(store: Store, tmp_path: Path) -> None:
    """Without our folder, as `skopeo copy` leaves it."""
    index = put_bundle(store, "x", "churn:1")
    shutil.rmtree(store.layout.extras)
    (store.root / "oci-layout").write_bytes(canonical_json({"imageLayoutVersion": "1.0.0", "more": 1}))

    assert store.resolve("churn:1") == index.digest
    put_bundle(store, "y", "churn:2")

    require_whole(store)
    assert len(store.refs()) == 2
