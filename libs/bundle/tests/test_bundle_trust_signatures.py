"""Signatures: who signed which bundle, and everything that is not that."""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bundle_fakes import Shelf, edit
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trust_fakes import NOW, Keys, copy_of

from slipway_bundle.build import build
from slipway_bundle.canonical import canonical_json
from slipway_bundle.errors import FileError, UsageError
from slipway_bundle.referrers import referrers
from slipway_bundle.store import Store
from slipway_bundle.stored import read_bundle
from slipway_bundle.trust.dsse import BUNDLE_TYPE, SignatureError, open_statement, sign_statement
from slipway_bundle.trust.keyless import trusted_identity
from slipway_bundle.trust.keys import KeyFileError, SignerError, TrustedKey, load_key, load_signer, make_key
from slipway_bundle.trust.signatures import SIGNATURE, Signature, sign, verify_signatures
from slipway_bundle.trust.signed import attach_signed, attached
from slipway_bundle.trust.statements import decode_statement, make_statement


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def copy(tmp_path: Path, shelf: Shelf) -> Store:
    return copy_of(shelf, tmp_path / "copy")


def found(store: Store, *believed: TrustedKey) -> tuple[Signature, ...]:
    return verify_signatures(store, store.find("tiny").digest, believed, now=NOW)


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519"])
def test_a_signature_is_found_by_the_key_that_made_it_and_by_no_other(copy: Store, keys: Keys, algorithm: Any) -> None:
    signer, other = keys.signer("release", algorithm), keys.signer("other", algorithm)

    referrer = sign(copy, "tiny", signer, now=NOW)

    bundle = read_bundle(copy, "tiny")
    (signature,) = found(copy, other.key, signer.key)
    assert (signature.key, signature.key_id) == ("release", signer.key.id)
    assert (signature.subject, signature.signed_at) == (f"tiny:{bundle.manifest.version}", NOW)
    assert signature.descriptor == referrer
    assert referrers(copy, bundle.descriptor.digest, artifact_type=BUNDLE_TYPE) == (referrer,)
    assert found(copy, other.key) == ()
    assert found(copy) == ()


def test_the_statement_names_the_index_and_the_content(copy: Store, keys: Keys) -> None:
    sign(copy, "tiny", keys.signer("release"), now=NOW)

    bundle = read_bundle(copy, "tiny")
    (item,) = attached(copy, bundle.descriptor.digest)
    statement = json.loads(base64.b64decode(json.loads(item.data)["dsseEnvelope"]["payload"]))
    assert statement == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": f"tiny:{bundle.manifest.version}", "digest": {"sha256": bundle.digest[7:]}}],
        "predicateType": SIGNATURE,
        "predicate": {"contentDigest": bundle.manifest.content_digest, "signedAt": "2026-11-22T12:00:00Z"},
    }


def test_signing_again_adds_nothing_while_the_first_signature_counts(copy: Store, keys: Keys) -> None:
    signer = keys.signer("release")
    first = sign(copy, "tiny", signer, now=NOW, lasts=timedelta(days=1))

    assert sign(copy, "tiny", signer, now=NOW + timedelta(hours=23)) == first
    assert sign(copy, "tiny", signer, now=NOW + timedelta(days=2)) != first


def test_a_signature_counts_until_it_expires_and_a_key_until_its_last_day(copy: Store, keys: Keys) -> None:
    signer = keys.signer("release")
    sign(copy, "tiny", signer, now=NOW, lasts=timedelta(days=7))
    digest = copy.find("tiny").digest

    def count(days: float, until: Any = None) -> int:
        key = load_key(keys.folder / "release.pub", until=until)
        return len(verify_signatures(copy, digest, [key], now=NOW + timedelta(days=days)))

    assert [count(6.9), count(7.1), count(-0.1)] == [1, 0, 0]
    assert [count(1, (NOW + timedelta(days=1)).date()), count(2, (NOW + timedelta(days=1)).date())] == [1, 0]


def test_a_signature_of_another_bundle_proves_nothing(copy: Store, folder: Path, keys: Keys) -> None:
    signer = keys.signer("release")
    sign(copy, "tiny", signer, now=NOW)
    signed = read_bundle(copy, "tiny")
    edit(folder / "slipway.toml", 'name = "tiny"', 'name = "twin"')
    build(folder, copy, environ={})
    (item,) = attached(copy, signed.descriptor.digest)

    attach_signed(copy, read_bundle(copy, "twin").descriptor, item.data)

    assert verify_signatures(copy, copy.find("twin").digest, [signer.key], now=NOW) == ()


def test_a_statement_of_another_kind_is_no_signature(copy: Store, keys: Keys) -> None:
    signer, bundle = keys.signer("release"), read_bundle(copy, "tiny")
    statement = make_statement("tiny", bundle.descriptor.digest, predicate_type="https://example.org/v1", predicate={})

    attach_signed(copy, bundle.descriptor, sign_statement(statement, signer))

    assert found(copy, signer.key) == ()


def test_a_predicate_is_handed_out_only_as_what_it_is(shelf: Shelf) -> None:
    digest = shelf.store.find("tiny").digest
    statement = make_statement("tiny", digest, predicate_type="https://example.org/v1", predicate={"a": 1})

    assert decode_statement(statement, dict, predicate_type="https://example.org/v1", subject=digest)[1] == {"a": 1}
    with pytest.raises(SignatureError, match=r"is a 'https://example\.org/v1', expected a"):
        decode_statement(statement, dict, predicate_type=SIGNATURE, subject=digest)


def test_rubbish_beside_a_signature_takes_nothing_away(copy: Store, keys: Keys) -> None:
    signer, bundle = keys.signer("release"), read_bundle(copy, "tiny")
    sign(copy, "tiny", keys.signer("stranger"), now=NOW)
    sign(copy, "tiny", signer, now=NOW)
    for item in attached(copy, bundle.descriptor.digest):
        half = json.loads(item.data)
        half["dsseEnvelope"]["payload"] = "e30="
        with pytest.raises(SignatureError):
            attach_signed(copy, bundle.descriptor, canonical_json(half))

    assert [each.key for each in found(copy, signer.key)] == ["release"]


def other_bits(text: str) -> str:
    """The same bytes in base64 of another spelling: the unused bits of the last digit."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stem = text.rstrip("=")
    return stem[:-1] + digits[digits.index(stem[-1]) ^ 1] + text[len(stem) :]


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        document = json.loads(data)
        change(document)
        return json.dumps(document).encode()

    return apply


def another_statement(held: dict[str, Any]) -> None:
    envelope = held["dsseEnvelope"]
    statement = base64.b64decode(envelope["payload"]).replace(b"tiny 12", b"tiny 13")
    envelope["payload"] = base64.b64encode(statement).decode()


def signed_by_a_stranger(held: dict[str, Any]) -> None:
    """And still under the hint of the key that is believed."""
    envelope = held["dsseEnvelope"]
    statement = base64.b64decode(envelope["payload"])
    private = Ed25519PrivateKey.generate()
    signature = private.sign(b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(statement), statement))
    envelope["signatures"] = [{"sig": base64.b64encode(signature).decode()}]


VARIANTS: dict[str, Callable[[bytes], bytes]] = {
    "another spelling of base64": edited(
        lambda it: it["dsseEnvelope"].update(payload=other_bits(it["dsseEnvelope"]["payload"]))
    ),
    "another spelling of the signature": edited(
        lambda it: it["dsseEnvelope"]["signatures"][0].update(
            sig=other_bits(it["dsseEnvelope"]["signatures"][0]["sig"])
        )
    ),
    "another statement": edited(another_statement),
    "a stranger's signature": edited(signed_by_a_stranger),
    "two signatures": edited(lambda it: it["dsseEnvelope"]["signatures"].append(it["dsseEnvelope"]["signatures"][0])),
    "no signature": edited(lambda it: it["dsseEnvelope"]["signatures"].clear()),
    "an unknown field": edited(lambda it: it.update(note="")),
    "another payload type": edited(lambda it: it["dsseEnvelope"].update(payloadType="text/plain")),
    "another media type": edited(lambda it: it.update(mediaType="application/vnd.dev.sigstore.bundle.v0.4+json")),
    "another hint": edited(lambda it: it["verificationMaterial"]["publicKey"].update(hint="0" * 64)),
    "no hint": edited(lambda it: it["verificationMaterial"]["publicKey"].clear()),
    "a certificate": edited(lambda it: it["verificationMaterial"].update(publicKey=None, certificate={"rawBytes": ""})),
    "a duplicate key": lambda data: data.replace(b'"payloadType":', b'"payloadType":"x","payloadType":'),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "half of it": lambda data: data[: len(data) // 2],
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_of_a_signed_statement_cannot_be_opened(name: str, keys: Keys, shelf: Shelf) -> None:
    # 3 bytes short of a multiple, so that base64 has unused bits
    statement = make_statement("tiny 12", shelf.store.find("tiny").digest, predicate_type=SIGNATURE, predicate={})
    signer = keys.signer("release", "ed25519")
    data = sign_statement(statement + b" " * ((1 - len(statement)) % 3), signer)
    assert open_statement(data, [signer.key]).key == signer.key
    variant = VARIANTS[name](data)
    assert variant != data

    with pytest.raises(SignatureError):
        open_statement(variant, [signer.key])


def test_a_genuine_signature_over_another_kind_of_payload_is_none(keys: Keys, shelf: Shelf) -> None:
    signer = keys.signer("release")
    statement = make_statement("x", shelf.store.find("tiny").digest, predicate_type=SIGNATURE, predicate={})
    held = json.loads(sign_statement(statement, signer))
    signature = signer.sign(b"DSSEv1 16 application/json %d %b" % (len(statement), statement))
    held["dsseEnvelope"]["payloadType"] = "application/json"
    held["dsseEnvelope"]["signatures"] = [{"sig": base64.b64encode(signature).decode()}]

    with pytest.raises(SignatureError, match="a signed payload is 'application/json'"):
        open_statement(json.dumps(held).encode(), [signer.key])


def test_an_encrypted_key_needs_its_password(tmp_path: Path) -> None:
    secret, public = make_key("ed25519", password="correct horse")
    (tmp_path / "k.key").write_bytes(secret)
    (tmp_path / "k.pub").write_bytes(public)
    uri = f"file:{tmp_path / 'k.key'}"

    signer = load_signer(uri, environ={"SLIPWAY_KEY_PASSWORD": "correct horse"})
    assert signer.key == load_key(tmp_path / "k.pub")
    assert b"ENCRYPTED" in secret
    for environ, said in (({}, "no password was given"), ({"SLIPWAY_KEY_PASSWORD": "battery"}, "not its password")):
        with pytest.raises(KeyFileError, match=said) as refused:
            load_signer(uri, environ=environ)
        assert "battery" not in str(refused.value)


def test_what_is_no_key_of_a_known_kind_is_refused(tmp_path: Path, keys: Keys) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    for name, private in (
        ("rsa", rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        ("p384", ec.generate_private_key(ec.SECP384R1())),
    ):
        pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / name).write_bytes(pem)
        with pytest.raises(KeyFileError, match="expected ECDSA on P-256 or Ed25519"):
            load_key(tmp_path / name)
    with pytest.raises(KeyFileError, match="is a private key, expected a public one"):
        load_key(keys.make("release"))
    (tmp_path / "long").write_bytes(bytes(20_000))
    with pytest.raises(KeyFileError, match="too long"):
        load_key(tmp_path / "long")
    with pytest.raises(FileError):
        load_key(tmp_path / "nowhere")


def test_a_key_service_of_securesystemslib_signs_what_the_public_key_verifies(copy: Store, keys: Keys) -> None:
    """Its signer for files goes the way of the cloud services, which are not executed in CI."""
    keys.make("release")
    public = keys.folder / "release.pub"

    signer = load_signer(f"file2:{keys.folder / 'release.key'}", environ={}, public=public)
    sign(copy, "tiny", signer, now=NOW)

    assert [each.key for each in found(copy, load_key(public))] == ["release"]


def test_a_key_service_that_cannot_be_used_says_what_to_do(keys: Keys) -> None:
    keys.make("release")
    keys.make("other")
    public = keys.folder / "release.pub"

    with pytest.raises(SignerError, match="not installed"):
        load_signer("hv:release/1", environ={}, public=public)
    with pytest.raises(UsageError, match="without its public key"):
        load_signer("awskms:alias/release", environ={})
    with pytest.raises(UsageError, match="'gpgg' is not known"):
        load_signer("gpgg:1", environ={}, public=public)
    with pytest.raises(UsageError, match="does not match public key"):
        load_signer(f"file2:{keys.folder / 'release.key'}", environ={}, public=keys.folder / "other.pub")


def test_a_signature_in_the_form_of_cosign_counts(copy: Store, keys: Keys) -> None:
    """No name, an empty predicate, and a hint of its own kind (cosign 3.1.3, `signDigestBundle`)."""
    signer, bundle = keys.signer("release"), read_bundle(copy, "tiny")
    document = json.loads(make_statement("", bundle.descriptor.digest, predicate_type=SIGNATURE, predicate={}))
    del document["subject"][0]["name"]
    made = json.loads(sign_statement(json.dumps(document).encode(), signer))
    der = base64.b64decode("".join(signer.key.pem.decode().splitlines()[1:-1]))
    hint = base64.b64encode(hashlib.sha256(der).digest()).decode()
    made["verificationMaterial"]["publicKey"]["hint"] = hint
    del made["verificationMaterial"]["tlogEntries"]

    attach_signed(copy, bundle.descriptor, json.dumps(made).encode())

    assert [(each.key, each.subject) for each in found(copy, signer.key)] == [("release", "")]


def test_a_certificate_counts_only_for_an_identity_that_is_named(shelf: Shelf, keys: Keys) -> None:
    statement = make_statement("x", shelf.store.find("tiny").digest, predicate_type=SIGNATURE, predicate={})
    held = json.loads(sign_statement(statement, keys.signer("release")))
    held["verificationMaterial"] = {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": []}
    data = json.dumps(held).encode()

    with pytest.raises(SignatureError, match="no key with an `identity` is believed"):
        open_statement(data, [keys.signer("release").key])
    named = trusted_identity("ci@example.com", "https://id.example.com", name="ci")
    with pytest.raises(SignatureError, match=r"not signed by 'ci@example\.com' of 'https://id\.example\.com'"):
        open_statement(data, [named])
    with pytest.raises(SignerError, match="is no identity token"):
        load_signer("keyless:", environ={"SLIPWAY_ID_TOKEN": "ey.no.token"})
