"""`slipway access key`: what a person types, sees and pipes; and the server's words for TLS that cannot work."""

import json
from pathlib import Path

import pytest
from cli_commands import CHURN, Slipway

from slipway_serve.access.keys import load_keys


def test_a_key_is_printed_alone_on_stdout_and_works(slipway: Slipway, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"

    said = slipway("access", "key", "new", "billing", "--keys", path, "--expires", "90d", "--scope", "explain")

    found = load_keys(path).find(said.out.strip().encode())
    assert said.status == 0
    assert found is not None
    assert (found.name, found.scopes) == ("billing", ("explain",))
    assert "not shown again" in said.err
    assert said.out.strip() not in said.err


def test_a_rotation_is_asked_for_and_told_apart(slipway: Slipway, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first = slipway("access", "key", "new", "billing", "--keys", path, "--json").document

    refused = slipway("access", "key", "new", "billing", "--keys", path)
    second = slipway("access", "key", "new", "billing", "--keys", path, "--rotate", "--json").document
    listed = slipway("access", "key", "list", "--keys", path)
    revoked = slipway("access", "key", "revoke", first["id"], "--keys", path)
    left = slipway("access", "key", "list", "--keys", path, "--json").document["keys"]

    assert (refused.status, refused.out) == (2, "")
    assert "--rotate" in refused.err
    assert listed.out.split() == [first["id"], second["id"]]
    assert revoked.out.strip() == first["id"]
    assert [entry["id"] for entry in left] == [second["id"]]
    assert not {"key", "sha256"} & set(left[0])


def test_a_dry_run_revokes_nothing(slipway: Slipway, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    slipway("access", "key", "new", "a", "--keys", path)

    said = slipway("access", "key", "revoke", "a", "--keys", path, "--dry-run")

    assert said.status == 0
    assert "would be revoked" in said.err
    assert len(load_keys(path)) == 1


def test_the_file_may_come_from_the_environment(
    slipway: Slipway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_ACCESS_KEYS", str(tmp_path / "keys.json"))

    made = slipway("access", "key", "new", "billing")
    settings = slipway("serve", CHURN, "--print-config", "--json").document["settings"]

    assert made.status == 0
    assert settings["access.keys"] == {
        "value": str(tmp_path / "keys.json"),
        "origin": "environment SLIPWAY_ACCESS_KEYS",
    }


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("access", "key", "new", "a b", "--keys", "KEYS"), "usage"),
        (("access", "key", "new", "a", "--keys", "KEYS", "--expires", "soon"), "usage"),
        (("access", "key", "list", "--keys", "KEYS"), "access_keys_unreadable"),
        (("access", "key", "revoke", "a", "--keys", "KEYS"), "access_keys_unreadable"),
        (("serve", str(CHURN), "--port", "0", "--tls-cert", "KEYS"), "tls_invalid"),
    ],
)
def test_what_cannot_be_done_says_so_in_a_stable_code(
    slipway: Slipway, tmp_path: Path, arguments: tuple[str, ...], code: str
) -> None:
    said = slipway(*(word.replace("KEYS", str(tmp_path / "keys.json")) for word in arguments), "--json")

    error = json.loads(said.out)["error"]
    assert said.status in {2, 3}
    assert error["code"] == code
    assert not (tmp_path / "keys.json").exists()
