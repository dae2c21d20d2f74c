"""Listing and exporting what is said about a bundle, for people and for other tools.

It decides nothing. The invariant: a statement is listed under a key only when that key's signature was verified.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from slipway_bundle.digest import Digest, hex_of
from slipway_bundle.errors import FileError
from slipway_bundle.store import Store
from slipway_bundle.trust.approvals import APPROVAL
from slipway_bundle.trust.dsse import SignatureError, open_statement
from slipway_bundle.trust.keys import TrustedKey
from slipway_bundle.trust.models import MODEL_SIGNATURE
from slipway_bundle.trust.signatures import SIGNATURE
from slipway_bundle.trust.signed import attached

__all__ = ["ListedStatement", "export_statements", "list_statements"]

KINDS: Final = {SIGNATURE: "signature", MODEL_SIGNATURE: "model signature", APPROVAL: "approval"}
"""Words for what we make; other statements are called by their predicate type."""


class ListedStatement(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One signed statement."""

    kind: str
    key: str | None
    """The name of the key that signed it; None when no known key did."""

    key_id: str | None
    at: str | None
    """When, by the signer's clock, RFC 3339."""

    digest: str
    """Of the referrer."""

    reason: str | None = None
    """Why no known key stands behind it."""


class _Times(Struct, frozen=True, rename="camel"):
    signed_at: str | None = None
    approved_at: str | None = None


class _Dated(Struct, frozen=True):
    predicate: _Times = _Times()


def list_statements(store: Store, subject: Digest, keys: Sequence[TrustedKey]) -> tuple[ListedStatement, ...]:
    """Every signed statement about `subject`, by kind, then key.

    Raises:
        IntegrityError: A referrer's manifest is missing or damaged.
    """
    listed = []
    for item in attached(store, subject):
        key, at, reason = None, None, None
        try:
            opened = open_statement(item.data, keys)
            key, at = opened.key, _time_of(opened.statement)
        except SignatureError as error:
            reason = error.message
        listed.append(
            ListedStatement(
                kind=KINDS.get(item.predicate_type, item.predicate_type or "unreadable"),
                key=None if key is None else key.name,
                key_id=None if key is None else key.id,
                at=at,
                digest=item.descriptor.digest,
                reason=reason,
            )
        )
    return tuple(sorted(listed, key=lambda item: (item.kind, item.key or "~", item.digest)))


def _time_of(statement: bytes) -> str | None:
    try:
        times = msgspec.json.decode(statement, type=_Dated).predicate
    except msgspec.MsgspecError:
        return None  # another tool's predicate may use the same words for something else
    return times.signed_at or times.approved_at


def export_statements(store: Store, subject: Digest, folder: Path) -> list[str]:
    """Writes each statement's sigstore bundle to `folder`, as KIND-DIGEST.sigstore.json, and gives the paths.

    Raises:
        IntegrityError: A referrer's manifest is missing or damaged.
        FileError: A file cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for item in attached(store, subject):
            kind = KINDS.get(item.predicate_type, "statement").replace(" ", "-")
            path = folder / f"{kind}-{hex_of(item.descriptor.digest)[:12]}.sigstore.json"
            path.write_bytes(item.data)
            written.append(str(path))
    except OSError as error:
        raise FileError(f"{str(folder)!r} cannot be written: {error.strerror}", path=str(folder)) from error
    return sorted(written)
