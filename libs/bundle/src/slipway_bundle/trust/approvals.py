"""Approvals: named people say, signed, that a bundle may be released.

It judges no policy: `evaluation.py` does. The invariants: an approval is over the index digest, so it does not carry
over to a rebuilt bundle; nobody approves what they signed, because both would be one person's word.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from slipway_bundle.errors import UsageError
from slipway_bundle.oci import Descriptor
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_bundle
from slipway_bundle.trust.dsse import sign_statement
from slipway_bundle.trust.keys import Signer, TrustedKey
from slipway_bundle.trust.signatures import examine, reason_of_key, reason_of_time
from slipway_bundle.trust.signed import attach_signed, read_signed
from slipway_bundle.trust.statements import make_statement

__all__ = ["APPROVAL", "Approval", "ApprovalError", "approve", "read_approvals"]

APPROVAL: Final = "https://slipway.dev/approval/v1"


class ApprovalError(UsageError):
    """Somebody approves what they signed themselves."""

    code = "approval_own"


class _Decision(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    approved_at: datetime
    reason: str = ""
    """Why; a link to the review."""


class Approval(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An approval that counts."""

    key: str
    """The approver's name, as the caller calls the key."""

    key_id: str
    approved_at: datetime
    reason: str
    descriptor: Descriptor


def approve(store: Store, ref: str, signer: Signer, *, reason: str = "", now: datetime | None = None) -> Descriptor:
    """Signs that the bundle that `ref` means may be released, and attaches that.

    Args:
        store: Where it is.
        ref: Any form that means one bundle.
        signer: The approver's key.
        reason: Why, for the record.
        now: When, aware; by default now.

    Raises:
        ApprovalError: The same key signed the bundle.
        UsageError: The reference is wrong, or means no bundle or several.
        IntegrityError: The bundle's documents are missing or damaged.
        SignerError, HostError: As `signatures.sign`.
    """
    bundle = read_bundle(store, ref)
    moment = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    if examine(store, bundle, [signer.key], now=moment)[0]:
        raise ApprovalError(
            f"{ref!r} was signed by this key ({signer.key.id[:12]}), and nobody approves what they signed",
            hint="another person approves, with their own key",
        )
    manifest = bundle.manifest
    statement = make_statement(
        f"{manifest.name}:{manifest.version}",
        bundle.descriptor.digest,
        predicate_type=APPROVAL,
        predicate=_Decision(approved_at=moment, reason=reason),
    )
    return attach_signed(store, bundle.descriptor, sign_statement(statement, signer))


def read_approvals(
    store: Store, bundle: StoredBundle, keys: Sequence[TrustedKey], *, now: datetime
) -> tuple[tuple[Approval, ...], tuple[str, ...]]:
    """The newest approval of each of `keys` that counts at `now`, and why each other statement does not.

    Whether an approver also signed the bundle is for the caller, who knows which keys sign.

    Raises:
        IntegrityError: A referrer's manifest is missing or damaged.
    """
    signed, rejected = read_signed(store, bundle.descriptor.digest, _Decision, predicate_type=APPROVAL, keys=keys)
    reasons = [item.reason for item in rejected]
    newest: dict[str, Approval] = {}
    for item in sorted(signed, key=lambda item: item.predicate.approved_at):
        decision, key = item.predicate, item.key
        reason = reason_of_time(key.name, decision.approved_at, None, now) or reason_of_key(key, now)
        if reason is not None:
            reasons.append(reason)
            continue
        newest[key.id] = Approval(
            key=key.name,
            key_id=key.id,
            approved_at=decision.approved_at,
            reason=decision.reason,
            descriptor=item.descriptor,
        )
    return tuple(sorted(newest.values(), key=lambda item: item.key)), tuple(reasons)
