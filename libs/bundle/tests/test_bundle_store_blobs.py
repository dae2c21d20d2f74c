"""Blobs in and out, publishing, deleting, and what happens to damaged ones."""

from pathlib import Path

import pytest
from store_fakes import Recorder, blob_files, names, put_bundle, require_whole

from slipway_bundle.canonical import canonical_json
from slipway_bundle.digest import Digest, digest_bytes
from slipway_bundle.errors import UsageError
from slipway_bundle.oci import INDEX_TYPE, REF_NAME, Descriptor, make_index
from slipway_bundle.store import Store
from slipway_bundle.store_errors import (
    BlobCorruptError,
    BlobMissingError,
    BlobTooLongError,
    JsonError,
    RefConflictError,
    RefInvalidError,
    RefNotFoundError,
    StoreInvalidError,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_bytes_come_back_as_they_went_in(store: Store) -> None:
    descriptor = store.put_bytes(b"hello", "text/plain")

    assert store.read(descriptor.digest) == b"hello"
    assert descriptor == Descriptor(media_type="text/plain", digest=digest_bytes(b"hello"), size=5)
    assert store.blob(descriptor.digest).stat().st_mode & 0o7777 == 0o444


def test_the_same_bytes_twice_are_one_untouched_blob(store: Store) -> None:
    path = store.blob(store.put_bytes(b"hello").digest)
    before = path.stat()

    store.put_bytes(b"hello")

    assert path.stat() == before
    assert len(blob_files(store)) == 1


def test_nothing_is_visible_before_it_is_published(store: Store) -> None:
    index = put_bundle(store, "x")
    assert store.refs() == ()

    assert store.publish("churn:1.0.0", index) is True

    assert names(store) == {"churn:1.0.0": index.digest}
    assert store.refs()[0].descriptor.size == index.size


def test_publishing_the_same_content_again_changes_nothing(store: Store) -> None:
    index = put_bundle(store, "x", "churn:1.0.0")
    before = store.layout.index.stat()

    assert store.publish("churn:1.0.0", index) is False

    assert store.layout.index.stat() == before


def test_other_content_under_a_published_reference_is_a_conflict(store: Store) -> None:
    first = put_bundle(store, "x", "churn:1.0.0")

    with pytest.raises(RefConflictError, match="versions are immutable") as caught:
        put_bundle(store, "y", "churn:1.0.0")

    assert caught.value.code == "ref_conflict"
    assert caught.value.exit_status == 2
    assert names(store) == {"churn:1.0.0": first.digest}


def test_the_order_of_publishing_leaves_no_trace(tmp_path: Path) -> None:
    one, two = Store.open(tmp_path / "1"), Store.open(tmp_path / "2")

    for store, order in ((one, "abc"), (two, "cab")):
        for text in order:
            put_bundle(store, text, f"{text}:1")

    assert one.layout.index.read_bytes() == two.layout.index.read_bytes()


def test_a_bundle_with_a_missing_part_is_not_published(store: Store) -> None:
    gone = Descriptor(media_type="application/octet-stream", digest=digest_bytes(b"gone"), size=4)
    index = store.put_json(make_index((gone,)), INDEX_TYPE)

    with pytest.raises(BlobMissingError, match=gone.digest):
        store.publish("churn:1.0.0", index)

    assert store.refs() == ()


def test_a_bad_reference_is_refused_before_anything_is_written(store: Store) -> None:
    with pytest.raises(RefInvalidError):
        store.publish("churn", Descriptor(media_type=INDEX_TYPE, digest=digest_bytes(b""), size=0))

    assert not store.root.exists()


def test_a_deleted_reference_is_gone_and_its_twin_stays(store: Store) -> None:
    index = put_bundle(store, "x", "churn:1.0.0")
    store.publish("churn:stable", index)

    gone = store.delete("churn:1.0.0")

    assert gone.digest == index.digest
    assert names(store) == {"churn:stable": index.digest}
    require_whole(store)
    with pytest.raises(RefNotFoundError):
        store.delete("churn:1.0.0")


def test_a_deleted_version_can_be_published_anew(store: Store) -> None:
    put_bundle(store, "x", "churn:1.0.0")
    store.delete("churn:1.0.0")

    index = put_bundle(store, "y", "churn:1.0.0")

    assert names(store) == {"churn:1.0.0": index.digest}


def test_entries_of_other_tools_survive_publishing_and_deleting(store: Store) -> None:
    index = put_bundle(store, "x", "churn:1.0.0")
    foreign = Descriptor(
        media_type=index.media_type, digest=index.digest, size=index.size, annotations={REF_NAME: "latest", "k": "v"}
    )
    store.layout.write_index([*store.entries(), foreign])

    put_bundle(store, "y", "churn:2.0.0")
    store.delete("churn:1.0.0")

    assert foreign in store.entries()


def damage(store: Store, digest: Digest, data: bytes) -> Path:
    path = store.blob(digest)
    path.chmod(0o644)
    path.write_bytes(data)
    return path


def test_a_flipped_bit_is_detected_and_both_digests_are_named(store: Store) -> None:
    digest = store.put_bytes(b"hello").digest
    path = damage(store, digest, b"jello")

    with pytest.raises(BlobCorruptError) as caught:
        store.read(digest)

    assert f"got {digest_bytes(b'jello')}, expected {digest}" in caught.value.message
    assert str(path) in caught.value.message
    assert "remove that file" in str(caught.value.hint)
    assert caught.value.code == "blob_corrupt"
    with pytest.raises(BlobCorruptError, match="corrupt"):
        store.verify_blob(digest)


def test_a_truncated_blob_is_called_truncated(store: Store) -> None:
    index = put_bundle(store, "x", "churn:1.0.0")
    layer = next(each for each in store.walk(index) if each.media_type.endswith(".tar"))
    damage(store, layer.digest, store.blob(layer.digest).read_bytes()[:-1])

    with pytest.raises(BlobCorruptError, match=f"truncated: got {layer.size - 1} bytes, expected {layer.size} bytes"):
        list(store.walk(index))
    with pytest.raises(BlobCorruptError, match="truncated"):
        store.verify_blob(layer.digest, size=layer.size)


def test_building_again_after_removing_a_damaged_blob_heals_the_store(store: Store) -> None:
    index = put_bundle(store, "x", "churn:1.0.0")
    for each in list(store.walk(index)):
        damage(store, each.digest, b"rubbish")

    again = put_bundle(store, "x", "churn:1.0.0")

    assert again == index
    require_whole(store)


def test_a_missing_blob_is_named(store: Store) -> None:
    with pytest.raises(BlobMissingError, match=digest_bytes(b"no")) as caught:
        store.read(digest_bytes(b"no"))

    assert caught.value.code == "blob_missing"


def test_a_path_is_no_digest(store: Store) -> None:
    with pytest.raises(UsageError, match="not a digest"):
        store.blob(Digest("sha256:../../etc/passwd"))


def test_a_document_that_is_too_long_is_not_read_into_memory(store: Store) -> None:
    digest = store.put_bytes(bytes(2000)).digest

    with pytest.raises(BlobTooLongError, match="at most 1000 bytes"):
        store.read(digest, max_bytes=1000)


def test_nesting_without_end_is_refused(store: Store) -> None:
    index = store.put_json(make_index(()), INDEX_TYPE)
    for _ in range(9):
        index = store.put_json(make_index((index,)), INDEX_TYPE)

    with pytest.raises(JsonError, match="nests deeper than 8"):
        list(store.walk(index))


def test_each_blob_is_walked_once(store: Store) -> None:
    index = put_bundle(store, "x")
    manifest = next(each for each in store.walk(index) if each.digest != index.digest)
    twice = store.put_json(make_index((manifest, manifest)), INDEX_TYPE)

    walked = [each.digest for each in store.walk(twice)]

    assert len(walked) == len(set(walked)) == 4


def test_progress_of_verifying_counts_every_byte(store: Store) -> None:
    digest = store.put_bytes(bytes(5_000_000)).digest
    progress = Recorder()

    store.verify_blob(digest, progress=progress)

    assert progress.bytes == 5_000_000


def test_a_damaged_index_is_an_error_and_never_an_empty_store(store: Store) -> None:
    put_bundle(store, "x", "churn:1.0.0")
    store.layout.index.write_bytes(b'{"schemaVersion":2,"manifests":[],"manifests":[]}')

    with pytest.raises(JsonError, match="duplicate key"):
        store.refs()
    with pytest.raises(JsonError, match="duplicate key"):
        put_bundle(store, "y", "churn:2.0.0")
    with pytest.raises(JsonError, match="duplicate key"):
        store.gc()


def test_a_layout_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "oci-layout").write_bytes(canonical_json({"imageLayoutVersion": "2.0.0"}))

    with pytest.raises(StoreInvalidError, match=r"version '2\.0\.0', expected '1\.0\.0'"):
        Store.open(tmp_path)


def test_a_folder_with_other_files_is_not_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_bytes(b"")

    with pytest.raises(StoreInvalidError, match=r"thesis\.doc"):
        Store.open(tmp_path).put_bytes(b"x")

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_file_in_the_place_of_the_store_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")

    with pytest.raises(StoreInvalidError, match="is a file, expected a folder"):
        Store.open(tmp_path / "store").put_bytes(b"x")


def test_an_error_of_the_caller_inside_a_lease_stays_what_it_is(store: Store) -> None:
    with pytest.raises(FileNotFoundError), store.lease():
        Path("/nowhere/at/all").read_bytes()
