"""Trust by the command line: keys, signatures, approvals, a policy, and a server that runs nothing it refuses."""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cli_commands import Slipway, served

from slipway_bundle.store import Store
from slipway_bundle.stored import read_bundle
from slipway_signals.actions import HEADER

RULES = """\
[keys.release]
file = "release.pub"

[keys.ann]
file = "ann.pub"

[signatures]
by = ["release"]

[approvals]
by = ["ann"]
"""


@pytest.fixture
def office(tmp_path: Path) -> Path:
    """A folder with keys and a policy."""
    folder = tmp_path / "office"
    folder.mkdir()
    (folder / "policy.toml").write_text(RULES)
    return folder


@pytest.fixture
def in_office(slipway: Slipway, home: Path, built_home: Path, office: Path, monkeypatch: pytest.MonkeyPatch) -> Slipway:
    """`slipway` in that folder, with a store of its own that holds churn, and two pairs of keys."""
    shutil.copytree(built_home, home)
    monkeypatch.chdir(office)
    for name in ("release", "ann"):
        assert slipway("keys", "new", name).out == f"{name}.pub\n"
    return slipway


def test_from_new_keys_to_a_bundle_that_may_run(in_office: Slipway, office: Path) -> None:
    assert stat.S_IMODE((office / "release.key").stat().st_mode) == 0o600

    nothing = in_office("policy", "check", "churn")
    signed = in_office("bundle", "sign", "churn", "--key", "release.key", "--expires", "90d", "--json")
    half = in_office("policy", "check", "churn", "--json")
    approved = in_office("bundle", "approve", "churn", "--key", "ann.key", "--reason", "load test")
    whole = in_office("policy", "check", "churn", "--blobs")

    assert nothing.status == half.status == 1
    assert "signatures.by" in nothing.err
    assert nothing.err.count("hint: `slipway bundle") == 2
    digest = signed.document["digest"]
    assert signed.document["model_signature"] is not None
    assert half.document["is_allowed"] is False
    assert [each["rule"] for each in half.document["findings"] if each["status"] == "refused"] == ["approvals.required"]
    assert (approved.status, approved.out) == (0, f"{digest}\n")
    assert (whole.status, whole.out) == (0, f"{digest}\n")


def test_statements_are_listed_under_the_keys_that_signed_them(in_office: Slipway, office: Path) -> None:
    in_office("bundle", "sign", "churn", "--key", "release.key")
    in_office("bundle", "approve", "churn", "--key", "ann.key")
    in_office("keys", "new", "stranger")
    in_office("bundle", "sign", "churn", "--key", "stranger.key", "--no-models")

    listed = in_office("bundle", "signatures", "churn", "--json").document["statements"]
    exported = in_office("bundle", "signatures", "churn", "--export", "out")
    by_key = in_office("bundle", "signatures", "churn", "--key", "stranger.pub")

    assert [(each["kind"], each["key"]) for each in listed] == [
        ("approval", "ann"),
        ("model signature", "release"),
        ("signature", "release"),
        ("signature", None),
    ]
    assert "unknown key" in listed[-1]["reason"]
    assert sorted(path.name for path in (office / "out").iterdir()) == sorted(
        Path(line).name for line in exported.out.splitlines()
    )
    assert "stranger" in by_key.out


def test_the_policy_is_explained_in_the_words_of_its_rules(in_office: Slipway, office: Path) -> None:
    said = in_office("policy", "explain")

    assert said.status == 0
    assert "signatures.by" in said.out
    assert "1 of ann approved it, and did not sign it" in said.out
    (office / "ann.pub").unlink()
    assert in_office("policy", "explain", "--json").document["error"]["code"] == "file_unreadable"
    (office / "policy.toml").write_text("[signatures]\nbi = []\n")
    wrong = in_office("policy", "explain", "--json")
    assert (wrong.status, wrong.document["error"]["hint"]) == (2, "did you mean `by`?")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["bundle", "sign", "churn", "--key", "nowhere.key"], "file_unreadable"),
        (["bundle", "sign", "churn", "--key", "release.pub"], "key_invalid"),
        (["bundle", "sign", "churn", "--key", "release.key", "--expires", "soon"], "usage"),
        (["bundle", "sign", "nothing", "--key", "release.key"], "ref_not_found"),
        (["keys", "new", "release"], "usage"),
        (["keys", "new", "../release"], "usage"),
        (["policy", "check", "churn", "--policy", "nowhere.toml"], "file_unreadable"),
    ],
)
def test_what_cannot_be_done_says_why(in_office: Slipway, arguments: list[str], code: str) -> None:
    said = in_office(*arguments, "--json")

    assert said.status in {2, 3}
    assert said.document["error"]["code"] == code


def test_an_unsigned_bundle_is_refused_before_a_byte_of_code_or_weights_is_opened(
    in_office: Slipway, home: Path
) -> None:
    bundle = read_bundle(Store.open(home / "store"), "churn")
    layers = {digest.removeprefix("sha256:") for digest, layer in bundle.layers().items() if "tar" in layer.media_type}
    heard: list[str] = []
    is_heard = True  # an audit hook stays for the life of the process

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if is_heard and event == "open":
            heard.append(Path(str(arguments[0])).name)

    sys.addaudithook(hear)
    said = in_office("serve", "churn", "--json")
    is_heard = False

    error = said.document["error"]
    assert (said.status, error["code"]) == (1, "policy_refused")
    assert "slipway bundle sign" in error["hint"]
    assert bundle.digest.removeprefix("sha256:") in heard
    assert not layers & set(heard)


def test_a_folder_is_not_served_where_only_bundles_may_run(in_office: Slipway, office: Path, churn: Path) -> None:
    (office / "policy.toml").write_text("[folders]\nallow = false\n")

    said = in_office("serve", churn, "--json")

    assert (said.status, said.document["error"]["fields"]["rule"]) == (1, "folders.allow")


def test_the_first_process_of_an_image_asks_the_policy_too(in_office: Slipway, office: Path, home: Path) -> None:
    environment = os.environ | {"SLIPWAY_HOME": str(home), "SLIPWAY_POLICY": str(office / "policy.toml")}
    command = [sys.executable, "-P", "-m", "slipway_serve", "churn"]

    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert said.returncode == 1
    assert "refuses 'churn'" in said.stderr
    assert "`signatures.by`" in said.stderr


def test_weights_that_were_changed_after_they_were_signed_never_run(
    in_office: Slipway, office: Path, home: Path
) -> None:
    (office / "policy.toml").write_text(RULES.partition("[approvals]")[0])
    in_office("bundle", "sign", "churn", "--key", "release.key")
    store = Store.open(home / "store")
    file = read_bundle(store, "churn").manifest.models[0].files[0]
    path = store.layout.root / "blobs" / "sha256" / file.layer.removeprefix("sha256:")
    data = bytearray(path.read_bytes())
    data[file.offset + file.size // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)

    said = in_office("serve", "churn", "--json")

    assert (said.status, said.document["error"]["fields"]["rule"]) == (1, "bundle.blobs")


@contextmanager
def admin_of(*arguments: str, home: Path) -> Iterator[tuple[str, str]]:
    """The addresses of a live server: its public port, and its admin port."""
    command = [sys.executable, "-P", "-m", "slipway_cli", "serve", *arguments]
    command += ["--port", "0", "--admin-port", "0", "--drain-s", "0"]
    environment = os.environ | {"SLIPWAY_HOME": str(home)}
    found: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            found += re.findall(r"http://[\d.]+:\d+", line)
            if len(found) == 2:
                break
        try:
            yield found[0], found[1]
        finally:
            process.terminate()
            process.stderr.read()


def test_a_live_server_takes_no_bundle_that_the_policy_refuses(in_office: Slipway, office: Path, home: Path) -> None:
    (office / "policy.toml").write_text(RULES.partition("[approvals]")[0])
    in_office("bundle", "sign", "churn", "--key", "release.key")
    store = Store.open(home / "store")
    store.publish("churn:9.9.9", store.find("churn").descriptor)
    first = next(ref.text for ref in store.refs() if ref.version != "9.9.9")

    with admin_of(first, home=home) as (url, admin):
        answer = httpx.post(f"{admin}/swap", json={"target": "churn:9.9.9"}, headers={HEADER: "1"}, timeout=30)
        alive = httpx.get(f"{url}/livez", timeout=30)

    assert (answer.status_code, answer.json()["code"]) == (422, "policy_refused")
    assert alive.status_code == 200


def test_a_signed_bundle_is_served_under_the_policy_of_the_environment(
    in_office: Slipway, office: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_office("bundle", "sign", "churn", "--key", "release.key")
    in_office("bundle", "approve", "churn", "--key", "ann.key")
    monkeypatch.setenv("SLIPWAY_POLICY", str(office / "policy.toml"))

    with served("churn", home=home, folder=tmp_path) as url:
        assert httpx.get(f"{url}/livez", timeout=30).status_code == 200
