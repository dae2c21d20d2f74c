"""Statements about a bundle that are no signature of it: in-toto attestations, kept beside it as referrers.

It knows no predicate (`provenance.py` and `scan/attested.py` do) and no cryptography (`trust` does). The invariants: a
statement counts only for the bundle that it names by digest; with a signer it is stored in a signed envelope, and no
unsigned copy beside it; whoever asks with keys is shown what those keys signed, and nothing else.
Source: in-toto Attestation Framework, Statement v1; cosign's bundle specification for the annotations.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from slipway_bundle.digest import Digest
from slipway_bundle.errors import IntegrityError
from slipway_bundle.oci import Descriptor, ImageManifest
from slipway_bundle.referrers import attach, referrers

if TYPE_CHECKING:
    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import Signer, TrustedKey

__all__ = ["ENVELOPE_TYPE", "STATEMENT_TYPE", "Attested", "attach_statement", "read_statements"]

STATEMENT_TYPE: Final = "application/vnd.in-toto+json"
"""Artifact type of an unsigned statement."""

ENVELOPE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
"""Artifact type of a signed one: DSSE in a sigstore bundle."""

PREDICATE: Final = "dev.sigstore.bundle.predicateType"
CONTENT: Final = "dev.sigstore.bundle.content"


class Attested(Struct, frozen=True, kw_only=True):
    """A statement that was found beside a bundle."""

    statement: bytes
    """In-toto JSON; its subject has not been compared yet."""

    signer: str | None
    """The name of the key that signed it; None when nobody did, or nobody asked."""

    descriptor: Descriptor
    """Of the referrer."""


def attach_statement(
    store: "Store", subject: Descriptor, statement: bytes, *, signer: "Signer | None" = None
) -> Descriptor:
    """Stores a statement as a referrer of `subject`, signed when there is a signer.

    Args:
        store: Where `subject` is, too.
        subject: Of the bundle's index.
        statement: In-toto JSON about `subject`.
        signer: Who signs it; None stores it as it is.

    Raises:
        SignatureError: `statement` is no statement.
        SignerError: The key service does not answer or refuses.
        HostError: Disk full, not allowed, busy.
    """
    from slipway_bundle.trust.dsse import sign_statement
    from slipway_bundle.trust.statements import predicate_type_of

    kind = predicate_type_of(statement)
    if signer is None:
        return attach(
            store,
            subject,
            artifact_type=STATEMENT_TYPE,
            blobs=[(statement, STATEMENT_TYPE)],
            annotations={PREDICATE: kind},
        )
    envelope = sign_statement(statement, signer)
    return attach(
        store,
        subject,
        artifact_type=ENVELOPE_TYPE,
        blobs=[(envelope, ENVELOPE_TYPE)],
        annotations={PREDICATE: kind, CONTENT: "dsse-envelope"},
    )


def read_statements(
    store: "Store", subject: Digest, predicate_type: str, *, keys: "Sequence[TrustedKey]" = ()
) -> Iterator[Attested]:
    """The statements of one kind that are attached to `subject`.

    What is no statement, or not signed by one of `keys`, is passed over: it is no evidence, and anybody who may write
    to a registry can put it there.

    Args:
        store: Where the bundle is.
        subject: Digest of its index.
        predicate_type: The kind.
        keys: Whose statements count; none means all, unsigned ones too.

    Raises:
        BlobMissingError, BlobCorruptError, JsonError: A referrer is missing or damaged: not the same as none.
    """
    from slipway_bundle.trust.statements import predicate_type_of

    for found in referrers(store, subject):
        if found.artifact_type not in (STATEMENT_TYPE, ENVELOPE_TYPE):
            continue
        layers = store.read_json(found.digest, ImageManifest).layers
        data = store.read(layers[0].digest)
        try:
            statement, signer = _open(data, keys, is_signed=found.artifact_type == ENVELOPE_TYPE)
            kind = predicate_type_of(statement)
        except IntegrityError:
            continue
        if kind == predicate_type:
            yield Attested(statement=statement, signer=signer, descriptor=found)


def _open(data: bytes, keys: "Sequence[TrustedKey]", *, is_signed: bool) -> tuple[bytes, str | None]:
    from slipway_bundle.trust.dsse import open_statement, read_unverified

    if not keys:
        return (read_unverified(data) if is_signed else data), None
    opened = open_statement(data, keys)  # refuses what is not signed, too
    return opened.statement, opened.key.name
