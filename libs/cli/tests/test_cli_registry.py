"""The verbs that speak with registries, on a layout on disk: the same operations, without a process."""

import os
from pathlib import Path

import pytest
from cli_commands import Slipway

from slipway_bundle.store import Store
from slipway_bundle.stored import read_bundle


@pytest.fixture
def disk(tmp_path: Path) -> str:
    return f"oci:{tmp_path / 'disk'}"


def test_what_is_pushed_is_printed_by_digest_and_can_be_pulled(
    with_churn: Slipway, disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = with_churn("bundle", "push", "churn", disk)
    listed = with_churn("registry", "list", disk)
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path / "elsewhere"))

    pulled = with_churn("bundle", "pull", listed.out.strip())
    verified = with_churn("bundle", "verify", "churn", "--no-replay")

    assert (pushed.status, listed.status, pulled.status, verified.status) == (0, 0, 0, 0)
    assert pushed.out.startswith(f"{disk}@sha256:")
    assert pushed.out.count("\n") == 1
    assert listed.out.strip() == f"{disk}:{pulled.out.strip()}"
    assert pushed.out.strip().endswith(verified.out.strip())
    assert "came" in pulled.err


def test_json_says_how_much_was_sent_and_how_much_was_there(with_churn: Slipway, disk: str) -> None:
    first = with_churn("bundle", "push", "churn", disk, "--json").document
    second = with_churn("bundle", "push", "churn", disk, "--json").document

    assert first["sent_bytes"] == second["present_bytes"] > 0
    assert (first["is_new"], second["is_new"], second["sent_bytes"]) == (True, False, 0)
    assert first["digest"] == second["digest"]


def test_copy_and_tag_change_no_digest(with_churn: Slipway, disk: str, tmp_path: Path) -> None:
    with_churn("bundle", "push", "churn", f"{disk}:churn:1")

    copied = with_churn("bundle", "copy", f"{disk}:churn:1", f"oci:{tmp_path / 'other'}")
    tagged = with_churn("bundle", "tag", f"{disk}:churn:1", "churn:stable")
    found = with_churn("registry", "list", disk, "--json").document

    assert (copied.status, tagged.status) == (0, 0)
    assert copied.out.partition("@")[2] == tagged.out.partition("@")[2]
    assert [each["tag"] for each in found["tags"]] == ["churn:1", "churn:stable"]
    assert len({each["digest"] for each in found["tags"]}) == 1


def test_an_error_has_its_code_and_says_what_to_do(slipway: Slipway, disk: str) -> None:
    missing = slipway("bundle", "pull", f"{disk}:churn:9", "--json")
    unnamed = slipway("bundle", "pull", "churn:9", "--json")

    assert (missing.status, missing.document["error"]["code"]) == (2, "remote_not_found")
    assert f"slipway registry list {disk}" in missing.document["error"]["hint"]
    assert (unnamed.status, unnamed.document["error"]["code"]) == (2, "remote_invalid")


def test_a_policy_is_asked_before_any_layer_comes(
    with_churn: Slipway, disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_churn("bundle", "push", "churn", f"{disk}:churn:1")
    store = Store.open(Path(os.environ["SLIPWAY_HOME"]) / "store")
    weights = read_bundle(store, "churn").manifest.models[0].files[0].layer
    folder = tmp_path / "strict"
    folder.mkdir()
    (folder / "policy.toml").write_text('[formats]\nallow = ["onnx"]\n')
    home = tmp_path / "elsewhere"
    monkeypatch.setenv("SLIPWAY_HOME", str(home))

    said = with_churn("bundle", "pull", f"{disk}:churn:1", "--policy", folder / "policy.toml", "--json")

    assert said.status == 1
    assert said.document["error"]["code"] == "policy_refused"
    assert "churn" not in with_churn("bundle", "list").out
    assert not (home / "store/blobs/sha256" / weights.removeprefix("sha256:")).exists()
