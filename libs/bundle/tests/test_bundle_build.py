"""Building: what a bundle holds, what is refused, and that a refused build leaves nothing to be seen."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from bundle_fakes import Trained, edit, finish, start_build, write_folder

from slipway_bundle.build import build
from slipway_bundle.digest import parse_digest
from slipway_bundle.errors import ConfigError, GoldenError, GoldenMismatchError, LockError, SlipwayError
from slipway_bundle.store import Store
from slipway_bundle.store_errors import RefConflictError, SourceChangedError
from slipway_bundle.stored import read_bundle


class Steps:
    """Remembers the announced steps and the progress."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.total = 0
        self.done = 0

    def announce(self, step: str, total_bytes: int) -> None:
        self.names.append(step)
        self.total += total_bytes

    def advance(self, count_bytes: int, /) -> None:
        self.done += count_bytes


def test_a_bundle_holds_what_the_folder_declares(folder: Path, store: Store) -> None:
    built = build(folder, store, environ={"SOURCE_DATE_EPOCH": "0"})

    manifest = read_bundle(store, built.ref).manifest
    assert built.ref == f"tiny:c-{built.content_digest[7:19]}"
    assert built.is_new
    assert [file.path for file in manifest.files] == [
        "src/tiny_service/__init__.py", "src/tiny_service/run.sh", "src/tiny_service/service.py"
    ]  # fmt: skip
    assert [file.mode for file in manifest.files] == ["0644", "0755", "0644"]
    assert [tensor.name for tensor in manifest.models[0].schema.inputs] == ["x", "y"]
    assert manifest.models[0].trust == "safe-data"
    assert [attachment.name for attachment in manifest.attachments] == [
        "environment-lock", "golden", "runtime", "schema"
    ]  # fmt: skip
    assert manifest.golden.examples == 2
    assert manifest.created == "1970-01-01T00:00:00Z"
    assert manifest.source is None
    assert manifest.lineage is not None
    assert manifest.lineage.metrics == {"rmse": 0.25}
    assert manifest.licenses == ("Apache-2.0",)
    assert [(route.method, route.path) for route in manifest.service.endpoints] == [("POST", "/predict")]
    assert manifest.environment.python == ">=3.11"


def test_without_a_commit_or_an_epoch_a_bundle_has_no_time(folder: Path, store: Store) -> None:
    built = build(folder, store, environ={})

    assert read_bundle(store, built.ref).manifest.created is None


def test_a_wrong_epoch_is_refused(folder: Path, store: Store) -> None:
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH"):
        build(folder, store, environ={"SOURCE_DATE_EPOCH": "today"})


def test_building_again_changes_nothing_and_does_not_replay(folder: Path, store: Store) -> None:
    first = build(folder, store, environ={})
    steps = Steps()

    again = build(folder, store, environ={}, announce=steps.announce)

    assert (again.digest, again.is_new, again.is_replayed) == (first.digest, False, False)
    assert "replay" not in steps.names
    assert len(store.refs()) == 1


def test_the_weights_are_in_their_blob_where_the_manifest_says(folder: Path, store: Store, trained: Trained) -> None:
    built = build(folder, store, environ={})

    file = read_bundle(store, built.ref).manifest.models[0].files[0]
    blob = store.blob(parse_digest(file.layer)).read_bytes()
    assert blob[file.offset : file.offset + file.size] == trained.model


def test_models_that_share_a_file_share_its_layer(folder: Path, store: Store) -> None:
    edit(folder / "src/tiny_service/service.py", '{"tiny": Model("tiny", Point, Score)}',
         '{"tiny": Model("tiny", Point, Score), "again": Model("again", Point, Score)}')  # fmt: skip
    with (folder / "slipway.toml").open("a") as config:
        config.write('[bundle.models.again]\nfile = "model/tiny.ubj"\nformat = "xgboost"\n')
    golden = folder / "golden.jsonl"
    golden.write_text(golden.read_text() + golden.read_text().replace('"tiny"', '"again"'))

    built = build(folder, store, environ={})

    bundle = read_bundle(store, built.ref)
    assert len(bundle.children["modelcar"][0].layers) == 1
    assert bundle.manifest.models[0].files == bundle.manifest.models[1].files


def test_progress_adds_up_to_what_was_announced(folder: Path, store: Store) -> None:
    steps = Steps()

    build(folder, store, environ={}, progress=steps, announce=steps.announce)

    assert steps.names == ["read", "describe", "pack", "replay", "publish"]
    assert steps.done == steps.total > 0


def test_tuning_does_not_change_what_a_bundle_is(folder: Path, store: Store) -> None:
    before = build(folder, store, environ={})
    edit(folder / "slipway.toml", "port = 9000", "port = 9001")

    after = build(folder, store, environ={})

    assert after.content_digest == before.content_digest
    assert after.digest != before.digest
    assert after.version == f"{before.version}-2"
    assert not after.is_replayed


def test_moving_the_weights_does_not_change_what_a_bundle_is(folder: Path, store: Store) -> None:
    before = build(folder, store, environ={})
    (folder / "model" / "tiny.ubj").rename(folder / "tiny.ubj")
    edit(folder / "slipway.toml", "model/tiny.ubj", "tiny.ubj")

    after = build(folder, store, environ={})

    assert after.content_digest == before.content_digest


def test_a_version_that_was_given_is_never_overwritten(folder: Path, store: Store) -> None:
    edit(folder / "slipway.toml", 'name = "tiny"', 'name = "tiny"\nversion = "1.0.0"')
    before = build(folder, store, environ={})
    edit(folder / "slipway.toml", "port = 9000", "port = 9001")

    with pytest.raises(RefConflictError, match="immutable"):
        build(folder, store, environ={})

    assert [ref.digest for ref in store.refs()] == [before.digest]


def test_golden_examples_that_do_not_replay_are_refused(folder: Path, store: Store) -> None:
    golden = folder / "golden.jsonl"
    lines = golden.read_text().splitlines()
    example = json.loads(lines[1])
    example["output"]["value"] += 1
    golden.write_text(f"{lines[0]}\n{json.dumps(example)}\n")

    with pytest.raises(GoldenMismatchError, match="1 of 2 golden examples did not replay") as caught:
        build(folder, store, environ={})

    assert "golden example 2 of model 'tiny': `$.value` got" in caught.value.message
    assert store.refs() == ()


def test_a_golden_input_that_is_no_row_is_refused(folder: Path, store: Store) -> None:
    edit(folder / "golden.jsonl", '"x": 0.25', '"z": 0.25')

    with pytest.raises(GoldenMismatchError, match="input of golden example 1 is not a row"):
        build(folder, store, environ={})

    assert store.refs() == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "has no golden example"), ('{"model":"tine","input":{},"output":{}}', "names model 'tine'")],
)
def test_every_model_needs_a_golden_example_and_every_example_a_model(
    folder: Path, store: Store, content: str, said: str
) -> None:
    (folder / "golden.jsonl").write_text(content)

    with pytest.raises(GoldenError, match=said):
        build(folder, store, environ={})


def test_a_missing_golden_file_says_what_to_write(folder: Path, store: Store) -> None:
    (folder / "golden.jsonl").unlink()

    with pytest.raises(GoldenError, match="no golden examples") as caught:
        build(folder, store, environ={})

    assert '"output"' in (caught.value.hint or "")


def test_a_missing_model_file_hints_at_the_nearest_name(folder: Path, store: Store) -> None:
    edit(folder / "slipway.toml", "tiny.ubj", "tinny.ubj")

    with pytest.raises(ConfigError, match="the file of model 'tiny' is not there") as caught:
        build(folder, store, environ={})

    assert caught.value.hint == "did you mean 'model/tiny.ubj'?"


def test_a_file_in_another_format_is_refused_with_the_right_one(folder: Path, store: Store) -> None:
    edit(folder / "slipway.toml", '"xgboost"', '"safetensors"')

    with pytest.raises(ConfigError, match="is not in the format 'safetensors'") as caught:
        build(folder, store, environ={})

    assert "'xgboost'" in (caught.value.hint or "")


def test_a_missing_lock_is_refused_with_the_fix(folder: Path, store: Store) -> None:
    (folder / "requirements.lock").unlink()

    with pytest.raises(LockError) as caught:
        build(folder, store, environ={})

    assert "make lock" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not a lineage"),
        (b'{"metrics":{"auc":"high"}}', "not a lineage"),
        (b'{"metric":{}}', "unknown field `metric`"),
    ],
)
def test_a_lineage_that_cannot_be_read_is_refused(folder: Path, store: Store, content: bytes, said: str) -> None:
    (folder / "model" / "lineage.json").write_bytes(content)

    with pytest.raises(ConfigError, match=said):
        build(folder, store, environ={})


def test_a_lineage_that_is_not_there_is_refused(folder: Path, store: Store) -> None:
    (folder / "model" / "lineage.json").unlink()

    with pytest.raises(ConfigError, match="names a file that is not there"):
        build(folder, store, environ={})


def test_a_source_that_changes_while_it_is_packed_is_refused(folder: Path, store: Store) -> None:
    weights = folder / "model" / "tiny.ubj"
    weights.write_bytes(weights.read_bytes().ljust(9 << 20, b"\0"))

    class Meddler:
        def advance(self, _: int, /) -> None:
            with weights.open("ab") as file:
                file.write(b"more")

    with pytest.raises(SourceChangedError, match="changed while it was packed"):
        build(folder, store, environ={}, progress=Meddler())

    assert store.refs() == ()


def test_ctrl_c_at_any_step_leaves_nothing_to_be_seen(folder: Path, store: Store) -> None:
    for stop_at in ("read", "describe", "pack", "replay", "publish"):

        def interrupt(step: str, _: int, stop_at: str = stop_at) -> None:
            if step == stop_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build(folder, store, environ={}, announce=interrupt)

        assert store.refs() == ()


def wait_in_replay(folder: Path) -> Path:
    """Makes the service stop in its replay, after it has written its process id into the FIFO that is returned."""
    here = folder.parent / "here"
    os.mkfifo(here)
    module = folder / "src" / "tiny_service" / "service.py"
    module.write_text(
        module.read_text()
        + f"""
import os, sys, time
if "replay" in sys.argv:
    with open({str(here)!r}, "w") as pipe:
        pipe.write(str(os.getpid()))
    time.sleep(100)
"""
    )
    return here


def test_a_build_that_is_killed_after_packing_leaves_nothing_to_be_seen(
    folder: Path, store: Store, trained: Trained
) -> None:
    here = wait_in_replay(folder)
    process = start_build(folder, store.root)
    child = int(here.read_text())

    process.kill()
    finish(process)
    os.kill(child, signal.SIGKILL)

    assert store.refs() == ()
    built = build(write_folder(folder, trained), store, environ={})
    assert [ref.digest for ref in store.refs()] == [built.digest]


def test_ctrl_c_ends_the_child_and_leaves_nothing_to_be_seen(folder: Path, store: Store) -> None:
    here = wait_in_replay(folder)
    process = start_build(folder, store.root)
    child = int(here.read_text())

    process.send_signal(signal.SIGINT)
    finish(process)

    assert process.returncode != 0
    assert store.refs() == ()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_two_builds_at_once_make_one_bundle(folder: Path, store: Store) -> None:
    processes = [start_build(folder, store.root) for _ in range(2)]

    digests = {finish(process) for process in processes}

    assert digests == {ref.digest for ref in store.refs()}
    assert len(digests) == 1


def test_two_builds_of_different_content_under_one_version_make_one_bundle_and_one_error(
    tmp_path: Path, folder: Path, store: Store
) -> None:
    edit(folder / "slipway.toml", 'name = "tiny"', 'name = "tiny"\nversion = "1.0.0"')
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    edit(other / "src/tiny_service/service.py", "A service for tests", "Another service for tests")
    processes = [start_build(one, store.root) for one in (folder, other)]

    printed = sorted(finish(process) for process in processes)

    assert printed[0] == "ref_conflict"
    assert [ref.digest for ref in store.refs()] == [printed[1]]


def test_a_full_disk_publishes_nothing(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_bavail, f_frsize, f_favail = 0, 4096, 1000

    monkeypatch.setattr("os.statvfs", lambda _: Full)

    with pytest.raises(SlipwayError) as caught:
        build(folder, store, environ={})

    assert (caught.value.code, caught.value.exit_status) == ("no_space", 3)
    assert store.refs() == ()


def test_a_folder_in_the_root_of_a_service_is_code_without_weights_and_examples(
    tmp_path: Path, store: Store, trained: Trained
) -> None:
    flat = write_folder(tmp_path / "flat", trained)
    (flat / "src" / "tiny_service").rename(flat / "tiny_service")
    edit(flat / "slipway.toml", "[bundle]\n", '[bundle]\ncode = "."\n')

    built = build(flat, store, environ={})

    paths = {file.path for file in read_bundle(store, built.ref).manifest.files}
    assert "tiny_service/service.py" in paths
    assert not paths & {"golden.jsonl", "model/tiny.ubj", "model/lineage.json"}
