"""References: which bundle a name means."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_fakes import put_bundle

from slipway_bundle.digest import digest_bytes
from slipway_bundle.oci import INDEX_TYPE, REF_NAME, Descriptor
from slipway_bundle.references import NAME_PATTERN, VERSION_PATTERN, find, refs_of, split_ref
from slipway_bundle.store import Store
from slipway_bundle.store_errors import RefAmbiguousError, RefInvalidError, RefNotFoundError


def entry(ref: str, content: bytes) -> Descriptor:
    return Descriptor(media_type=INDEX_TYPE, digest=digest_bytes(content), size=1, annotations={REF_NAME: ref})


REFS = refs_of([entry("churn:1.0.0", b"a"), entry("churn:1.1.0", b"b"), entry("team/documents:g1f3a", b"c")])


@given(st.from_regex(NAME_PATTERN, fullmatch=True), st.from_regex(VERSION_PATTERN, fullmatch=True))
def test_every_allowed_name_and_version_is_split_again(name: str, version: str) -> None:
    if len(name) <= 255 and len(version) <= 128:
        assert split_ref(f"{name}:{version}") == (name, version)


@pytest.mark.parametrize(
    "text",
    [
        "churn",
        "Churn:1",
        "churn:",
        ":1",
        "churn:_1",
        "churn:1 ",
        "churn:1\n",
        "churn:a/b",
        "a//b:1",
        "/a:1",
        "a..b:1",
        "churn:sha256-abc",
        "churn:alias-prod",
        "churn:1:2",
        "../x:1",
        "churn:" + "1" * 129,
        "n" * 256 + ":1",
    ],
)
def test_a_reference_that_registries_or_skopeo_refuse_is_refused(text: str) -> None:
    with pytest.raises(RefInvalidError):
        split_ref(text)


def test_a_version_is_found_by_its_full_name_only() -> None:
    assert find("churn:1.1.0", REFS).digest == digest_bytes(b"b")
    with pytest.raises(RefNotFoundError):
        find("churn:1", REFS)


def test_a_bare_name_means_its_only_version_and_never_the_latest() -> None:
    assert find("team/documents", REFS).version == "g1f3a"
    with pytest.raises(RefAmbiguousError, match=r"fits 2 versions: 1\.0\.0, 1\.1\.0"):
        find("churn", REFS)


def test_a_digest_finds_its_bundle_in_each_of_its_forms() -> None:
    digest = digest_bytes(b"c")

    for text in (
        digest,
        digest[7:],
        digest[7:19],
        digest[:19],
        f"team/documents@{digest}",
        f"team/documents:x@{digest}",
    ):
        assert find(text, REFS).text == "team/documents:g1f3a"


def test_a_digest_under_another_name_is_not_found() -> None:
    with pytest.raises(RefNotFoundError):
        find(f"churn@{digest_bytes(b'c')}", REFS)


def test_eleven_digits_are_not_enough() -> None:
    with pytest.raises(RefNotFoundError):
        find(digest_bytes(b"c")[7:18], REFS)


def test_a_short_digest_of_two_bundles_is_ambiguous() -> None:
    twins = [
        Descriptor(media_type=INDEX_TYPE, digest=digest_bytes(b""), size=1, annotations={REF_NAME: "a:1"}),
        entry("b:1", b"x"),
    ]
    near = digest_bytes(b"")[:30] + "0" * 41
    twins[1] = Descriptor(media_type=INDEX_TYPE, digest=near, size=1, annotations={REF_NAME: "b:1"})  # type: ignore[arg-type]  # made up

    with pytest.raises(RefAmbiguousError, match="give more digits"):
        find(digest_bytes(b"")[7:19], refs_of(twins))


def test_two_names_of_one_bundle_are_not_ambiguous() -> None:
    refs = refs_of([entry("a:1", b"x"), entry("b:1", b"x")])

    assert find(digest_bytes(b"x")[7:19], refs).text == "a:1"


def test_a_typo_gets_the_nearest_names() -> None:
    with pytest.raises(RefNotFoundError) as caught:
        find("chrun:1.0.0", REFS)

    assert "'churn:1.0.0'" in str(caught.value.hint)


def test_entries_of_other_tools_are_passed_over() -> None:
    foreign = Descriptor(media_type=INDEX_TYPE, digest=digest_bytes(b"z"), size=1)

    assert refs_of([foreign, entry("latest", b"q"), entry("churn:1", b"a")])[0].text == "churn:1"


def test_the_store_resolves_what_it_published(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    index = put_bundle(store, "x", "churn:1.0.0")

    assert store.resolve("churn") == store.resolve("churn:1.0.0") == index.digest


def test_an_empty_store_says_so_without_making_a_folder(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")

    with pytest.raises(RefNotFoundError, match="which has 0"):
        store.resolve("churn:1.0.0")

    assert list(tmp_path.iterdir()) == []
