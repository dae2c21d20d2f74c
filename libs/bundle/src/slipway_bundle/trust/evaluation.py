"""Judging a bundle by `policy.toml`: at pull, at serve, at admission, with the same answer.

It changes nothing and asks no network. The invariants: a policy without rules reads nothing; a rule whose evidence is
missing, damaged or unreadable refuses, it never passes; weights are never opened as a model, and only `with_blobs`
reads their bytes, last, to compare digests; every refusal says what was found, what is expected, and how to meet it.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from slipway_bundle.digest import is_digest, parse_digest
from slipway_bundle.errors import HostError, IntegrityError, SlipwayError
from slipway_bundle.oci import Descriptor
from slipway_bundle.policy import Policy
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.references import Ref
from slipway_bundle.store import Store
from slipway_bundle.stored import StoredBundle, read_descriptor
from slipway_bundle.trust.findings import Finding, Verdict, verdict_of

if TYPE_CHECKING:
    from slipway_bundle.trust.rules import Place

__all__ = ["PolicyRefusedError", "evaluate", "refuse_folder", "require_allowed"]

T = TypeVar("T")


class PolicyRefusedError(IntegrityError):
    """A rule of `policy.toml` refuses a bundle or a folder; `verdict` has every finding."""

    code = "policy_refused"

    def __init__(self, message: str, *, hint: str | None, verdict: Verdict, rule: str, target: str) -> None:
        super().__init__(message, hint=hint, rule=rule, target=target)
        self.verdict = verdict


def evaluate(
    store: Store,
    target: str,
    policy: Policy,
    *,
    now: datetime,
    with_blobs: bool = False,
    progress: Progress = QUIET,
) -> Verdict:
    """Judges the bundle that `target` means. A refusal is a verdict, not an exception.

    Costs a few milliseconds; with `with_blobs` also the hashing of code and weights, at the speed of SHA-256.

    Args:
        store: Where its documents and referrers are.
        target: A reference, or the digest of an index that need not be published yet.
        policy: The rules.
        now: Aware; ages and expiry are judged at this moment.
        with_blobs: Also require that the code, the attachments and the weights are there with their digests.
        progress: Told the bytes that are hashed.

    Raises:
        UsageError: The reference is wrong, or means no bundle or several; a key file of the policy is none.
        HostError: The store or a key file cannot be read: no answer is not a no.
    """
    if not policy.judges_bundles:
        return Verdict(is_allowed=True)
    descriptor, ref = _find(store, target)
    try:
        bundle = read_descriptor(store, descriptor)
    except HostError:
        raise
    except SlipwayError as error:
        return verdict_of([_damage("bundle", error)])
    findings = list(_findings(store, bundle, ref, policy, now))
    if with_blobs and all(finding.status != "refused" for finding in findings):
        findings.append(_blobs(store, bundle, progress))
    return verdict_of(findings)


def require_allowed(
    store: Store,
    target: str,
    policy: Policy,
    *,
    now: datetime,
    with_blobs: bool = False,
    progress: Progress = QUIET,
    shown: str | None = None,
) -> Verdict:
    """As `evaluate`, where no is an error; `shown` is how the message calls the bundle, by default `target`.

    Raises:
        PolicyRefusedError: A rule refuses; the message has the first finding, the hint how to meet it.
        UsageError, HostError: As `evaluate`.
    """
    verdict = evaluate(store, target, policy, now=now, with_blobs=with_blobs, progress=progress)
    if not verdict.is_allowed:
        raise _refusal(shown or target, verdict)
    return verdict


def refuse_folder(folder: Path, policy: Policy) -> None:
    """Refuses a service folder, or an unpacked image, where the policy lets none run.

    Raises:
        PolicyRefusedError: `[folders] allow = false`.
    """
    if policy.folders.allow:
        return
    finding = Finding(
        rule="folders.allow",
        status="refused",
        got="a folder, which has no digest that anybody could have signed",
        expected="a bundle",
        hint="`slipway bundle build` makes one of it; or set `allow = true` on machines that serve no users",
    )
    raise _refusal(str(folder), verdict_of([finding]))


def _refusal(target: str, verdict: Verdict) -> PolicyRefusedError:
    refused = [finding for finding in verdict.findings if finding.status == "refused"]
    first = refused[0]
    more = f"; {len(refused) - 1} more: {', '.join(finding.rule for finding in refused[1:])}" if refused[1:] else ""
    return PolicyRefusedError(
        f"policy.toml refuses {target!r} by `{first.rule}`: got {first.claim}{more}",
        hint=first.hint,
        verdict=verdict,
        rule=first.rule,
        target=target,
    )


def _find(store: Store, target: str) -> tuple[Descriptor, Ref | None]:
    if is_digest(target):
        from slipway_bundle.trust.signed import descriptor_of

        return descriptor_of(store, parse_digest(target)), None
    ref = store.find(target)
    return ref.descriptor, ref if target in {ref.text, ref.name} else None  # a digest says what is meant, by any name


def _findings(store: Store, bundle: StoredBundle, ref: Ref | None, policy: Policy, now: datetime) -> Iterator[Finding]:
    from slipway_bundle.trust import rules, signing_rules

    place = rules.Place(store=store, bundle=bundle, ref=ref, policy=policy, now=now)
    asked = {
        "signatures": _ask(signing_rules.signatures, place, policy.signatures),
        "builders": _ask(signing_rules.builders, place, policy.builders),
        "approvals": _ask(signing_rules.approvals, place, policy.approvals),
        "images": _ask(rules.images, place, policy.images),
        "licences": _ask(rules.licences, place, policy.licences),
        "formats": _ask(rules.formats, place, policy.formats),
        "age": _ask(rules.age, place, policy.age),
        "vulnerabilities": _ask(signing_rules.vulnerabilities, place, policy.vulnerabilities),
    }
    for table, found in asked.items():
        try:
            yield from found
        except IntegrityError as error:
            yield _damage(table, error)


def _ask(rule: Callable[["Place", T], Iterator[Finding]], place: "Place", table: T | None) -> Iterator[Finding]:
    """The findings of one table; nothing is read before they are asked for."""
    if table is not None:
        yield from rule(place, table)


def _damage(rule: str, error: SlipwayError) -> Finding:
    return Finding(rule=rule, status="refused", got=error.message, hint=error.hint)


def _blobs(store: Store, bundle: StoredBundle, progress: Progress) -> Finding:
    """Every blob is what was signed, but those of runnable images: a server reads none, and may have none."""
    documents = [found for role, held in bundle.children.items() if role != "image" for found in held]
    wanted = {blob.digest: blob.size for document in documents for blob in (document.config, *document.layers)}
    layers = bundle.layers()
    used = [file.layer for model in bundle.manifest.models for file in model.files]
    wanted |= {layers[layer].digest: layers[layer].size for layer in used}
    try:
        for digest, size in wanted.items():
            store.verify_blob(digest, size=size, progress=progress)
    except IntegrityError as error:
        return _damage("bundle.blobs", error)
    return Finding(rule="bundle.blobs", status="ok", got=f"{len(wanted)} blobs, each with its digest")
