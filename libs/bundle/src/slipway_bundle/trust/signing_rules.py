"""The rules of `policy.toml` that look for signed statements: signatures, builders, approvals, vulnerabilities.

They verify with the keys that the policy names and with no others. The invariant: two names with one key are one
person; a statement counts only for the rule whose kind it is.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from slipway_bundle.durations import parse_duration
from slipway_bundle.policy import ApprovalPolicy, BuilderPolicy, KeyEntry, Policy, SignaturePolicy
from slipway_bundle.scan.rules import VulnerabilityRules
from slipway_bundle.trust.approvals import read_approvals
from slipway_bundle.trust.findings import Finding
from slipway_bundle.trust.keyless import trusted_identity
from slipway_bundle.trust.keys import TrustedKey, load_key
from slipway_bundle.trust.models import read_model_signatures
from slipway_bundle.trust.rules import Place, listed
from slipway_bundle.trust.signatures import Signature, examine

__all__ = ["approvals", "builders", "signatures", "trusted_keys", "vulnerabilities"]

SHOWN_REASONS = 3
"""Why other statements do not count: the first few; rubbish must not make a message long."""


def trusted_keys(policy: Policy, names: Sequence[str]) -> tuple[TrustedKey, ...]:
    """The public keys that `names` of `[keys]` stand for.

    Raises:
        KeyFileError: A file is not a public key.
        FileError: A file cannot be read.
    """
    entries = {name: policy.keys[name] for name in names}
    return tuple(_trusted(name, entry) for name, entry in entries.items())


def _trusted(name: str, entry: KeyEntry) -> TrustedKey:
    if entry.file is not None:
        return load_key(Path(entry.file), name=name, until=entry.until)
    return trusted_identity(entry.identity or "", entry.issuer or "", name=name, until=entry.until)


def signatures(place: Place, table: SignaturePolicy) -> Iterator[Finding]:
    """`[signatures]`: enough of the named keys signed this bundle, under this name, not too long ago."""
    keys = trusted_keys(place.policy, table.by)
    counting, reasons = examine(place.store, place.bundle, keys, now=place.now)
    if table.max_age is not None:
        oldest = place.now - parse_duration(table.max_age)
        old = [item for item in counting if item.signed_at is None or item.signed_at < oldest]
        reasons += tuple(f"the signature of {item.key!r} is older than {table.max_age}" for item in old)
        counting = tuple(item for item in counting if item not in old)
    yield _enough(place, table, counting, reasons)
    yield from _name(place)
    if table.models:
        of_models, reasons = read_model_signatures(place.store, place.bundle, keys)
        yield _model_signature(place, table, [item.key for item in of_models], reasons)


def _enough(place: Place, table: SignaturePolicy, counting: Sequence[Signature], reasons: Sequence[str]) -> Finding:
    distinct = {item.key_id: item.key for item in counting}
    by = ", ".join(sorted(distinct.values()))
    if len(distinct) >= table.threshold:
        return Finding(rule="signatures.by", status="ok", got=f"signed by {by}")
    return Finding(
        rule="signatures.by" if not distinct else "signatures.threshold",
        status="refused",
        got=(f"only signed by {by}" if distinct else "no signature that counts") + _because(reasons),
        expected=f"{table.threshold} of {', '.join(table.by)}" if table.threshold > 1 else listed(table.by),
        hint=f"`slipway bundle sign {place.shown} --key KEY` with such a key; a pull brings signatures along, "
        f"`slipway bundle signatures {place.shown}` shows what is there",
    )


def _name(place: Place) -> Iterator[Finding]:
    """What was signed has a name of its own: an old version under a new name is refused."""
    manifest = place.bundle.manifest
    own = f"{manifest.name}:{manifest.version}"
    if place.ref is not None and place.ref.text != own:
        yield Finding(
            rule="signatures.name",
            status="refused",
            got=f"{own} under the name {place.ref.text}",
            expected="a bundle under the name that was signed",
            hint=f"ask for it by its digest, {place.bundle.digest}, if you mean this one",
        )


def _model_signature(place: Place, table: SignaturePolicy, by: Sequence[str], reasons: Sequence[str]) -> Finding:
    if by:
        return Finding(rule="signatures.models", status="ok", got=f"weights signed by {', '.join(sorted(set(by)))}")
    return Finding(
        rule="signatures.models",
        status="refused",
        got="no model signature that counts" + _because(reasons),
        expected=f"an OpenSSF model signature by {listed(table.by)}",
        hint=f"`slipway bundle sign {place.shown} --key KEY` with an ECDSA key makes both signatures",
    )


def approvals(place: Place, table: ApprovalPolicy) -> Iterator[Finding]:
    """`[approvals]`: enough of the named people, none of whom signed the bundle, said yes not too long ago."""
    keys = trusted_keys(place.policy, table.by)
    found, reasons = read_approvals(place.store, place.bundle, keys, now=place.now)
    signing = () if place.policy.signatures is None else trusted_keys(place.policy, place.policy.signatures.by)
    authors = {item.key_id for item in examine(place.store, place.bundle, (*keys, *signing), now=place.now)[0]}
    counting = []
    for item in found:
        if item.key_id in authors:
            reasons += (f"{item.key!r} signed the bundle, and nobody approves what they signed",)
        elif table.max_age is not None and item.approved_at < place.now - parse_duration(table.max_age):
            reasons += (f"the approval of {item.key!r} is older than {table.max_age}",)
        else:
            counting.append(item)
    by = ", ".join(item.key for item in counting)
    if len(counting) >= table.required:
        yield Finding(rule="approvals.required", status="ok", got=f"approved by {by}")
        return
    yield Finding(
        rule="approvals.required",
        status="refused",
        got=(f"approved by {by} only" if counting else "no approval that counts") + _because(reasons),
        expected=f"{table.required} of {', '.join(table.by)}, other than who signed it",
        hint=f"`slipway bundle approve {place.shown} --key KEY`, by somebody who is named there",
    )


def builders(place: Place, table: BuilderPolicy) -> Iterator[Finding]:
    """`[builders]`: signed provenance says that an allowed builder made this bundle from an allowed source."""
    from slipway_bundle.provenance import read_provenances

    keys = _current(place, table.by)
    # Without keys the reader would take unsigned statements.
    found = read_provenances(place.store, place.bundle.descriptor.digest, keys=keys) if keys else ()
    signed = [item for item in found if item.is_signed]
    fitting = [
        item
        for item in signed
        if _fits(item.builder_id, table.allow) and (not table.sources or _fits(item.source_uri or "", table.sources))
    ]
    shown = ", ".join(f"built by {item.builder_id} from {item.source_uri or 'an unnamed source'}" for item in signed)
    if fitting:
        yield Finding(rule="builders.allow", status="ok", got=shown)
    else:
        source = f", from {listed(table.sources)}" if table.sources else ""
        yield Finding(
            rule="builders.allow",
            status="refused",
            got=shown or f"no provenance signed by {listed(table.by)}",
            expected=f"{listed(table.allow)}{source}",
            hint="build the release where `builders.allow` says; `slipway bundle attest` there signs the provenance",
        )
    source_of = place.bundle.manifest.source
    if not table.allow_dirty and (source_of is None or source_of.dirty):
        yield Finding(
            rule="builders.allow_dirty",
            status="refused",
            got="a bundle without a commit" if source_of is None else f"uncommitted changes on {source_of.commit[:12]}",
            expected="a clean commit",
            hint="commit, and build again",
        )


def vulnerabilities(place: Place, table: VulnerabilityRules) -> Iterator[Finding]:
    """`[vulnerabilities]`: what `slipway bundle scan` reported; with `[signatures]`, only signed reports count."""
    from slipway_bundle.scan.judge import verdict

    signatures = place.policy.signatures
    keys = () if signatures is None else _current(place, signatures.by)
    if signatures is not None and not keys:
        yield Finding(
            rule="vulnerabilities.signed",
            status="refused",
            got=f"no key of {listed(signatures.by)} that counts today",
            expected="a report that one of them signed",
            hint="give `[keys]` a key whose last day has not passed",
        )
        return
    yield from verdict(place.store, place.bundle.descriptor.digest, table, now=place.now, keys=keys)


def _current(place: Place, names: Sequence[str]) -> tuple[TrustedKey, ...]:
    """The keys of `names` whose last day has not passed."""
    return tuple(key for key in trusted_keys(place.policy, names) if not key.is_expired(place.now))


def _fits(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _because(reasons: Sequence[str]) -> str:
    shown = [*reasons[:SHOWN_REASONS], *(["…"] if len(reasons) > SHOWN_REASONS else [])]
    return f" ({'; '.join(shown)})" if shown else ""
