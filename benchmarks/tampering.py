"""Tampering with a signed bundle, one way a function: damage, and what an attacker without a key can do.

It judges nothing: `tamper.py` counts what is refused. The invariant: a change replaces blobs and never writes into
them, because the copies of a store share their files.
"""

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from slipway_bundle.canonical import canonical_json
from slipway_bundle.digest import Digest, digest_bytes
from slipway_bundle.oci import Descriptor
from slipway_bundle.policy import Policy
from slipway_bundle.referrers import attach
from slipway_bundle.store import Store
from slipway_bundle.trust.approvals import APPROVAL, approve
from slipway_bundle.trust.dsse import BUNDLE_TYPE, read_unverified, sign_statement
from slipway_bundle.trust.keys import Signer
from slipway_bundle.trust.models import MODEL_SIGNATURE
from slipway_bundle.trust.signatures import SIGNATURE
from slipway_bundle.trust.signing import sign_release

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
EMPTY = digest_bytes(b"{}")


class Original(NamedTuple):
    """What is tampered with."""

    store: Store
    policy: Policy
    ref: str
    digest: Digest
    bundles: tuple[bytes, ...]
    """The sigstore bundles beside it."""

    other: tuple[bytes, ...]
    """Those beside the second bundle."""

    release: Signer
    ann: Signer
    stranger: Signer


class Variant(NamedTuple):
    """A store to judge, and when."""

    kind: str
    days: float = 0


Change = Callable[[Store, Original, random.Random], Variant]


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(data: bytes, draw: random.Random) -> bytes:
    """One bit."""
    changed = bytearray(data)
    place = draw.randrange(len(changed))
    changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def replace_file(path: Path, data: bytes) -> None:
    """Another file under that name."""
    path.unlink()
    path.write_bytes(data)


def flip_blob(store: Store, _: Original, draw: random.Random) -> Variant:
    """A bit of any blob that the bundle or what refers to it reaches."""
    blobs = {reached.digest for entry in store.entries() for reached in store.walk(entry)} - {EMPTY}
    path = store.blob(draw.choice(sorted(blobs)))
    replace_file(path, flip(path.read_bytes(), draw))
    return Variant("a bit of a blob")


def cut_blob(store: Store, original: Original, draw: random.Random) -> Variant:
    """The end of a blob."""
    blobs = {reached.digest for reached in store.walk(store.find(original.ref).descriptor)} - {EMPTY}
    path = store.blob(draw.choice(sorted(blobs)))
    data = path.read_bytes()
    replace_file(path, data[: draw.randrange(len(data))])
    return Variant("the end of a blob")


def flip_listing(store: Store, _: Original, draw: random.Random) -> Variant:
    """A bit of a digest in `index.json`."""
    text = store.layout.index.read_bytes()
    starts = [place for place in range(len(text)) if text.startswith(b'"digest":"sha256:', place)]
    place = draw.choice(starts) + len(b'"digest":"sha256:') + draw.randrange(64)
    changed = bytearray(text)
    changed[place] ^= 1 << draw.randrange(7)
    store.layout.index.write_bytes(bytes(changed))
    return Variant("a bit of a digest in index.json")


# -- an attacker without a key -----------------------------------------------------------------------------------------


def republish(store: Store, original: Original, index: dict[str, Any]) -> Descriptor:
    """Another index under the same name, with all the statements attached anew."""
    descriptor = store.put_bytes(canonical_json(index), index["mediaType"])
    store.delete(original.ref)
    store.publish(original.ref, descriptor)
    for data in original.bundles:
        attach(store, descriptor, artifact_type=BUNDLE_TYPE, blobs=[(data, BUNDLE_TYPE)])
    return descriptor


def document(store: Store, digest: str) -> dict[str, Any]:
    """The JSON in a blob."""
    found: dict[str, Any] = json.loads(store.read(Digest(digest)))
    return found


def put(store: Store, descriptor: dict[str, Any], data: bytes) -> None:
    """Other bytes under a descriptor."""
    stored = store.put_bytes(data)
    descriptor |= {"digest": stored.digest, "size": stored.size}


def change_document(store: Store, original: Original, draw: random.Random) -> Variant:
    """The index or a child, consistently: order, annotations, children and layers."""
    index = document(store, original.digest)
    what = draw.choice(["order", "less", "annotation", "layer order", "layer lost", "layer twice", "role"])
    child = index["manifests"][1]  # the model: its layers are the weights
    inner = document(store, child["digest"])
    match what:
        case "order":
            index["manifests"].reverse()
        case "less":
            index["manifests"].pop()
        case "annotation":
            index["annotations"]["org.opencontainers.image.revision"] = f"{draw.randrange(2**32):x}"
        case "layer order":
            inner["layers"] = [*inner["layers"][::-1], {**inner["layers"][0], "annotations": {"x": str(draw.random())}}]
        case "layer lost":
            inner["layers"] = inner["layers"][:-1]
            inner["annotations"] = {"x": str(draw.random())}
        case "layer twice":
            inner["layers"] = [*inner["layers"], inner["layers"][0]]
        case "role":
            index["manifests"][2]["annotations"]["io.slipway.role"] = "image"
    put(store, child, canonical_json(inner))
    republish(store, original, index)
    return Variant(f"rewritten index: {what}")


def change_content(store: Store, original: Original, draw: random.Random) -> Variant:
    """A bit of the code, the weights or an attachment, with every digest above it written again."""
    index = document(store, original.digest)
    child = index["manifests"][draw.randrange(2)]
    inner = document(store, child["digest"])
    layer = draw.choice(inner["layers"])
    put(store, layer, flip(store.blob(layer["digest"]).read_bytes(), draw))
    put(store, child, canonical_json(inner))
    republish(store, original, index)
    return Variant("a bit of a layer, rewritten upwards")


def change_manifest(store: Store, original: Original, draw: random.Random) -> Variant:
    """A field of `slipway.json`, with every digest above it written again."""
    index = document(store, original.digest)
    inner = document(store, index["manifests"][0]["digest"])
    manifest = document(store, inner["config"]["digest"])
    field = draw.choice(["version", "licenses", "labels", "created"])
    values = {"version": f"1.{draw.random()}", "licenses": ["MIT"], "labels": {"x": str(draw.random())}}
    manifest[field] = values.get(field, "2030-01-01T00:00:00Z")
    put(store, inner["config"], canonical_json(manifest))
    put(store, index["manifests"][0], canonical_json(inner))
    republish(store, original, index)
    return Variant(f"slipway.json: {field}")


def other_version(store: Store, digest: str, version: str) -> Descriptor:
    """The same bundle under another version: another index, that is as right as the first."""
    index = document(store, digest)
    inner = document(store, index["manifests"][0]["digest"])
    manifest = document(store, inner["config"]["digest"])
    manifest["version"] = version
    put(store, inner["config"], canonical_json(manifest))
    put(store, index["manifests"][0], canonical_json(inner))
    return store.put_bytes(canonical_json(index), index["mediaType"])


def subject(store: Store, original: Original) -> Descriptor:
    """The bundle's own index."""
    return store.find(original.ref).descriptor


def strip(store: Store, kinds: set[str]) -> None:
    """The listing without the statements of these kinds."""
    kept = []
    for entry in store.entries():
        annotations = {}
        if entry.annotations.get("io.slipway.role") == "referrer":
            annotations = document(store, entry.digest)["annotations"]
        if annotations.get("dev.sigstore.bundle.predicateType") not in kinds:
            kept.append(entry)
    store.layout.write_index(kept)


ALL = {SIGNATURE, MODEL_SIGNATURE, APPROVAL}


def stripped(store: Store, _: Original, draw: random.Random) -> Variant:
    """Without one, two or all kinds of statement."""
    kinds = set(draw.sample(sorted(ALL), draw.randint(1, 3)))
    strip(store, kinds)
    return Variant(f"stripped of {len(kinds)} kinds of statement")


def reattach(store: Store, original: Original, bundles: Iterator[bytes]) -> None:
    """Only these statements beside the bundle."""
    strip(store, ALL)
    for data in bundles:
        attach(store, subject(store, original), artifact_type=BUNDLE_TYPE, blobs=[(data, BUNDLE_TYPE)])


def replayed(store: Store, original: Original, draw: random.Random) -> Variant:
    """One or all of another bundle's statements in the place of its own."""
    own = {kind_of(data): data for data in original.bundles}
    other = {kind_of(data): data for data in original.other}
    kinds = draw.choice([[SIGNATURE], [APPROVAL], [SIGNATURE, APPROVAL]])
    own |= {kind: other[kind] for kind in kinds}
    reattach(store, original, iter(own.values()))
    return Variant("statements of another bundle")


def kind_of(data: bytes) -> str:
    """A statement's predicate type."""
    found: str = json.loads(read_unverified(data))["predicateType"]
    return found


def flip_statement(store: Store, original: Original, draw: random.Random) -> Variant:
    """A bit of one sigstore bundle, attached consistently."""
    bundles = list(original.bundles)
    place = draw.randrange(len(bundles))
    bundles[place] = flip(bundles[place], draw)
    reattach(store, original, iter(bundles))
    return Variant("a bit of a sigstore bundle")


def changed_bundle(store: Store, original: Original, draw: random.Random) -> Variant:
    """Another form of one sigstore bundle."""
    bundles = list(original.bundles)
    place = draw.randrange(len(bundles))
    held = json.loads(bundles[place])
    envelope = held["dsseEnvelope"]
    what = draw.choice(["twice", "none", "type", "media", "hint", "field", "key twice", "swap", "cut"])
    match what:
        case "twice":
            envelope["signatures"] *= 2
        case "none":
            envelope["signatures"] = []
        case "type":
            envelope["payloadType"] = draw.choice(["application/json", "application/vnd.in-toto+json;v=1", ""])
        case "media":
            held["mediaType"] = held["mediaType"].replace("0.3", f"0.{draw.randrange(4, 99)}")
        case "hint":
            held["verificationMaterial"]["publicKey"]["hint"] = original.stranger.key.id
        case "field":
            envelope["note"] = str(draw.random())
        case "swap":
            other = json.loads(bundles[place - 1])["dsseEnvelope"]
            envelope["signatures"] = other["signatures"]
    data = canonical_json(held)
    if what == "key twice":
        data = data.replace(b'"payloadType":', b'"payloadType":"text/plain","payloadType":')
    if what == "cut":
        data = data[: draw.randrange(len(data))]
    bundles[place] = data
    reattach(store, original, iter(bundles))
    return Variant(f"a sigstore bundle: {what}")


def resigned(store: Store, original: Original, draw: random.Random) -> Variant:
    """Genuine statements by the wrong key, also under the right key's hint."""
    what = draw.choice(["stranger", "stranger under another's hint", "release approves", "ann signs"])
    bundles = []
    for data in original.bundles:
        statement, kind = read_unverified(data), kind_of(data)
        signer = original.ann if kind == APPROVAL else original.release
        if what.startswith("stranger"):
            signer = original.stranger
        elif what == "release approves" and kind == APPROVAL:
            signer = original.release
        elif what == "ann signs" and kind == SIGNATURE:
            signer = original.ann
        again = json.loads(sign_statement(statement, signer))
        if what.endswith("hint"):
            again["verificationMaterial"]["publicKey"]["hint"] = original.release.key.id
        bundles.append(canonical_json(again))
    reattach(store, original, iter(bundles))
    return Variant(f"signed by the wrong key: {what}")


def restated(store: Store, original: Original, draw: random.Random) -> Variant:
    """Statements that the right key signed, and that say something else."""
    what = draw.choice(
        ["predicate", "no subject", "two subjects", "another subject", "old", "future", "expired", "type"]
    )
    bundles = []
    for data in original.bundles:
        statement, kind = json.loads(read_unverified(data)), kind_of(data)
        if kind == SIGNATURE:
            restate(statement, what, draw)
        bundles.append(sign_statement(canonical_json(statement), original.release) if kind == SIGNATURE else data)
    reattach(store, original, iter(bundles))
    return Variant(f"signed, and says something else: {what}")


def restate(statement: dict[str, Any], what: str, draw: random.Random) -> None:
    """Makes a signature's statement one that must not count."""
    at = {"old": -91, "future": 1, "expired": -10}.get(what)
    match what:
        case "predicate":
            statement["predicateType"] = draw.choice([APPROVAL, "https://slsa.dev/provenance/v1", SIGNATURE + "1"])
        case "no subject":
            statement["subject"] = []
        case "two subjects":
            statement["subject"] *= 2
        case "another subject":
            statement["subject"][0]["digest"] = {"sha256": f"{draw.randrange(2**256):064x}"}
        case "type":
            statement["_type"] = "https://in-toto.io/Statement/v0.1"
        case _ if at is not None:
            moment = NOW + timedelta(days=at)
            statement["predicate"]["signedAt"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
            if what == "expired":
                statement["predicate"]["expires"] = f"{moment + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"


def late(_: Store, __: Original, draw: random.Random) -> Variant:
    """Nothing was changed, and the signature is too old, or of a day to come."""
    return Variant("judged on another day", days=draw.choice([draw.uniform(90.1, 9000), draw.uniform(-9000, -0.1)]))


def renamed(store: Store, original: Original, draw: random.Random) -> Variant:
    """Another bundle that was signed by the right key, under this one's name."""
    version = str(draw.randrange(10**9))
    name = f"{original.ref.partition(':')[0]}:{version}"
    descriptor = other_version(store, original.digest, version)
    store.publish(name, descriptor)
    sign_release(store, name, original.release, now=NOW)
    approve(store, name, original.ann, now=NOW)
    store.delete(original.ref)
    store.publish(original.ref, descriptor)
    return Variant("another signed version under this name")


def lied(store: Store, original: Original, draw: random.Random) -> Variant:
    """A listing that claims another bundle's signatures for a changed one."""
    index = document(store, original.digest)
    index["annotations"]["org.opencontainers.image.revision"] = f"{draw.randrange(2**64):x}"
    descriptor = store.put_bytes(canonical_json(index), index["mediaType"])
    store.delete(original.ref)
    store.publish(original.ref, descriptor)
    written = store.layout.index.read_text()
    store.layout.index.write_text(written.replace(f'subject":"{original.digest}', f'subject":"{descriptor.digest}'))
    return Variant("a listing with another subject")


CHANGES: tuple[Change, ...] = (
    flip_blob,
    flip_statement,
    change_document,
    change_content,
    change_manifest,
    changed_bundle,
    restated,
    resigned,
    flip_statement,
    replayed,
    stripped,
    cut_blob,
    flip_blob,
    flip_listing,
    renamed,
    lied,
    late,
)
"""In turns; bits of blobs and of statements twice as often."""
