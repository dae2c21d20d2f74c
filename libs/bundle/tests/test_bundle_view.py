"""Views: a folder and a stored bundle look the same to serving, and answer the same."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundle_fakes import Shelf, Trained

from slipway_bundle.errors import ConfigError, DescribeError, UsageError
from slipway_bundle.replay import replay
from slipway_bundle.store import Store
from slipway_bundle.store_errors import RefNotFoundError
from slipway_bundle.view import load_service, open_any, open_bundle, open_folder


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    """Loading a service changes this process; each test starts without one."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("tiny_service"):
            del sys.modules[name]


def test_a_folder_and_its_bundle_have_the_same_view(shelf: Shelf, trained: Trained) -> None:
    folder = open_folder(shelf.folder)
    bundle = open_bundle(shelf.store, shelf.built.ref)

    assert folder.models["tiny"].file.read() == bundle.models["tiny"].file.read() == trained.model
    assert folder.runtime == bundle.runtime == {"server": {"port": 9000}}
    assert [golden.model for golden in folder.golden] == [golden.model for golden in bundle.golden]
    assert folder.entry == bundle.entry
    assert (bundle.code / "tiny_service" / "service.py").read_bytes() == (
        folder.code / "tiny_service" / "service.py"
    ).read_bytes()


def test_a_bundle_says_what_it_is(shelf: Shelf) -> None:
    view = open_bundle(shelf.store, shelf.built.ref)

    assert (view.name, view.version, view.digest) == ("tiny", shelf.built.version, shelf.built.digest)
    assert view.content_digest == shelf.built.content_digest
    assert view.environment_lock is not None
    assert view.environment_lock.startswith("numpy==")
    assert view.description is not None
    assert view.lineage is not None
    assert view.lineage.metrics == {"rmse": 0.25}


def test_a_folder_is_not_built(shelf: Shelf) -> None:
    view = open_folder(shelf.folder)

    assert (view.name, view.version, view.digest, view.content_digest) == ("tiny", "unbuilt", None, None)


@pytest.mark.parametrize("kind", ["folder", "bundle"])
def test_the_golden_examples_replay_in_either(shelf: Shelf, kind: str) -> None:
    view = open_folder(shelf.folder) if kind == "folder" else open_bundle(shelf.store, shelf.built.ref)

    assert replay(view, load_service(view)) == []


def test_a_mismatch_names_line_path_and_values(folder: Path) -> None:
    golden = folder / "golden.jsonl"
    golden.write_text(golden.read_text().replace('"value": ', '"value": 1'))
    view = open_folder(folder)

    mismatches = replay(view, load_service(view))

    assert [(mismatch.line, mismatch.path) for mismatch in mismatches] == [(1, "$.value"), (2, "$.value")]


def test_a_young_folder_needs_no_golden_examples(folder: Path) -> None:
    (folder / "golden.jsonl").unlink()

    assert open_folder(folder).golden == ()


def test_a_folder_shows_its_lineage_once_training_has_written_it(folder: Path) -> None:
    trained = open_folder(folder).lineage
    (folder / "model" / "lineage.json").unlink()

    assert trained is not None
    assert trained.metrics == {"rmse": 0.25}
    assert open_folder(folder).lineage is None


def test_a_folder_without_its_weights_is_refused(folder: Path) -> None:
    (folder / "model" / "tiny.ubj").unlink()

    with pytest.raises(ConfigError, match="is not there"):
        open_folder(folder)


def test_any_target_is_a_folder_or_a_reference(shelf: Shelf) -> None:
    assert open_any(str(shelf.folder), shelf.store).digest is None
    assert open_any(shelf.built.ref, shelf.store).digest == shelf.built.digest
    assert open_any(shelf.built.digest, shelf.store).digest == shelf.built.digest
    assert open_any("tiny", shelf.store).digest == shelf.built.digest


def test_a_path_that_is_no_service_is_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UsageError, match="is a path, but no service folder"):
        open_any(str(tmp_path), store)


def test_an_unknown_reference_is_refused(store: Store) -> None:
    with pytest.raises(RefNotFoundError):
        open_any("tiny", store)


def test_the_code_of_a_bundle_is_loaded_from_the_store_and_not_from_elsewhere(shelf: Shelf) -> None:
    view = open_bundle(shelf.store, shelf.built.ref)

    service = load_service(view)

    assert service.name == "tiny"
    assert str(sys.modules["tiny_service"].__file__).startswith(str(view.code))


def test_a_second_copy_of_a_package_is_refused(shelf: Shelf) -> None:
    load_service(open_folder(shelf.folder))

    with pytest.raises(DescribeError, match="was imported from another place"):
        load_service(open_bundle(shelf.store, shelf.built.ref))


def test_opening_a_bundle_again_unpacks_nothing(shelf: Shelf) -> None:
    first = open_bundle(shelf.store, shelf.built.ref)
    before = first.code.stat().st_ctime_ns

    again = open_bundle(shelf.store, shelf.built.ref)

    assert (again.code, again.code.stat().st_ctime_ns) == (first.code, before)


def test_a_view_can_be_opened_from_a_store_that_only_root_may_write(shelf: Shelf) -> None:
    open_bundle(shelf.store, shelf.built.ref)
    listing = sorted(path for path in shelf.store.root.rglob("*"))

    open_bundle(shelf.store, shelf.built.ref)

    assert sorted(path for path in shelf.store.root.rglob("*")) == listing


def test_a_folder_can_be_replayed_by_hand(shelf: Shelf) -> None:
    command = [sys.executable, "-m", "slipway_bundle", "replay", "--folder", str(shelf.folder)]

    done = subprocess.run(command, capture_output=True, check=True)

    assert done.stdout == b"[]"
