"""Evidence: all that a verdict stands on, in one document that recomputes to the same bytes.

It judges nothing (`judging` does) and starts nothing. The invariants: evidence is canonical JSON (RFC 8785), so equal
evidence has one digest; what was decided follows from the plan, the promises, the checks and the windows in it, and
from nothing else; what the clock says (`started`, `finished`) is kept and never judged. A signed file is
`{"evidence": …, "signature": …}`: the part between is the canonical evidence, and its digest is what is signed.
Source: in-toto Statement v1 in a DSSE envelope, as the signatures of bundles (`slipway_bundle.trust`).
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from slipway_bundle.canonical import canonical_json, decode_json
from slipway_bundle.digest import parse_digest
from slipway_bundle.errors import IntegrityError
from slipway_bundle.store_errors import JsonError
from slipway_signals.gate.margins import Promises
from slipway_signals.gate.plan import GatePlan
from slipway_signals.gate.records import Arm, Window
from slipway_signals.gate.verdict import Check, Criterion, Decision, Look

if TYPE_CHECKING:
    from slipway_bundle.trust.keys import Signer, TrustedKey

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "PREDICATE",
    "Evidence",
    "EvidenceError",
    "LoadEnd",
    "Opened",
    "Subject",
    "digest_of",
    "encode_evidence",
    "open_evidence",
    "sign_evidence",
]

FORMAT: Final = "slipway.gate.evidence/1"

PREDICATE: Final = "https://slipway.dev/gate/verdict/v1"

MAX_BYTES: Final = 64 * 1024 * 1024
"""An hour of windows of one second, with 20 metrics judged at each, has about 40 MB."""

Name = Annotated[str, Meta(min_length=1, max_length=253)]


class EvidenceError(IntegrityError):
    """A file is no evidence, or its decision does not follow from what is in it."""

    code = "evidence_invalid"


class Subject(Struct, frozen=True, kw_only=True):
    """Which step of which rollout this is about; a verdict counts for nothing else."""

    rollout: Name
    pod_hash: Name
    stage: Name


class LoadEnd(Struct, frozen=True, kw_only=True):
    """How the process that counted ended."""

    status: int | None
    """Exit status; None: windows came from a file, or nothing was started."""

    was_stopped: bool
    """Whether the gate ended it, because it had decided."""

    said: str = ""
    """Its last words on stderr, 500 characters at most."""

    @property
    def has_failed(self) -> bool:
        """Whether it ended by itself, and not well."""
        return not self.was_stopped and self.status not in {None, 0}


class Evidence(Struct, frozen=True, kw_only=True):
    """One comparison, from beginning to end."""

    format: Literal["slipway.gate.evidence/1"] = FORMAT
    subject: Subject | None = None
    started: str
    """RFC 3339, UTC."""

    finished: str
    versions: dict[str, str]
    """Of the programs that counted and judged."""

    plan: GatePlan
    promises: Promises | None
    checks: tuple[Check, ...]
    criteria: tuple[Criterion, ...]
    looks: tuple[Look, ...]
    decision: Decision
    load: LoadEnd
    windows: tuple[Window, ...]


class Opened(Struct, frozen=True, kw_only=True):
    """Evidence that was read."""

    evidence: Evidence
    data: bytes
    """Canonical, without a signature."""

    digest: str
    """Of `data`, sha256:…"""

    signer: str | None
    """Name of the key that signed it; None when it is not signed, or nobody asked."""


class Summary(Struct, frozen=True, kw_only=True):
    """What a signature says beside the digest of the evidence, for who lists signatures."""

    verdict: str
    subject: Subject | None
    digests: dict[Arm, str]
    """Arm -> who should have answered; a finding says when somebody else did."""


class _Signed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    evidence: msgspec.Raw
    signature: msgspec.Raw


def encode_evidence(evidence: Evidence) -> bytes:
    """Canonical JSON, without a final line feed.

    Raises:
        JsonError: It holds a number that canonical JSON does not.
    """
    return canonical_json(evidence)


def sign_evidence(evidence: Evidence, signer: "Signer") -> bytes:
    """The signed file, canonical JSON.

    Raises:
        SignerError: The key service does not answer or refuses.
    """
    from slipway_bundle.trust.dsse import sign_statement
    from slipway_bundle.trust.statements import make_statement

    data = encode_evidence(evidence)
    statement = make_statement(
        "gate evidence",
        parse_digest(digest_of(data)),
        predicate_type=PREDICATE,
        predicate=Summary(
            verdict=evidence.decision.verdict,
            subject=evidence.subject,
            digests=evidence.plan.digests,
        ),
    )
    # Both parts are canonical and the keys are in order: so is the whole.
    return b'{"evidence":' + data + b',"signature":' + sign_statement(statement, signer) + b"}"


def open_evidence(data: bytes, keys: Sequence["TrustedKey"] = ()) -> Opened:
    """Evidence, signed or not; with `keys`, one of them must have signed it.

    Raises:
        EvidenceError: It is no evidence, or not canonical.
        SignatureError: With keys: it is not signed by one of them, or what was signed is other evidence.
        SignerError: A keyless signature cannot be judged: no network, or no library.
    """
    inner, signature = data.rstrip(b"\n"), None
    if data.startswith(b'{"evidence":'):
        try:
            signed = msgspec.json.decode(data, type=_Signed)
        except msgspec.MsgspecError as error:
            raise EvidenceError(f"the file is no signed evidence: {error}") from error
        inner, signature = bytes(signed.evidence), bytes(signed.signature)
        if data.rstrip(b"\n") != b'{"evidence":' + inner + b',"signature":' + signature + b"}":
            raise EvidenceError("the signed evidence is not canonical JSON: there is more in it than its two parts")
    try:
        evidence = decode_json(inner, Evidence, what="the evidence", max_bytes=MAX_BYTES)
    except JsonError as error:
        raise EvidenceError(error.message, hint="`slipway gate run --evidence FILE` writes evidence") from error
    digest = digest_of(inner)
    signer = _signer(signature, digest, keys) if keys else None
    return Opened(evidence=evidence, data=inner, digest=digest, signer=signer)


def _signer(signature: bytes | None, digest: str, keys: Sequence["TrustedKey"]) -> str:
    from slipway_bundle.trust.dsse import SignatureError, open_statement
    from slipway_bundle.trust.statements import decode_statement

    if signature is None:
        raise SignatureError("the evidence is not signed", hint="`slipway gate run --key KEY` signs it")
    opened = open_statement(signature, keys)
    decode_statement(opened.statement, Summary, predicate_type=PREDICATE, subject=parse_digest(digest))
    return opened.key.name


def digest_of(data: bytes) -> str:
    """sha256:… of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
