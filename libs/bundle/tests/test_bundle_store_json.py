"""Digests, canonical JSON and the strict reader."""

import io
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_bundle.canonical import MAX_JSON_BYTES, canonical_json, decode_json
from slipway_bundle.digest import digest_bytes, digest_chunks, digest_file, is_digest, parse_digest
from slipway_bundle.errors import UsageError
from slipway_bundle.oci import Descriptor, ImageIndex, Platform, make_index
from slipway_bundle.store_errors import JsonError

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

SAFE = 2**53 - 1
numbers = st.integers(-SAFE, SAFE) | st.floats(-SAFE, SAFE) | st.floats(1e21, allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


def test_a_digest_is_the_same_from_bytes_chunks_and_file(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "f").write_bytes(data)

    whole = digest_bytes(data)

    assert digest_file(tmp_path / "f") == (whole, len(data))
    assert digest_chunks(iter(io.BytesIO(data).readlines())) == whole
    assert digest_bytes(b"") == EMPTY


@pytest.mark.parametrize(
    "text", ["", "sha256:", EMPTY.upper(), EMPTY + "0", EMPTY + "\n", EMPTY[7:], "sha512:" + "0" * 128]
)
def test_only_one_spelling_of_a_digest_is_accepted(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(UsageError, match="not a digest"):
        parse_digest(text)


@given(documents)
def test_canonical_json_reads_back_and_is_stable(document: object) -> None:
    written = canonical_json(document)

    read = decode_json(written, object, what="it")

    assert canonical_json(read) == written


def test_key_order_never_changes_the_bytes() -> None:
    assert canonical_json({"b": 1, "a": {"z": [], "é": "é"}}) == canonical_json({"a": {"é": "é", "z": []}, "b": 1})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":1,"a":1}', "duplicate key 'a'"),
        (b'{"x":{"a":1,"a":2}}', "duplicate key 'a'"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "too large for a float"),
        (b"[9007199254740992]", "beyond 2"),
        (b"[" + b"9" * 5000 + b"]", "integer of 5000 characters"),
        (b"[" * 100_000, "nested too deeply"),
        (b'"\xff"', "utf-8"),
        ('{"a":1}'.encode("utf-16"), "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'["\\ud800"]', "surrogate"),
        (b"{} {}", "Extra data"),
        (b"", "Expecting value"),
        (b"[1,]", "Expecting value"),
    ],
)
def test_json_that_two_parsers_could_read_differently_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(JsonError, match="manifest x is not strict JSON") as caught:
        decode_json(data, object, what="manifest x")

    assert reason in str(caught.value)
    assert caught.value.code == "json_invalid"


def test_a_document_longer_than_a_registry_takes_is_refused_unparsed() -> None:
    with pytest.raises(JsonError, match=f"got {MAX_JSON_BYTES + 1} bytes, expected at most {MAX_JSON_BYTES}"):
        decode_json(b"!" * (MAX_JSON_BYTES + 1), object, what="it")


def test_a_wrong_shape_names_the_path() -> None:
    with pytest.raises(JsonError, match=r"\$\.manifests\[0\]\.digest"):
        decode_json(
            b'{"schemaVersion":2,"manifests":[{"mediaType":"x","size":1,"digest":"md5:1"}]}', ImageIndex, what="it"
        )


def test_nan_cannot_be_written() -> None:
    with pytest.raises(JsonError, match="canonical"):
        canonical_json({"loss": float("nan")})


def test_a_float_that_would_be_written_as_a_huge_integer_is_refused() -> None:
    with pytest.raises(JsonError, match="beyond 2"):
        canonical_json({"rows": 1e18})


def test_oci_documents_keep_every_field_and_accept_newer_ones() -> None:
    platform = Platform(architecture="arm64", os="linux", os_version="1", os_features=("a",), variant="v8")
    child = Descriptor(media_type="m", digest=digest_bytes(b""), size=0, platform=platform, annotations={"a": "b"})
    index = make_index((child,), artifact_type="t", annotations={"k": "v"})
    wire = msgspec.json.decode(canonical_json(index))

    wire["invented-in-2030"] = {"x": 1}

    assert decode_json(canonical_json(wire), ImageIndex, what="it") == index
    assert wire["schemaVersion"] == 2
    assert wire["manifests"][0]["platform"]["os.version"] == "1"
