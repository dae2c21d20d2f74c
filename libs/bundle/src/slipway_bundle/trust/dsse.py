"""Signed statements: DSSE envelopes in sigstore bundles (v0.3), signed by a key.

It knows no statement's meaning: `statements.py` does. The invariants: what is parsed is what was signed, and the bytes
around it have one form only, so no variant of a bundle verifies beside the original (base64 is canonical, JSON is
strict, unknown fields are refused, the hint is the key's); which key verifies is the reader's choice, never the
bundle's.
Source: https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md; sigstore protobuf-specs, bundle v0.3;
the bundle specification of cosign. cosign 3 and OpenSSF model-signing read and write the same form.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from slipway_bundle.canonical import canonical_json, decode_json
from slipway_bundle.errors import IntegrityError
from slipway_bundle.store_errors import JsonError
from slipway_bundle.trust.keyless import KeylessError, KeylessSigner, open_keyless
from slipway_bundle.trust.keys import Signer, TrustedKey, is_genuine

__all__ = [
    "BUNDLE_TYPE",
    "STATEMENT_TYPE",
    "Opened",
    "SignatureError",
    "open_statement",
    "read_unverified",
    "sign_statement",
]

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE = "application/vnd.in-toto+json"


class SignatureError(IntegrityError):
    """Something that should be a signed statement is none, or is not signed by a key that is believed."""

    code = "signature_invalid"


class Opened(Struct, frozen=True, kw_only=True):
    """A statement whose signature was verified."""

    statement: bytes
    key: TrustedKey


class _Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """A field that nobody knows is refused. Entries of a transparency log are let through, and not believed."""


class _PublicKey(_Record, frozen=True, kw_only=True):
    hint: str = ""


class _Material(_Record, frozen=True, kw_only=True):
    public_key: _PublicKey | None = None
    certificate: dict[str, str] | None = None
    x509_certificate_chain: dict[str, Any] | None = None
    tlog_entries: tuple[dict[str, Any], ...] | None = None
    timestamp_verification_data: dict[str, Any] | None = None


class _Signature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    sig: str
    keyid: str = ""


class _Envelope(_Record, frozen=True, kw_only=True):
    payload: str
    payload_type: str
    signatures: tuple[_Signature, ...]


class _Bundle(_Record, frozen=True, kw_only=True):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope | None = None
    message_signature: dict[str, Any] | None = None


def sign_statement(statement: bytes, signer: Signer) -> bytes:
    """The sigstore bundle of a statement (in-toto JSON), signed; canonical JSON.

    Raises:
        SignerError: The key service does not answer or refuses.
    """
    if isinstance(signer, KeylessSigner):
        return signer.sign_statement(statement)
    signature = _Signature(sig=base64.b64encode(signer.sign(_encode(STATEMENT_TYPE, statement))).decode())
    envelope = _Envelope(
        payload=base64.b64encode(statement).decode(), payload_type=STATEMENT_TYPE, signatures=(signature,)
    )
    material = _Material(public_key=_PublicKey(hint=signer.key.id), tlog_entries=())
    return canonical_json(_Bundle(media_type=BUNDLE_TYPE, verification_material=material, dsse_envelope=envelope))


def open_statement(data: bytes, keys: Sequence[TrustedKey]) -> Opened:
    """The statement in a sigstore bundle, when one of `keys` signed it.

    Args:
        data: The bundle's JSON.
        keys: Whose signature counts; none means nothing can be opened.

    Raises:
        SignatureError: It is no such bundle, or none of `keys` signed it; the message says which key the bundle names.
        SignerError: A keyless signature cannot be judged: no network, or no library.
    """
    bundle, envelope, statement = _decode(data)
    public = bundle.verification_material.public_key
    if public is None:
        return _open_keyless(data, keys)
    signature = _debase(envelope.signatures[0].sig, "signature")
    message = _encode(envelope.payload_type, statement)
    for key in keys:
        if key.pem and public.hint in _hints(key) and is_genuine(key, signature, message):
            return Opened(statement=statement, key=key)
    known = ", ".join(f"{key.name} ({key.id[:12]})" for key in keys) or "none"
    named = next((key for key in keys if key.pem and public.hint in _hints(key)), None)
    if named is not None:
        raise SignatureError(
            f"the signature is not one of the key {named.name!r}, which it names: the statement or the signature was "
            "changed",
            got=public.hint,
        )
    raise SignatureError(
        f"the statement is signed by an unknown key: got {public.hint[:12] or 'no hint'}, expected one of {known}",
        got=public.hint,
    )


def _open_keyless(data: bytes, keys: Sequence[TrustedKey]) -> Opened:
    reasons = []
    for key in keys:
        if key.identity is None:
            continue
        try:
            return Opened(statement=open_keyless(data, key), key=key)
        except KeylessError as error:
            reasons.append(error.message)
    raise SignatureError(
        "the signature is by a certificate: " + ("; ".join(reasons) or "no key with an `identity` is believed"),
        hint="`[keys.NAME]` of policy.toml names an `identity` and its `issuer`",
    )


def read_unverified(data: bytes) -> bytes:
    """The statement in a sigstore bundle, which nobody has verified: for listings, never for decisions.

    Raises:
        SignatureError: It is no such bundle.
    """
    return _decode(data)[2]


def _decode(data: bytes) -> tuple[_Bundle, _Envelope, bytes]:
    try:
        bundle = decode_json(data, _Bundle, what="a sigstore bundle")
    except JsonError as error:
        raise SignatureError(error.message) from error
    if bundle.media_type != BUNDLE_TYPE:
        raise SignatureError(f"a signature has the media type {bundle.media_type!r}, expected {BUNDLE_TYPE!r}")
    envelope = bundle.dsse_envelope
    if envelope is None or bundle.message_signature is not None:
        raise SignatureError("a sigstore bundle has no DSSE envelope, expected a signed statement")
    if envelope.payload_type != STATEMENT_TYPE:
        raise SignatureError(f"a signed payload is {envelope.payload_type!r}, expected {STATEMENT_TYPE!r}")
    if len(envelope.signatures) != 1:
        # Bundle v0.3: "DSSE envelopes in a bundle MUST have exactly one signature".
        raise SignatureError(f"a DSSE envelope has {len(envelope.signatures)} signatures, expected one")
    return bundle, envelope, _debase(envelope.payload, "payload")


def _encode(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _debase(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"the {what} in a sigstore bundle is not base64: {error}") from error
    if base64.b64encode(data).decode() != text:
        # Two texts that decode to the same bytes: the unused bits of the last digit.
        raise SignatureError(f"the {what} in a sigstore bundle is not canonical base64")
    return data


def _hints(key: TrustedKey) -> tuple[str, str]:
    """How signers name their key: we and model-signing by the digest of the PEM, cosign by that of the DER."""
    der = base64.b64decode(b"".join(key.pem.splitlines()[1:-1]))
    return key.id, base64.b64encode(hashlib.sha256(der).digest()).decode()
