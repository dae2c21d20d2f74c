"""Verifying: every byte counts, each defect fails its own step, and a good bundle is called good."""

import shutil
from pathlib import Path

import pytest
from bundle_fakes import Shelf, edit
from msgspec.structs import replace

from slipway_bundle.assembly import Parts, put_bundle
from slipway_bundle.build import build
from slipway_bundle.digest import parse_digest
from slipway_bundle.errors import HostError
from slipway_bundle.extract import scan_layer
from slipway_bundle.identity import content_digest
from slipway_bundle.manifest import Manifest
from slipway_bundle.oci import LAYER_TYPE
from slipway_bundle.store import Store
from slipway_bundle.store_errors import RefNotFoundError
from slipway_bundle.stored import StoredBundle, read_bundle
from slipway_bundle.verify import VerifyReport, verify


@pytest.fixture
def copy(tmp_path: Path, shelf: Shelf) -> Store:
    """A store with the bundle, which may be damaged."""
    shutil.copytree(shelf.store.root, tmp_path / "copy", ignore=shutil.ignore_patterns("trees"))
    (tmp_path / "copy" / "slipway" / "trees").mkdir()
    return Store.open(tmp_path / "copy")


def failed(report: VerifyReport) -> tuple[str, str | None]:
    """Name and code of the one step that failed."""
    steps = [step for step in report.steps if step.status == "failed"]
    assert len(steps) == 1
    assert not report.is_valid
    assert {step.status for step in report.steps[steps[0].number :]} <= {"skipped"}
    return steps[0].name, steps[0].code


def damage(store: Store, digest: str, *, size: int | None = None) -> None:
    """Flips the last bit of a blob, or cuts it to `size`."""
    path = store.blob(parse_digest(digest))
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:size] if size is not None else data[:-1] + bytes([data[-1] ^ 1]))


def forge(store: Store, bundle: StoredBundle, manifest: Manifest) -> str:
    """Publishes a bundle whose documents are consistent and whose manifest is not that of its layers."""
    layers = bundle.layers()
    code = scan_layer(store, layers[manifest.service.layer])
    weights = tuple(
        scan_layer(store, replace(layers[digest], media_type=LAYER_TYPE))
        for digest in dict.fromkeys(file.layer for model in manifest.models for file in model.files)
    )
    attachments = {item.name: replace(layers[item.digest], annotations={}) for item in manifest.attachments}
    honest = replace(manifest, content_digest=content_digest(manifest))
    descriptor = put_bundle(store, honest, Parts(code=code, weights=weights, attachments=attachments))
    store.publish("forged:1", descriptor)
    return "forged:1"


def test_a_good_bundle_passes_every_numbered_step(shelf: Shelf) -> None:
    report = verify(shelf.store, shelf.built.ref)

    assert report.is_valid
    assert [step.name for step in report.steps] == [
        "documents", "blobs", "manifest", "layers", "attachments", "environment", "golden"
    ]  # fmt: skip
    assert [step.number for step in report.steps] == [1, 2, 3, 4, 5, 6, 7]
    assert {step.status for step in report.steps} == {"ok"}
    assert report.digest == shelf.built.digest
    assert report.content_digest == shelf.built.content_digest


def test_the_code_of_a_bundle_is_not_run_when_that_is_asked_for(shelf: Shelf) -> None:
    report = verify(shelf.store, shelf.built.ref, is_replaying=False)

    assert "golden" not in [step.name for step in report.steps]


def test_progress_adds_up_to_what_was_announced(shelf: Shelf) -> None:
    totals: list[int] = []
    counts: list[int] = []

    class Counter:
        def advance(self, count_bytes: int, /) -> None:
            counts.append(count_bytes)

    verify(
        shelf.store,
        shelf.built.ref,
        progress=Counter(),
        announce=lambda _, total: totals.append(total),
        is_replaying=False,
    )

    assert sum(counts) == sum(totals) > 0


def test_a_flipped_bit_in_any_blob_is_found(copy: Store, shelf: Shelf) -> None:
    bundle = read_bundle(copy, shelf.built.ref)
    reached = [item.digest for item in copy.walk(bundle.descriptor)]
    for digest in reached:
        path = copy.blob(parse_digest(digest))
        good = path.read_bytes()

        damage(copy, digest)

        assert not verify(copy, shelf.built.ref, is_replaying=False).is_valid
        path.write_bytes(good)
    assert verify(copy, shelf.built.ref, is_replaying=False).is_valid


def test_a_truncated_weights_blob_fails_before_any_code_runs(copy: Store, shelf: Shelf) -> None:
    weights = read_bundle(copy, shelf.built.ref).manifest.models[0].files[0].layer

    damage(copy, weights, size=1000)

    assert failed(verify(copy, shelf.built.ref)) == ("documents", "blob_corrupt")


def test_a_changed_weights_blob_is_corrupt(copy: Store, shelf: Shelf) -> None:
    weights = read_bundle(copy, shelf.built.ref).manifest.models[0].files[0].layer

    damage(copy, weights)

    assert failed(verify(copy, shelf.built.ref))[0] == "blobs"


def test_a_missing_blob_is_named(copy: Store, shelf: Shelf) -> None:
    golden = read_bundle(copy, shelf.built.ref).manifest.golden.digest
    copy.blob(parse_digest(golden)).unlink()

    report = verify(copy, shelf.built.ref)

    assert failed(report) == ("documents", "blob_missing")
    assert golden in report.steps[0].detail


def test_an_unknown_major_version_has_its_own_code(copy: Store, shelf: Shelf) -> None:
    bundle = read_bundle(copy, shelf.built.ref)

    ref = forge(copy, bundle, replace(bundle.manifest, schema_version="2.0"))

    assert failed(verify(copy, ref)) == ("manifest", "manifest_version")


def test_code_that_is_not_what_the_manifest_says_is_found(copy: Store, shelf: Shelf) -> None:
    bundle = read_bundle(copy, shelf.built.ref)
    files = (replace(bundle.manifest.files[0], sha256="0" * 64), *bundle.manifest.files[1:])

    ref = forge(copy, bundle, replace(bundle.manifest, files=files))

    assert failed(verify(copy, ref)) == ("layers", "manifest_invalid")


def test_code_that_the_manifest_does_not_know_is_found(copy: Store, shelf: Shelf) -> None:
    bundle = read_bundle(copy, shelf.built.ref)

    ref = forge(copy, bundle, replace(bundle.manifest, files=bundle.manifest.files[1:]))

    assert failed(verify(copy, ref)) == ("layers", "manifest_invalid")


@pytest.mark.parametrize("field", ["offset", "size", "sha256", "path"])
def test_weights_that_are_not_where_the_manifest_says_are_found(copy: Store, shelf: Shelf, field: str) -> None:
    bundle = read_bundle(copy, shelf.built.ref)
    model = bundle.manifest.models[0]
    wrong = {"offset": 0, "size": 1, "sha256": "0" * 64, "path": "other.ubj"}[field]
    models = (replace(model, files=(replace(model.files[0], **{field: wrong}),)),)

    ref = forge(copy, bundle, replace(bundle.manifest, models=models))

    assert failed(verify(copy, ref)) == ("layers", "manifest_invalid")


def test_a_wrong_count_of_golden_examples_is_found(copy: Store, shelf: Shelf) -> None:
    bundle = read_bundle(copy, shelf.built.ref)

    ref = forge(copy, bundle, replace(bundle.manifest, golden=replace(bundle.manifest.golden, examples=3)))

    assert failed(verify(copy, ref)) == ("attachments", "manifest_invalid")


def test_an_attachment_of_another_length_is_found(copy: Store, shelf: Shelf) -> None:
    bundle = read_bundle(copy, shelf.built.ref)
    attachments = tuple(replace(item, size=item.size + 1) for item in bundle.manifest.attachments)

    ref = forge(copy, bundle, replace(bundle.manifest, attachments=attachments))

    assert failed(verify(copy, ref)) == ("manifest", "manifest_invalid")


def test_a_bundle_that_answers_otherwise_fails_its_last_step(copy: Store, shelf: Shelf) -> None:
    bundle = read_bundle(copy, shelf.built.ref)
    data = bundle.attachment(copy, "golden").replace(b'"x": 0.25', b'"x": 0.95')
    golden = copy.put_bytes(data, "application/jsonl")
    attachments = tuple(
        replace(item, digest=golden.digest, size=golden.size) if item.name == "golden" else item
        for item in bundle.manifest.attachments
    )
    manifest = replace(
        bundle.manifest, attachments=attachments, golden=replace(bundle.manifest.golden, digest=golden.digest)
    )
    honest = replace(manifest, content_digest=content_digest(manifest))
    layers = bundle.layers() | {golden.digest: golden}
    weights = (scan_layer(copy, replace(layers[honest.models[0].files[0].layer], media_type=LAYER_TYPE)),)
    parts = Parts(
        code=scan_layer(copy, layers[honest.service.layer]),
        weights=weights,
        attachments={item.name: replace(layers[item.digest], annotations={}) for item in attachments},
    )
    copy.publish("forged:1", put_bundle(copy, honest, parts))

    report = verify(copy, "forged:1")

    assert failed(report) == ("golden", "golden_mismatch")
    assert [(mismatch.line, mismatch.path) for mismatch in report.mismatches] == [(1, "$.value")]


def test_a_package_that_is_installed_in_another_version_is_a_warning(folder: Path, store: Store) -> None:
    lock = folder / "requirements.lock"
    lock.write_text(lock.read_text().replace("numpy==", "numpy==1!"))
    built = build(folder, store, environ={})

    report = verify(store, built.ref)

    step = report.steps[5]
    assert (step.name, step.status) == ("environment", "warning")
    assert "numpy: got" in step.detail
    assert report.is_valid


def test_a_machine_without_the_library_of_a_format_gives_no_answer(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = folder / "src" / "tiny_service" / "service.py"
    hide = "import importlib.util, os\nif 'HIDE' in os.environ:\n    importlib.util.find_spec = lambda name: None\n"
    module.write_text(module.read_text() + hide)
    built = build(folder, store, environ={})
    monkeypatch.setenv("HIDE", "1")

    with pytest.raises(HostError, match="library is not installed") as caught:
        verify(store, built.ref)

    assert (caught.value.exit_status, caught.value.fields["child_code"]) == (3, "library_missing")


def test_a_reference_that_means_nothing_is_an_error_and_no_report(shelf: Shelf) -> None:
    with pytest.raises(RefNotFoundError):
        verify(shelf.store, "tiny:nope")


def test_weights_that_cannot_be_loaded_are_a_failed_replay(folder: Path, store: Store) -> None:
    edit(folder / "slipway.toml", 'format = "xgboost"', 'format = "xgboost"\ncolumns = ["a", "b"]')

    with pytest.raises(Exception, match="could not be replayed") as caught:
        build(folder, store, environ={})

    assert getattr(caught.value, "code", None) == "golden_mismatch"
