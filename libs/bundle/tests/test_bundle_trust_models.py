"""OpenSSF model signing: our signatures pass their command, and theirs pass ours."""

import subprocess
import sys
from pathlib import Path

import pytest
from bundle_fakes import Shelf
from trust_fakes import NOW, Keys, copy_of

from slipway_bundle.errors import UsageError
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_bundle
from slipway_bundle.trust.dsse import SignatureError
from slipway_bundle.trust.models import attach_model_signature, read_model_signatures, sign_models
from slipway_bundle.trust.signatures import sign, verify_signatures


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def copy(tmp_path: Path, shelf: Shelf) -> Store:
    return copy_of(shelf, tmp_path / "copy")


def unpacked(store: Store, bundle: StoredBundle, folder: Path) -> Path:
    """The weights as they lie under `models/` in every layer."""
    for model in bundle.manifest.models:
        for file in model.files:
            with store.blob(file.layer).open("rb") as blob:  # type: ignore[arg-type]  # a digest, checked on reading
                blob.seek(file.offset)
                target = folder / model.name / file.path
                target.parent.mkdir(parents=True)
                target.write_bytes(blob.read(file.size))
    return folder


def model_signing(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The OpenSSF's own command."""
    command = [sys.executable, "-W", "ignore", "-m", "model_signing", "--log-level", "ERROR", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_our_model_signature_passes_the_command_of_the_openssf_and_not_for_other_weights(
    copy: Store, keys: Keys, tmp_path: Path
) -> None:
    bundle = read_bundle(copy, "tiny")
    models = unpacked(copy, bundle, tmp_path / "models")

    sign_models(copy, bundle, keys.signer("release"))

    (signature,) = read_model_signatures(copy, bundle, [keys.signer("release").key])[0]
    (tmp_path / "model.sig").write_bytes(signature.data)
    asked = ("verify", "key", str(models), "--signature", str(tmp_path / "model.sig"), "--public_key")
    good = model_signing(*asked, str(tmp_path / "release.pub"))
    assert good.returncode == 0, good.stderr
    file = next(path for path in models.rglob("*") if path.is_file())
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert model_signing(*asked, str(tmp_path / "release.pub")).returncode != 0


def test_a_model_signature_of_the_openssf_command_counts_here(copy: Store, keys: Keys, tmp_path: Path) -> None:
    bundle = read_bundle(copy, "tiny")
    models = unpacked(copy, bundle, tmp_path / "models")
    private, written = keys.make("release"), tmp_path / "model.sig"
    made = model_signing("sign", "key", str(models), "--signature", str(written), "--private_key", str(private))
    assert made.returncode == 0, made.stderr
    key = keys.signer("release").key

    attach_model_signature(copy, bundle, written.read_bytes(), [key])

    assert [each.key for each in read_model_signatures(copy, bundle, [key])[0]] == ["release"]
    with pytest.raises(SignatureError, match="unknown key"):
        attach_model_signature(copy, bundle, written.read_bytes(), [keys.signer("other").key])
    (models / "tiny" / "extra.bin").write_bytes(b"1")
    model_signing("sign", "key", str(models), "--signature", str(written), "--private_key", str(private))
    with pytest.raises(SignatureError, match=r"'tiny/extra\.bin'"):
        attach_model_signature(copy, bundle, written.read_bytes(), [key])


def test_a_model_signature_is_no_signature_of_the_bundle_nor_the_reverse(copy: Store, keys: Keys) -> None:
    bundle, signer = read_bundle(copy, "tiny"), keys.signer("release")

    first = sign_models(copy, bundle, signer)
    assert verify_signatures(copy, bundle.descriptor.digest, [signer.key], now=NOW) == ()
    assert sign_models(copy, bundle, signer) == first

    sign(copy, "tiny", signer, now=NOW)
    assert len(read_model_signatures(copy, bundle, [signer.key])[0]) == 1


def test_a_model_signature_takes_an_ecdsa_key(copy: Store, keys: Keys) -> None:
    with pytest.raises(UsageError, match="takes ECDSA keys: got ed25519"):
        sign_models(copy, read_bundle(copy, "tiny"), keys.signer("release", "ed25519"))
