"""`slipway bundle image`: what it says when an image cannot be; `test_bundle_image_run.py` runs one that can."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cli_commands import Slipway

from slipway_bundle.digest import digest_bytes
from slipway_bundle.oci import (
    CONFIG_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    ImageConfig,
    RootFs,
    make_manifest,
)
from slipway_bundle.store import Store


def base(folder: Path) -> str:
    """A layout with one image that has an interpreter and a C++ library, by name."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name in ("usr/bin/python3.11", "usr/lib/libstdc++.so.6"):
            archive.addfile(tarfile.TarInfo(name))
    store = Store.open(folder)
    with store.lease():
        layer = store.put_bytes(gzip.compress(written.getvalue(), mtime=0), f"{LAYER_TYPE}+gzip")
        rootfs = RootFs(type="layers", diff_ids=(digest_bytes(written.getvalue()),))
        config = store.put_json(ImageConfig(architecture="amd64", os="linux", rootfs=rootfs), CONFIG_TYPE)
        store.publish("base:1", store.put_json(make_manifest(config, (layer,)), MANIFEST_TYPE))
    return f"oci:{folder}"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), "image_base", "named by its digest"),
        (("--base", "registry.example.com/python:3.11-slim"), "image_base", "named by a tag"),
        (("--base", "oci:/nowhere/at/all:slim"), "remote_not_found", "/nowhere/at/all"),
    ],
)
def test_a_base_that_is_none_is_a_wrong_usage(
    with_churn: Slipway, arguments: tuple[str, ...], code: str, said: str
) -> None:
    answer = with_churn("bundle", "image", "churn", *arguments, "--json")

    assert answer.status == 2
    assert answer.document["error"]["code"] == code
    assert said in str(answer.document["error"])


def test_a_wheel_that_is_nowhere_is_named_and_nothing_changes(
    with_churn: Slipway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    before = with_churn("bundle", "list", "--json").document

    answer = with_churn(
        "bundle", "image", "churn", "--base", base(tmp_path / "base"), "--platform", "linux/amd64", "--json"
    )

    assert answer.status == 2
    assert answer.document["error"]["code"] == "wheel_missing"
    assert "has no wheel for linux/amd64" in answer.document["error"]["message"]
    assert with_churn("bundle", "list", "--json").document == before


def test_the_server_of_an_image_says_what_is_wrong_and_ends() -> None:
    command = [sys.executable, "-P", "-m", "slipway_serve", "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith("error: '/nowhere'")
