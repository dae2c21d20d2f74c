"""OpenSSF model signing: one signature over a bundle's weights files, that other tools read without slipway.

It reads no weights: the manifest has each file's digest, and `verify` compares the two. The invariants: the files are
named `MODEL/PATH`, as they lie under `models/` in every layer, so a folder that was unpacked or mounted from the bundle
verifies with the `model_signing` command; only ECDSA keys sign in this form, because that command reads no others.
Source: https://github.com/ossf/model-signing-spec (v1.0); `model-signing` 1.1.1, whose statement this is.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from msgspec import Struct

from slipway_bundle.digest import Digest, digest_bytes, hex_of
from slipway_bundle.errors import UsageError
from slipway_bundle.manifest import Manifest
from slipway_bundle.oci import Descriptor
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle
from slipway_bundle.trust.dsse import SignatureError, open_statement, sign_statement
from slipway_bundle.trust.keys import Signer, TrustedKey
from slipway_bundle.trust.signed import attach_signed, attached
from slipway_bundle.trust.statements import decode_predicate, make_statement

__all__ = ["MODEL_SIGNATURE", "ModelSignature", "attach_model_signature", "read_model_signatures", "sign_models"]

MODEL_SIGNATURE: Final = "https://model_signing/signature/v1.0"


class _Resource(Struct, frozen=True, kw_only=True):
    name: str
    algorithm: str
    digest: str


class _Predicate(Struct, frozen=True, kw_only=True):
    serialization: dict[str, Any]
    resources: tuple[_Resource, ...]


class ModelSignature(Struct, frozen=True, kw_only=True):
    """A signature over the weights files, that counts."""

    key: str
    key_id: str
    descriptor: Descriptor
    data: bytes
    """The `model.sig` that the `model_signing` command reads."""


def sign_models(store: Store, bundle: StoredBundle, signer: Signer) -> Descriptor:
    """Signs the weights files of `bundle` and attaches the signature.

    Raises:
        UsageError: The key is not ECDSA.
        SignerError, HostError: As `signatures.sign`.
    """
    if signer.key.algorithm != "ecdsa-p256":
        raise UsageError(
            f"OpenSSF model signing takes ECDSA keys: got {signer.key.algorithm}, key {signer.key.name!r}",
            hint="sign with a key of `slipway keys new --algorithm ecdsa-p256`, or without the models' own signature",
        )
    for earlier in read_model_signatures(store, bundle, [signer.key])[0]:
        return earlier.descriptor
    resources = _resources(bundle.manifest)
    predicate = _Predicate(
        serialization={"method": "files", "hash_type": "sha256", "allow_symlinks": False}, resources=resources
    )
    name = bundle.manifest.name
    statement = make_statement(name, _root(resources), predicate_type=MODEL_SIGNATURE, predicate=predicate)
    return attach_signed(store, bundle.descriptor, sign_statement(statement, signer))


def attach_model_signature(
    store: Store, bundle: StoredBundle, data: bytes, keys: Sequence[TrustedKey]
) -> ModelSignature:
    """Attaches a `model.sig` that another tool made of the same weights, once it is verified.

    Raises:
        SignatureError: It is not signed by one of `keys`, or is of other files.
        HostError: Disk full, not allowed, busy.
    """
    key = _open(data, keys, bundle.manifest)
    return ModelSignature(
        key=key.name, key_id=key.id, descriptor=attach_signed(store, bundle.descriptor, data), data=data
    )


def read_model_signatures(
    store: Store, bundle: StoredBundle, keys: Sequence[TrustedKey]
) -> tuple[tuple[ModelSignature, ...], tuple[str, ...]]:
    """The signatures of `keys` over exactly the weights files of `bundle`, and why each other one does not count.

    Raises:
        IntegrityError: A referrer's manifest is missing or damaged.
    """
    found, reasons = [], []
    for item in attached(store, bundle.descriptor.digest):
        if item.predicate_type not in {"", MODEL_SIGNATURE}:
            continue
        try:
            key = _open(item.data, keys, bundle.manifest)
        except SignatureError as error:
            reasons.append(error.message)
            continue
        found.append(ModelSignature(key=key.name, key_id=key.id, descriptor=item.descriptor, data=item.data))
    return tuple(sorted(found, key=lambda item: (item.key, item.descriptor.digest))), tuple(reasons)


def _open(data: bytes, keys: Sequence[TrustedKey], manifest: Manifest) -> TrustedKey:
    opened = open_statement(data, keys)
    subject, predicate = decode_predicate(opened.statement, _Predicate, predicate_type=MODEL_SIGNATURE)
    form = predicate.serialization
    if (form.get("method"), form.get("hash_type")) != ("files", "sha256"):
        raise SignatureError(
            f"a model signature is over {form.get('method')!r} by {form.get('hash_type')!r}, expected files by sha256"
        )
    if subject.digest != {"sha256": hex_of(_root(predicate.resources))}:
        raise SignatureError("a model signature does not add up: its subject is not the digest of its files")
    got = {item.name: (item.algorithm, item.digest) for item in predicate.resources}
    expected = {item.name: (item.algorithm, item.digest) for item in _resources(manifest)}
    if len(got) != len(predicate.resources):
        raise SignatureError("a model signature names a file twice")
    for name in sorted(got.keys() | expected.keys()):
        if got.get(name) != expected.get(name):
            raise SignatureError(
                f"a model signature is over other files, at {name!r}: got {_shown(got.get(name))}, "
                f"expected {_shown(expected.get(name))}"
            )
    return opened.key


def _resources(manifest: Manifest) -> tuple[_Resource, ...]:
    files = {f"{model.name}/{file.path}": file.sha256 for model in manifest.models for file in model.files}
    ordered = sorted(files, key=lambda name: PurePosixPath(name).parts)
    return tuple(_Resource(name=name, algorithm="sha256", digest=files[name]) for name in ordered)


def _root(resources: Sequence[_Resource]) -> Digest:
    try:
        return digest_bytes(b"".join(bytes.fromhex(item.digest) for item in resources))
    except ValueError as error:
        raise SignatureError(f"a model signature has a digest that is not hexadecimal: {error}") from error


def _shown(file: tuple[str, str] | None) -> str:
    return "no such file" if file is None else f"{file[0]}:{file[1][:12]}"
