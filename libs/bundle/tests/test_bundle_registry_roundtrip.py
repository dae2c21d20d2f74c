"""A bundle goes to a real registry and comes back, by our client and by skopeo, and is the same to the byte."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from bundle_fakes import Shelf, Trained, edit, write_folder
from msgspec import Struct
from msgspec.structs import replace
from registry_fakes import SOON, copy_of, fetch, leaf_sizes, send
from registry_process import FaultProxy, RegistryProcess, environ
from store_fakes import names, put_bundle, require_whole

from slipway_bundle.build import build
from slipway_bundle.digest import Digest
from slipway_bundle.errors import ManifestError, UsageError
from slipway_bundle.layout import CONTENT_DIGEST
from slipway_bundle.oci import INDEX_TYPE
from slipway_bundle.referrers import attach, referrers
from slipway_bundle.registry import (
    RemoteInvalidError,
    RemoteNotFoundError,
    TagTakenError,
    TamperedError,
    copy,
    parse_remote,
    pull_documents,
    tag,
    tags,
)
from slipway_bundle.store import Store
from slipway_bundle.store_errors import BlobMissingError, RefConflictError
from slipway_bundle.stored import read_bundle
from slipway_bundle.verify import verify


class Changed(Struct, frozen=True):
    """The same bundle after its code was edited."""

    store: Store
    ref: str
    digest: str


@pytest.fixture(scope="module")
def changed(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> Changed:
    """Built beside the other one, once for all tests."""
    root = tmp_path_factory.mktemp("changed")
    folder = write_folder(root / "tiny", trained)
    edit(folder / "src/tiny_service/service.py", "A service for tests", "Another service")
    store = copy_of(shelf, root)
    built = build(folder, store, environ={})
    return Changed(store, built.ref, built.digest)


needs_skopeo = pytest.mark.needs("skopeo")

NOTE = "application/vnd.example.note"


def test_what_comes_back_is_what_went(registry: RegistryProcess, shelf: Shelf, store: Store, tmp_path: Path) -> None:
    pushed = send(shelf.store, "tiny", f"{registry.host}/back/tiny", tmp_path)

    pulled = fetch(pushed.ref, store, tmp_path)

    assert (pulled.digest, pulled.ref) == (shelf.built.digest, shelf.built.ref)
    assert pushed.ref == f"{registry.host}/back/tiny@{shelf.built.digest}"
    assert store.entries() == shelf.store.entries()
    require_whole(store)
    assert verify(store, "tiny", is_replaying=False).is_valid
    assert registry.tags("back/tiny") == {shelf.built.ref.partition(":")[2]}


def test_weights_are_served_from_the_blob_that_was_pulled(
    registry: RegistryProcess, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    """No second copy: the file that is mapped is the blob, at the offset of the manifest."""
    from slipway_bundle.view import open_bundle

    fetch(send(shelf.store, "tiny", f"{registry.host}/mapped/tiny", tmp_path).ref, store, tmp_path)

    view = open_bundle(store, "tiny")

    file = view.models["tiny"].file
    assert file.path.parent == store.layout.blobs
    assert (
        file.path.read_bytes()[file.offset : file.offset + file.size] == (shelf.folder / "model/tiny.ubj").read_bytes()
    )


def test_a_second_push_sends_nothing(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, tmp_path: Path
) -> None:
    first = send(shelf.store, "tiny", f"{proxy.host}/twice/tiny", tmp_path)
    proxy.seen.clear()

    second = send(shelf.store, "tiny", f"{proxy.host}/twice/tiny", tmp_path)

    assert (first.is_new, second.is_new, second.sent_bytes) == (True, False, 0)
    assert first.sent_bytes == second.present_bytes == sum(leaf_sizes(shelf.store, "tiny").values())
    assert {kind.partition(" ")[0] for kind in proxy.kinds()} == {"HEAD"}


def test_a_changed_code_file_sends_no_weights(
    proxy: FaultProxy, shelf: Shelf, changed: Changed, tmp_path: Path
) -> None:
    send(shelf.store, "tiny", f"{proxy.host}/churned/tiny", tmp_path)
    proxy.seen.clear()

    send(changed.store, changed.ref, f"{proxy.host}/churned/tiny", tmp_path)

    weights = {file.layer for model in read_bundle(changed.store, changed.ref).manifest.models for file in model.files}
    sent = {seen.path.rpartition("digest=")[2].replace("%3A", ":") for seen in proxy.seen if "digest=" in seen.path}
    assert sent
    assert not sent & weights


def test_a_tag_is_not_moved_unless_told(
    registry: RegistryProcess, shelf: Shelf, changed: Changed, tmp_path: Path
) -> None:
    place = f"{registry.host}/taken/tiny:1"
    send(shelf.store, "tiny", place, tmp_path)

    with pytest.raises(TagTakenError, match=shelf.built.digest):
        send(changed.store, changed.ref, place, tmp_path)
    moved = send(changed.store, changed.ref, place, tmp_path, replaces=True)

    assert moved.is_new
    assert tags(f"{registry.host}/taken/tiny", environ=environ(tmp_path)) == [("1", changed.digest)]


def test_what_refers_to_a_bundle_goes_and_comes_with_it(
    registry: RegistryProcess, shelf: Shelf, tmp_path: Path
) -> None:
    """The registry has no referrers API, so they are found by the tag that stands for it."""
    store, built = copy_of(shelf, tmp_path), shelf.built
    subject = store.find("tiny").descriptor
    for text in (b"first", b"second"):
        attach(store, subject, artifact_type=NOTE, blobs=[(text, "text/plain")], annotations={"by": "me"})
    pushed = send(store, "tiny", f"{registry.host}/noted/tiny", tmp_path)
    third = attach(store, subject, artifact_type=NOTE, blobs=[(b"third", "text/plain")])
    attach(store, third, artifact_type=NOTE, blobs=[(b"about third", "text/plain")])
    again = send(store, "tiny", f"{registry.host}/noted/tiny", tmp_path)
    other = Store.open(tmp_path / "other")

    pulled = fetch(pushed.ref, other, tmp_path)

    found = referrers(other, Digest(built.digest))
    assert len(referrers(other, Digest(third.digest))) == 1
    assert (pushed.referrers, again.referrers, again.sent_bytes, pulled.referrers) == (2, 4, 16, 4)
    assert third.digest in {each.digest for each in found}
    assert found == referrers(store, Digest(built.digest))
    assert tags(f"{registry.host}/noted/tiny", environ=environ(tmp_path)) == [(pushed.tag, built.digest)]
    require_whole(other)


def test_documents_alone_are_enough_to_judge(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, tmp_path: Path
) -> None:
    store, built = copy_of(shelf, tmp_path), shelf.built
    attach(store, store.find("tiny").descriptor, artifact_type=NOTE, blobs=[(b"yes", "text/plain")])
    send(store, "tiny", f"{proxy.host}/judged/tiny:1", tmp_path)
    other = Store.open(tmp_path / "other")

    index = pull_documents(f"{proxy.host}/judged/tiny:1", other, environ=environ(tmp_path))

    weights = read_bundle(store, "tiny").manifest.models[0].files[0].layer
    assert index.digest == built.digest
    assert len(referrers(other, Digest(built.digest))) == 1
    assert not other.layout.blob(Digest(weights)).exists()
    assert other.refs() == ()


def test_a_copy_between_repositories_is_linked_not_sent(
    registry: RegistryProcess, proxy: FaultProxy, shelf: Shelf, tmp_path: Path
) -> None:
    send(shelf.store, "tiny", f"{proxy.host}/origin/tiny:1", tmp_path)
    proxy.seen.clear()

    copied = copy(f"{proxy.host}/origin/tiny:1", f"{proxy.host}/linked/tiny", environ=environ(tmp_path), retry=SOON)

    assert (copied.tag, copied.digest, copied.sent_bytes) == ("1", shelf.built.digest, 0)
    assert copied.mounted_bytes == sum(leaf_sizes(shelf.store, "tiny").values())
    assert proxy.sent_bytes() == 0


def test_a_layout_on_disk_is_a_registry_too(registry: RegistryProcess, shelf: Shelf, tmp_path: Path) -> None:
    """Push to a disk, copy from there to a registry, pull from both."""
    disk = f"oci:{tmp_path / 'disk'}"
    pushed = send(shelf.store, "tiny", disk, tmp_path)

    copied = copy(f"{disk}:{shelf.built.ref}", f"{registry.host}/gap/tiny:1", environ=environ(tmp_path), retry=SOON)
    here, there = Store.open(tmp_path / "here"), Store.open(tmp_path / "there")
    fetch(f"{disk}:{shelf.built.ref}", here, tmp_path)
    fetch(copied.ref, there, tmp_path)

    assert pushed.tag == shelf.built.ref
    assert here.entries() == there.entries() == shelf.store.entries()
    assert Store.open(tmp_path / "disk").entries() == shelf.store.entries()


def test_another_tag_is_another_name_for_the_same(registry: RegistryProcess, shelf: Shelf, tmp_path: Path) -> None:
    pushed = send(shelf.store, "tiny", f"{registry.host}/named/tiny:1", tmp_path)

    tagged = tag(pushed.ref, "stable", environ=environ(tmp_path))

    assert tagged.text == pushed.ref
    assert registry.tags("named/tiny") == {"1", "stable"}


def test_what_is_not_there_is_said_with_where_to_look(
    registry: RegistryProcess, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    send(shelf.store, "tiny", f"{registry.host}/missing/tiny:1", tmp_path)

    with pytest.raises(RemoteNotFoundError, match="'2' is not in") as missing:
        fetch(f"{registry.host}/missing/tiny:2", store, tmp_path)
    with pytest.raises(RemoteInvalidError, match="names no version"):
        fetch(f"{registry.host}/missing/tiny", store, tmp_path)

    assert missing.value.hint is not None
    assert f"slipway registry list {registry.host}/missing/tiny" in missing.value.hint
    assert parse_remote(f"{registry.host}/missing/tiny").tag is None


def test_a_name_that_is_other_content_here_is_not_replaced(
    registry: RegistryProcess, shelf: Shelf, changed: Changed, store: Store, tmp_path: Path
) -> None:
    mine = send(changed.store, changed.ref, f"{registry.host}/clash/tiny:2", tmp_path)
    pushed = send(shelf.store, "tiny", f"{registry.host}/clash/tiny:1", tmp_path)
    fetch(mine.ref, store, tmp_path, name="tiny:mine")

    layer = read_bundle(shelf.store, "tiny").manifest.service.layer
    with pytest.raises(RefConflictError, match="immutable"):
        fetch(pushed.ref, store, tmp_path, name="tiny:mine")
    assert not store.layout.blob(Digest(layer)).exists()  # refused before any layer came
    fetch(pushed.ref, store, tmp_path, name="tiny:theirs")

    assert names(store) == {"tiny:mine": mine.digest, "tiny:theirs": pushed.digest}


def test_an_index_that_claims_the_content_of_another_bundle_is_refused(
    shelf: Shelf, changed: Changed, store: Store, tmp_path: Path
) -> None:
    """Else a name here could be moved to other content, as images move it to the same."""
    mine = copy_of(shelf, tmp_path)
    theirs = read_bundle(changed.store, changed.ref)
    claimed = theirs.index.annotations | {CONTENT_DIGEST: shelf.built.content_digest}
    forged = Store.open(Path(shutil.copytree(changed.store.root, tmp_path / "forged")))
    index = forged.put_json(replace(theirs.index, annotations=claimed), INDEX_TYPE)
    forged.publish("tiny:forged", index)

    with pytest.raises(TamperedError, match="says that its content"):
        fetch(f"oci:{forged.root}:tiny:forged", mine, tmp_path, name=shelf.built.ref)

    assert mine.entries() == shelf.store.entries()


@needs_skopeo
def test_skopeo_copies_what_we_pushed_and_we_pull_what_skopeo_copied(
    registry: RegistryProcess, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    send(shelf.store, "tiny", f"{registry.host}/ours/tiny:1", tmp_path)

    skopeo(f"docker://{registry.host}/ours/tiny:1", f"oci:{tmp_path / 'layout'}:tiny:1")
    skopeo(f"oci:{tmp_path / 'layout'}:tiny:1", f"docker://{registry.host}/theirs/tiny:1")
    pulled = fetch(f"{registry.host}/theirs/tiny:1", store, tmp_path)
    again = fetch(f"oci:{tmp_path / 'layout'}:tiny:1", Store.open(tmp_path / "again"), tmp_path)

    assert pulled.digest == again.digest == shelf.built.digest
    assert verify(store, "tiny", is_replaying=False).is_valid


@needs_skopeo
def test_what_skopeo_pushes_from_our_store_is_there_for_us(
    registry: RegistryProcess, shelf: Shelf, store: Store, tmp_path: Path
) -> None:
    skopeo(f"oci:{shelf.store.root}:{shelf.built.ref}", f"docker://{registry.host}/skopeo/tiny:1")

    pushed = send(shelf.store, "tiny", f"{registry.host}/skopeo/tiny:1", tmp_path)
    shown = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/skopeo/tiny:1"],
        check=True,
        capture_output=True,
    )

    assert (pushed.is_new, pushed.sent_bytes) == (False, 0)
    assert json.loads(shown.stdout)["artifactType"] == "application/vnd.slipway.bundle.v1+json"


def test_another_kind_of_image_is_not_a_bundle(registry: RegistryProcess, store: Store, tmp_path: Path) -> None:
    put_bundle(store, "x", "churn:1")
    send(store, "churn:1", f"{registry.host}/kinds/churn:1", tmp_path)

    with pytest.raises(ManifestError, match="not a slipway bundle"):
        fetch(f"{registry.host}/kinds/churn:1", Store.open(tmp_path / "other"), tmp_path)
    with pytest.raises(UsageError, match="without 'model'"):
        fetch(f"{registry.host}/kinds/churn:1", Store.open(tmp_path / "other"), tmp_path, roles={"manifest"})


def test_a_bundle_with_a_missing_blob_is_not_pushed(proxy: FaultProxy, shelf: Shelf, tmp_path: Path) -> None:
    """Said before the first request."""
    store = copy_of(shelf, tmp_path)
    weights = Digest(read_bundle(store, "tiny").manifest.models[0].files[0].layer)
    store.layout.blob(weights).unlink()

    with pytest.raises(BlobMissingError, match=weights):
        send(store, "tiny", f"{proxy.host}/broken/tiny:1", tmp_path)

    assert proxy.seen == []


def skopeo(source: str, destination: str) -> None:
    subprocess.run(
        [
            "skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
            source, destination,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
