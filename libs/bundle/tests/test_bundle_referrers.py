"""Referrers in a store: they come with their bundle, go with it, and never change it."""

import signal
from pathlib import Path

import pytest
from store_fakes import in_child, kill_at, put_bundle, require_tidy, require_whole

from slipway_bundle.digest import digest_bytes
from slipway_bundle.errors import IntegrityError
from slipway_bundle.oci import EMPTY_TYPE, INDEX_TYPE, Descriptor, ImageManifest
from slipway_bundle.referrers import ReferrerError, attach, referrers
from slipway_bundle.store import Store
from slipway_bundle.store_errors import BlobMissingError

NOTE = "application/vnd.example.note+json"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store", lock_timeout_s=0.05)


def note(store: Store, subject: Descriptor, text: str = "fine", artifact_type: str = NOTE) -> Descriptor:
    return attach(
        store,
        subject,
        artifact_type=artifact_type,
        blobs=[(text.encode(), "text/plain")],
        annotations={"org.example.by": "ann"},
    )


def test_a_referrer_is_found_by_its_subject_as_a_registry_would_list_it(store: Store) -> None:
    bundle, other = put_bundle(store, "x", "churn:1"), put_bundle(store, "y", "churn:2")
    second = note(store, bundle, artifact_type="b/b")
    first = note(store, bundle, artifact_type="a/a")
    note(store, other)

    found = referrers(store, bundle.digest)

    assert found == (first, second)
    assert [(each.artifact_type, each.annotations) for each in found] == [
        ("a/a", {"org.example.by": "ann"}),
        ("b/b", {"org.example.by": "ann"}),
    ]
    assert referrers(store, bundle.digest, artifact_type="b/b") == (second,)
    document = store.read_json(first.digest, ImageManifest)
    assert document.config.media_type == EMPTY_TYPE
    assert store.read(document.config.digest) == b"{}"
    assert document.subject == Descriptor(media_type=INDEX_TYPE, digest=bundle.digest, size=bundle.size)
    assert [ref.text for ref in store.refs()] == ["churn:1", "churn:2"]


def test_attaching_the_same_again_changes_nothing(store: Store) -> None:
    bundle = put_bundle(store, "x", "churn:1")
    first = note(store, bundle)
    before = store.layout.index.read_bytes()

    assert note(store, bundle) == first
    assert store.layout.index.read_bytes() == before
    assert store.attach_descriptor(first) is False


def test_a_collection_keeps_referrers_of_what_stays_and_drops_those_of_what_goes(store: Store) -> None:
    kept_bundle, gone_bundle = put_bundle(store, "x", "churn:1"), put_bundle(store, "y", "churn:2")
    kept, gone = note(store, kept_bundle), note(store, gone_bundle, "of the other")
    about_kept, about_gone = note(store, kept, "a note on a note"), note(store, gone, "this one goes too")
    store.delete("churn:2")

    forecast = store.gc(dry_run=True)
    assert referrers(store, gone_bundle.digest) == (gone,)
    report = store.gc()

    assert forecast.removed == report.removed
    assert {gone.digest, about_gone.digest, gone_bundle.digest} <= set(report.removed)
    assert referrers(store, kept_bundle.digest) == (kept,)
    assert referrers(store, kept.digest) == (about_kept,)
    assert referrers(store, gone_bundle.digest) == ()
    assert store.gc().removed == ()
    require_whole(store)
    require_tidy(store)


def test_a_pin_keeps_the_referrers_of_what_it_pins(store: Store) -> None:
    bundle = put_bundle(store, "x", "churn:1")
    kept = note(store, bundle)
    with store.pin(bundle):
        store.delete("churn:1")
        store.gc()

        assert referrers(store, bundle.digest) == (kept,)

    store.gc()
    assert referrers(store, bundle.digest) == ()


def test_a_referrer_needs_its_subject_and_its_blobs(store: Store) -> None:
    absent = Descriptor(media_type=INDEX_TYPE, digest=digest_bytes(b"nowhere"), size=7)
    with pytest.raises(BlobMissingError):
        note(store, absent)
    assert store.entries() == ()

    bundle = put_bundle(store, "x", "churn:1")
    image = next(each for each in store.walk(bundle) if each.media_type.endswith("manifest.v1+json"))
    with pytest.raises(ReferrerError, match="no `subject`"):
        store.attach_descriptor(image)
    with pytest.raises(ReferrerError, match="index"):
        store.attach_descriptor(bundle)


def test_a_listing_that_says_another_subject_than_the_manifest_is_not_believed(store: Store) -> None:
    bundle, other = put_bundle(store, "x", "churn:1"), put_bundle(store, "y", "churn:2")
    note(store, other)
    path = store.layout.index
    path.write_bytes(
        path.read_bytes().replace(f'subject":"{other.digest}'.encode(), f'subject":"{bundle.digest}'.encode())
    )

    assert referrers(store, bundle.digest) == ()


def test_a_damaged_referrer_is_an_error_and_not_none(store: Store) -> None:
    bundle = put_bundle(store, "x", "churn:1")
    listed = note(store, bundle)
    store.blob(listed.digest).unlink()

    with pytest.raises(IntegrityError):
        referrers(store, bundle.digest)
    with pytest.raises(IntegrityError):
        store.gc()


def test_killed_at_any_point_a_referrer_is_listed_whole_or_not_at_all(store: Store) -> None:
    bundle = put_bundle(store, "x", "churn:1")
    outcomes = set()

    def die_at(step: int) -> None:
        kill_at(step)
        note(store, bundle, f"note {step}")

    for step in range(1, 200):
        before = len(referrers(store, bundle.digest))
        status = in_child(lambda step=step: die_at(step))  # type: ignore[misc]  # bound now, not at the end
        after = referrers(store, bundle.digest)
        outcomes.add((status, len(after) - before))
        for listed in after:
            for each in store.walk(listed):
                store.verify_blob(each.digest, size=each.size)
        if status == 0:
            break
    assert outcomes == {(-signal.SIGKILL, 0), (-signal.SIGKILL, 1), (0, 1)}
    store.gc()
    require_tidy(store)


def test_a_collection_that_is_killed_leaves_a_store_that_can_be_collected(store: Store) -> None:
    kept_bundle = put_bundle(store, "x", "churn:1")
    kept = note(store, kept_bundle)

    def die_at(step: int) -> None:
        kill_at(step)
        store.gc()

    for step in range(1, 200):
        note(store, put_bundle(store, "y", "churn:2"))
        store.delete("churn:2")
        if in_child(lambda step=step: die_at(step)) == 0:  # type: ignore[misc]
            break
        store.gc()
        assert referrers(store, kept_bundle.digest) == (kept,)
        require_tidy(store)
    else:
        pytest.fail("no collection came to its end")
