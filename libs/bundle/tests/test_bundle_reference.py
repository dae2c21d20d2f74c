"""Reference profiles in a bundle: carried byte for byte, judged by others, no part of the content digest."""

import json
from pathlib import Path

import pytest
from bundle_fakes import edit

from slipway_bundle.build import build
from slipway_bundle.errors import ConfigError, IntegrityError
from slipway_bundle.reference_profiles import decode_references, encode_references
from slipway_bundle.schema import ModelSchema
from slipway_bundle.store import Store
from slipway_bundle.store_errors import JsonError
from slipway_bundle.stored import read_bundle
from slipway_bundle.verify import verify
from slipway_bundle.view import open_bundle, open_folder

PROFILE = b'{"model":"tiny","rows":3,"large":1e18}\n'


@pytest.fixture
def profiled(folder: Path) -> Path:
    """A service folder whose model names a profile."""
    edit(folder / "slipway.toml", 'format = "xgboost"', 'format = "xgboost"\nreference = "model/reference.json"')
    (folder / "model" / "reference.json").write_bytes(PROFILE)
    return folder


def test_a_profile_travels_byte_for_byte_and_serving_reads_the_same_from_both(profiled: Path, store: Store) -> None:
    built = build(profiled, store, environ={})

    attached = read_bundle(store, built.ref).manifest.attachment("reference-profile")
    assert attached is not None
    assert attached.media_type == "application/vnd.slipway.reference.v1+json"
    assert open_bundle(store, built.ref).references == {"tiny": PROFILE.strip()}
    assert open_folder(profiled).references == {"tiny": PROFILE}


def test_a_profile_leaves_the_content_digest_as_it_is(profiled: Path, store: Store) -> None:
    with_profile = build(profiled, store, environ={})
    (profiled / "model" / "reference.json").write_bytes(PROFILE.replace(b"3", b"4"))
    with_another = build(profiled, store, environ={})
    edit(profiled / "slipway.toml", 'reference = "model/reference.json"', "")

    without = build(profiled, store, environ={})

    assert with_profile.content_digest == with_another.content_digest == without.content_digest
    assert len({with_profile.digest, with_another.digest, without.digest}) == 3
    assert open_bundle(store, without.ref).references == {}


def test_the_same_profile_gives_the_same_bundle(profiled: Path, store: Store) -> None:
    first = build(profiled, store, environ={})

    again = build(profiled, store, environ={})

    assert (again.digest, again.is_new) == (first.digest, False)


def test_a_profile_that_its_judge_refuses_is_not_packed(profiled: Path, store: Store) -> None:
    seen: list[tuple[str, bytes, list[str]]] = []

    def judge(model: str, data: bytes, schema: ModelSchema) -> None:
        seen.append((model, data, [spec.name for spec in schema.inputs]))
        raise IntegrityError("not this one")

    with pytest.raises(IntegrityError, match="not this one"):
        build(profiled, store, environ={}, judge_reference=judge)

    assert seen == [("tiny", PROFILE, ["x", "y"])]
    assert not list(store.refs())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "names a file that is not there: 'model/reference.json'"),
        (b"[1]", "Expected `object`"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": 1, "a": 2}', "duplicate key 'a'"),
        (b'{"a": "' + b"x" * 2**20 + b'"}', "too long"),
    ],
    ids=["missing", "a list", "NaN", "twice", "long"],
)
def test_what_is_no_profile_is_refused_before_anything_is_packed(
    profiled: Path, store: Store, content: bytes | None, said: str
) -> None:
    path = profiled / "model" / "reference.json"
    path.unlink() if content is None else path.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        build(profiled, store, environ={})

    assert said in caught.value.message
    assert not list(store.refs())


def test_a_profile_outside_the_folder_is_refused(profiled: Path, store: Store) -> None:
    edit(profiled / "slipway.toml", "model/reference.json", "../reference.json")

    with pytest.raises(ConfigError, match=r"bundle\.models\.tiny\.reference.*leaves the service folder"):
        build(profiled, store, environ={})


def test_verify_reads_the_profiles(profiled: Path, store: Store) -> None:
    built = build(profiled, store, environ={})

    report = verify(store, built.ref, is_replaying=False)

    step = next(step for step in report.steps if step.name == "attachments")
    assert report.is_valid
    assert "reference-profile" in step.detail


def test_the_attachment_comes_back_as_it_was_put_together() -> None:
    data = encode_references({"b": b'{"x":1e18}\n', "a": b"{}"})

    assert json.loads(data) == {"schemaVersion": "1.0", "models": {"a": {}, "b": {"x": 1e18}}}
    assert decode_references(data) == {"a": b"{}", "b": b'{"x":1e18}'}
    assert list(decode_references(data)) == ["a", "b"]
    with pytest.raises(JsonError, match="attachment reference-profile"):
        decode_references(b'{"models": []}')
