"""Differences between two bundles, as data."""

from pathlib import Path

import pytest
from bundle_fakes import edit
from msgspec.structs import replace

from slipway_bundle.build import Built, build
from slipway_bundle.diff import Change, diff_bundles, diff_manifests
from slipway_bundle.manifest import Source
from slipway_bundle.store import Store
from slipway_bundle.stored import read_bundle


@pytest.fixture
def first(folder: Path, store: Store) -> Built:
    return build(folder, store, environ={})


def test_a_bundle_does_not_differ_from_itself(first: Built, store: Store) -> None:
    diff = diff_bundles(store, first.ref, first.digest)

    assert diff.is_same_bundle
    assert diff.is_same_content
    assert diff.changes == ()
    assert diff.shared_bytes == diff.size_before_bytes == diff.size_after_bytes > 0


def test_a_change_of_code_is_a_change_of_code_only(folder: Path, store: Store, first: Built) -> None:
    edit(folder / "src/tiny_service/service.py", "A service for tests", "A better service for tests")
    (folder / "src/tiny_service/run.sh").unlink()

    second = build(folder, store, environ={})

    diff = diff_bundles(store, first.ref, second.ref)
    assert not diff.is_same_content
    assert [(change.area, change.name) for change in diff.changes] == [
        ("code", "src/tiny_service/run.sh"), ("code", "src/tiny_service/service.py")
    ]  # fmt: skip
    assert diff.changes[0].after is None
    assert 0 < diff.shared_bytes < diff.size_after_bytes


def test_tuning_is_a_change_of_one_attachment_with_the_same_content(folder: Path, store: Store, first: Built) -> None:
    edit(folder / "slipway.toml", "port = 9000", "port = 9001")

    second = build(folder, store, environ={})

    diff = diff_bundles(store, first.ref, second.ref)
    assert diff.is_same_content
    assert not diff.is_same_bundle
    assert [(change.area, change.name) for change in diff.changes] == [("attachment", "runtime")]


def test_metrics_schema_packages_and_commit_are_named(first: Built, store: Store) -> None:
    before = read_bundle(store, first.ref).manifest
    assert before.lineage is not None
    model, environment = before.models[0], before.environment
    after = replace(
        before,
        lineage=replace(before.lineage, metrics={"rmse": 0.5, "mae": 1.0}),
        environment=replace(environment, python=">=3.12", packages=(replace(environment.packages[0], version="9"),)),
        models=(replace(model, schema=replace(model.schema, inputs=model.schema.inputs[1:])),),
        source=Source(commit="0" * 40, dirty=True),
    )

    changes = diff_manifests(before, after)

    numpy = environment.packages[0].version
    assert changes == (
        Change(area="schema", name="tiny.input.x", before="FP32[]", after=None),
        Change(area="package", name="numpy", before=numpy, after="9"),
        Change(area="package", name="python", before=">=3.11", after=">=3.12"),
        Change(area="metric", name="mae", before=None, after="1"),
        Change(area="metric", name="rmse", before="0.25", after="0.5"),
        Change(area="source", name="commit", before=None, after="000000000000 (dirty)"),
    )
