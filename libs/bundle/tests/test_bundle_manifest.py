"""`slipway.json`: one byte form, strict reading, and a content digest that covers what it should and nothing else."""

import hashlib
import json
import re
from pathlib import Path

import msgspec
import pytest
from bundle_fakes import Shelf
from msgspec.structs import replace

from slipway_bundle.canonical import canonical_json
from slipway_bundle.digest import Digest
from slipway_bundle.errors import ManifestError, ManifestVersionError
from slipway_bundle.identity import content_digest, content_listing, default_version
from slipway_bundle.manifest import Dataset, Lineage, Manifest, Source, encode_manifest
from slipway_bundle.manifest_reader import decode_manifest
from slipway_bundle.store_errors import JsonError
from slipway_bundle.stored import read_bundle

SPEC = Path(__file__).parents[3] / "docs" / "bundle-v1.md"


@pytest.fixture
def manifest(shelf: Shelf) -> Manifest:
    return read_bundle(shelf.store, shelf.built.ref).manifest


def changed(manifest: Manifest, **fields: object) -> bytes:
    raw = msgspec.to_builtins(manifest) | fields
    return canonical_json(raw)


def with_attachment(manifest: Manifest, name: str) -> Manifest:
    other = "sha256:" + "1" * 64
    items = (replace(item, digest=other) if item.name == name else item for item in manifest.attachments)
    return replace(manifest, attachments=tuple(items))


def test_a_manifest_survives_writing_and_reading(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_a_manifest_is_canonical_json_with_camel_case_names(manifest: Manifest) -> None:
    data = encode_manifest(manifest)

    assert data == canonical_json(json.loads(data))
    assert {"schemaVersion", "contentDigest"} <= json.loads(data).keys()
    assert b":null" not in data


@pytest.mark.parametrize(("version", "hint"), [("2.0", "newer slipway"), ("0.9", "build the bundle again")])
def test_an_unknown_major_version_is_refused_with_its_own_error(manifest: Manifest, version: str, hint: str) -> None:
    with pytest.raises(ManifestVersionError, match="this slipway reads 1") as caught:
        decode_manifest(changed(manifest, schemaVersion=version))

    assert caught.value.code == "manifest_version"
    assert hint in (caught.value.hint or "")


def test_an_unknown_major_version_is_refused_before_anything_else_is_read() -> None:
    with pytest.raises(ManifestVersionError):
        decode_manifest(canonical_json({"schemaVersion": "9.0", "all": "different"}))


def test_a_newer_minor_version_may_have_fields_that_are_not_known(manifest: Manifest) -> None:
    data = changed(manifest, schemaVersion="1.7", reference={"profile": "x"})

    assert decode_manifest(data).name == manifest.name


def test_a_known_version_may_not_have_fields_that_are_not_known(manifest: Manifest) -> None:
    with pytest.raises(ManifestError, match="unknown field `licence`") as caught:
        decode_manifest(changed(manifest, licence="MIT"))

    assert caught.value.hint == "did you mean `licenses`?"


def test_a_duplicate_key_is_refused(manifest: Manifest) -> None:
    data = encode_manifest(manifest)
    twice = data.replace(b'"name":"tiny"', b'"name":"tiny","name":"tiny"', 1)

    with pytest.raises(JsonError, match="duplicate key 'name'"):
        decode_manifest(twice)


@pytest.mark.parametrize("bad", [b"NaN", b"1e999", b"123456789012345678901234567890"])
def test_numbers_that_two_readers_read_differently_are_refused(manifest: Manifest, bad: bytes) -> None:
    data = encode_manifest(manifest).replace(b'"rmse":0.25', b'"rmse":' + bad)

    with pytest.raises(JsonError):
        decode_manifest(data)


def test_a_manifest_that_is_not_canonical_is_refused(manifest: Manifest) -> None:
    with pytest.raises(ManifestError, match="canonical form"):
        decode_manifest(encode_manifest(manifest).replace(b",", b", ", 1))


def test_a_default_value_that_is_spelled_out_is_refused(manifest: Manifest) -> None:
    with pytest.raises(ManifestError, match="default value"):
        decode_manifest(changed(manifest, owners=[]))


def test_a_manifest_over_four_mebibytes_is_refused() -> None:
    with pytest.raises(JsonError, match="too long"):
        decode_manifest(b" " * (4 * 1024 * 1024 + 1))


@pytest.mark.parametrize("document", [b"[]", b"{}", b'{"schemaVersion":1}', b'{"schemaVersion":"01.0"}', b"no"])
def test_a_document_that_is_no_manifest_is_refused(document: bytes) -> None:
    with pytest.raises((ManifestError, JsonError)):
        decode_manifest(document)


def test_a_wrong_field_is_named(manifest: Manifest) -> None:
    with pytest.raises(ManifestError, match=r"\$\.name"):
        decode_manifest(changed(manifest, name=3))


@pytest.mark.parametrize("path", ["../escape.py", "/absolute.py", "a//b.py", "a\\b.py"])
def test_a_path_that_leaves_the_bundle_is_refused(manifest: Manifest, path: str) -> None:
    files = (replace(manifest.files[0], path=path),)

    with pytest.raises(ManifestError, match="not relative and plain"):
        decode_manifest(encode_manifest(replace(manifest, files=files)))


def test_lists_are_sorted_so_that_there_is_one_way_to_write_them(manifest: Manifest) -> None:
    backwards = replace(manifest, files=tuple(reversed(manifest.files)))

    with pytest.raises(ManifestError, match="not sorted"):
        decode_manifest(encode_manifest(backwards))


def test_a_content_digest_that_does_not_follow_is_refused(manifest: Manifest) -> None:
    forged = replace(manifest, service=replace(manifest.service, entry="other.service:service"))

    with pytest.raises(ManifestError, match="`contentDigest` does not match") as caught:
        decode_manifest(encode_manifest(forged))

    assert caught.value.fields["expected"] == content_digest(forged)


def test_what_changes_answers_changes_the_content_digest(manifest: Manifest) -> None:
    before = content_digest(manifest)
    model, code = manifest.models[0], manifest.files[0]
    variants = [
        replace(manifest, models=(replace(model, format="onnx"), *manifest.models[1:])),
        replace(manifest, models=(replace(model, outputs={"value": "margin"}),)),
        replace(manifest, models=(replace(model, columns=("y", "x")),)),
        replace(manifest, models=(replace(model, categories={"x": ("a", "b")}),)),
        replace(manifest, models=(replace(model, files=(replace(model.files[0], sha256="0" * 64),)),)),
        replace(manifest, files=(replace(code, mode="0755"), *manifest.files[1:])),
        replace(manifest, files=(replace(code, path="src/other.py"), *manifest.files[1:])),
        replace(manifest, service=replace(manifest.service, entry="a.b:c")),
        *(with_attachment(manifest, name) for name in ("golden", "schema", "environment-lock")),
    ]

    digests = {content_digest(variant) for variant in variants}

    assert len(digests) == len(variants)
    assert before not in digests


def test_where_and_when_it_was_built_does_not_change_the_content_digest(manifest: Manifest) -> None:
    elsewhere = replace(
        manifest,
        name="other",
        version="9",
        created="2020-01-01T00:00:00Z",
        source=Source(commit="0" * 40),
        lineage=Lineage(metrics={"auc": 0.5}, datasets=(Dataset(uri="x", digest="sha256:" + "0" * 64),)),
        licenses=("MIT",),
        owners=("me",),
        labels={"a": "b"},
        builder=replace(manifest.builder, version="9"),
        attachments=tuple(item for item in manifest.attachments if item.name != "runtime"),
        models=(replace(manifest.models[0], files=(replace(manifest.models[0].files[0], offset=4096),)),),
    )

    assert content_digest(elsewhere) == content_digest(manifest)


def test_the_worked_example_of_the_specification_is_right() -> None:
    text = SPEC.read_text(encoding="utf-8")
    config = re.search(r"<!-- config -->\n```json\n(.*?)\n```", text, re.DOTALL)
    listing = re.search(r"<!-- listing -->\n```text\n(.*?)```", text, re.DOTALL)
    document = re.search(r"<!-- manifest -->\n```json\n(.*?)\n```", text, re.DOTALL)
    assert config
    assert listing
    assert document
    manifest = msgspec.json.decode(document[1], type=Manifest)

    computed = content_listing(manifest)

    assert computed.decode() == listing[1]
    assert hashlib.sha256(config[1].encode()).hexdigest() in listing[1]
    assert manifest.content_digest == content_digest(manifest)
    assert decode_manifest(encode_manifest(manifest)) == manifest


@pytest.mark.parametrize(
    ("source", "version"),
    [
        (None, "c-abcdefabcdef"),
        (Source(commit="1234567890" * 4), "g1234567-abcdefabcdef"),
        (Source(commit="1234567890" * 4, dirty=True), "g1234567-abcdefabcdef-dirty"),
    ],
)
def test_the_default_version_says_commit_and_content(source: Source | None, version: str) -> None:
    assert default_version(source, Digest("sha256:" + ("abcdef" * 11)[:64])) == version
