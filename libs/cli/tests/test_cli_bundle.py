"""The verbs of `slipway bundle`, on a real store with a real bundle."""

import re
import shutil
import stat
from pathlib import Path

import pytest
from cli_commands import Said, Slipway

REF = re.compile(r"churn:\S+")


def test_build_prints_the_reference_and_nothing_else_on_stdout(slipway: Slipway, churn: Path) -> None:
    said = slipway("bundle", "build", churn)

    assert said.status == 0
    assert REF.fullmatch(said.out.strip())
    assert said.out.count("\n") == 1
    assert "golden examples replayed" in said.err


def test_build_draws_no_bar_without_a_terminal(slipway: Slipway, churn: Path) -> None:
    said = slipway("bundle", "build", churn)

    assert "\x1b" not in said.out + said.err
    assert "\r" not in said.out + said.err


def test_quiet_leaves_only_the_reference(slipway: Slipway, churn: Path) -> None:
    said = slipway("-q", "bundle", "build", churn)

    assert said.err == ""
    assert REF.fullmatch(said.out.strip())


def test_a_second_build_is_unchanged(with_churn: Slipway, churn: Path) -> None:
    said = with_churn("bundle", "build", churn, "--json")

    assert said.status == 0
    assert said.document["is_new"] is False
    assert said.document["ref"] in with_churn("bundle", "list").out.splitlines()


def test_build_of_a_folder_that_is_no_service_says_what_is_missing(slipway: Slipway, tmp_path: Path) -> None:
    said = slipway("bundle", "build", tmp_path, "--json")

    assert said.status == 2
    assert said.document["error"]["code"] == "config_invalid"
    assert "slipway.toml" in said.document["error"]["message"]


def test_list_is_one_reference_a_line_through_a_pipe(with_churn: Slipway) -> None:
    said = with_churn("bundle", "list")

    assert said.status == 0
    assert all(REF.fullmatch(line) for line in said.out.splitlines())
    assert said.out


def test_list_has_the_newest_first(slipway: Slipway, churn: Path, tmp_path: Path) -> None:
    for version in ("1.10.0", "1.9.0"):
        slipway("bundle", "build", _copy_of(churn, tmp_path / version, version))

    said = slipway("bundle", "list", "churn", "--json")

    assert [bundle["version"] for bundle in said.document["bundles"]] == ["1.9.0", "1.10.0"]
    assert all(bundle["size_bytes"] > 0 for bundle in said.document["bundles"])


def test_list_of_an_empty_store_is_empty(slipway: Slipway) -> None:
    said = slipway("bundle", "list")

    assert said == Said(0, "", said.err)
    assert "no bundles" in said.err


def test_inspect_shows_schema_lineage_and_whole_digests(with_churn: Slipway) -> None:
    said = with_churn("bundle", "inspect", "churn")

    assert said.status == 0
    assert re.search(r"digest +sha256:[0-9a-f]{64}$", said.out, re.MULTILINE)
    assert re.search(r"in +income +FP32 +.*or missing$", said.out, re.MULTILINE)
    assert "monthly | yearly" in said.out
    assert "synthetic:churn" in said.out
    assert "POST  /predict" in said.out


def test_inspect_as_json_holds_the_manifest(with_churn: Slipway) -> None:
    document = with_churn("bundle", "inspect", "churn", "--json").document

    assert set(document) == {"ref", "digest", "content_digest", "size_bytes", "manifest"}
    assert document["manifest"]["models"][0]["format"] == "xgboost"
    assert document["manifest"]["contentDigest"] == document["content_digest"]


def test_an_unknown_reference_names_the_nearest(with_churn: Slipway) -> None:
    said = with_churn("bundle", "inspect", "chrun", "--json")

    assert said.status == 2
    assert said.document["error"]["code"] == "ref_not_found"
    assert "'churn'" in said.document["error"]["hint"]


def test_verify_prints_the_digest_of_what_it_verified(with_churn: Slipway) -> None:
    digest = with_churn("bundle", "inspect", "churn", "--json").document["digest"]

    said = with_churn("bundle", "verify", "churn")

    assert said.status == 0
    assert said.out == f"{digest}\n"
    assert "golden examples replayed" in said.err


def test_verify_says_no_when_one_byte_of_the_weights_changed(
    with_churn: Slipway, built_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = shutil.copytree(built_home, tmp_path / "broken")
    monkeypatch.setenv("SLIPWAY_HOME", str(broken))
    blobs = (broken / "store" / "blobs" / "sha256").iterdir()
    _flip_a_byte(next(blob for blob in blobs if b"learner" in blob.read_bytes()))

    said = with_churn("bundle", "verify", "churn", "--no-replay", "--json")

    failed = [step for step in said.document["steps"] if step["status"] == "failed"]
    assert said.status == 1
    assert said.document["is_valid"] is False
    assert [step["code"] for step in failed] == ["blob_corrupt"]


def test_diff_names_what_changed(slipway: Slipway, churn: Path, tmp_path: Path) -> None:
    one, other = _copy_of(churn, tmp_path / "one", "1.0.0"), _copy_of(churn, tmp_path / "other", "1.1.0")
    with (other / "src" / "churn_service" / "service.py").open("a") as file:
        file.write("\n# another line\n")
    slipway("bundle", "build", one)
    slipway("bundle", "build", other)

    said = slipway("bundle", "diff", "churn:1.0.0", "churn:1.1.0")

    changed = [line.split("\t")[:2] for line in said.out.splitlines()]
    assert said.status == 0
    assert ["code", "src/churn_service/service.py"] in changed
    assert not [area for area, _ in changed if area == "model"]


def test_rm_and_gc_say_what_goes_before_it_goes(slipway: Slipway, churn: Path) -> None:
    ref = slipway("bundle", "build", churn).out.strip()

    kept = slipway("bundle", "rm", ref, "--dry-run", "--json")
    still = slipway("bundle", "list")
    gone = slipway("bundle", "rm", ref)
    planned = slipway("bundle", "gc", "--dry-run", "--json")
    freed = slipway("bundle", "gc", "--json")
    nothing = slipway("bundle", "gc", "--json")

    assert kept.document["removed"][0]["ref"] == ref
    assert still.out == gone.out == f"{ref}\n"
    assert planned.document["removed"] == freed.document["removed"]
    assert freed.document["freed_bytes"] > 0
    assert nothing.document["removed"] == []


def _copy_of(churn: Path, folder: Path, version: str) -> Path:
    """The churn service with a version of its own, and the lock that it needs outside the repository."""
    shutil.copytree(churn, folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    shutil.copy(churn.parents[1] / "requirements.lock", folder)
    config = folder / "slipway.toml"
    config.write_text(config.read_text("utf-8").replace('name = "churn"', f'name = "churn"\nversion = "{version}"'))
    return folder


def _flip_a_byte(blob: Path) -> None:
    blob.chmod(stat.S_IRUSR | stat.S_IWUSR)
    data = bytearray(blob.read_bytes())
    place = data.index(b"learner")
    data[place] ^= 1
    blob.write_bytes(data)
