"""cosign's own code verifies our signatures, from a real registry (built by `scripts/cosign.sh`)."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
from bundle_fakes import Shelf
from registry_process import RegistryProcess
from trust_fakes import Keys, copy_of

from slipway_bundle.registry import push
from slipway_bundle.trust.signatures import SIGNATURE, sign

PROGRAM = Path(__file__).resolve().parents[3] / ".tools" / "cosign-verify"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not PROGRAM.exists(), reason="cosign is not built: sh scripts/cosign.sh"),
]


def cosign(image: str, key: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([PROGRAM, image, key], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519"])
def test_cosign_accepts_our_signature_by_its_key_and_by_no_other(
    tmp_path: Path, shelf: Shelf, registry: RegistryProcess, algorithm: str
) -> None:
    keys = Keys(tmp_path)
    store = copy_of(shelf, tmp_path / "copy")
    repository = f"{registry.host}/signed-{algorithm}"
    bundle = store.find("tiny")
    push(store, "tiny", f"{repository}:unsigned", environ={})
    keys.make("other", "ed25519")
    unsigned = cosign(f"{repository}@{bundle.digest}", tmp_path / "other.pub")

    sign(store, "tiny", keys.signer("release", algorithm))  # type: ignore[arg-type]  # one of the two above
    push(store, "tiny", f"{repository}:signed", environ={})

    accepted = cosign(f"{repository}@{bundle.digest}", tmp_path / "release.pub")
    assert accepted.returncode == 0, accepted.stderr
    statement = json.loads(base64.b64decode(json.loads(accepted.stdout)["payload"]))
    assert statement["predicateType"] == SIGNATURE
    assert statement["subject"][0]["digest"] == {"sha256": bundle.digest.removeprefix("sha256:")}
    assert cosign(f"{repository}@{bundle.digest}", tmp_path / "other.pub").returncode == 1
    assert unsigned.returncode == 1
