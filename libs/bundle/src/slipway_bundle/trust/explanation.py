"""A policy in words, one rule a line, for whoever has to meet it.

It judges no bundle. The invariant: a table that is not in the file has no line; each key that a rule names was read.
"""

from collections.abc import Iterator

from msgspec import Struct

from slipway_bundle.policy import Policy
from slipway_bundle.trust.rules import listed
from slipway_bundle.trust.signing_rules import trusted_keys

__all__ = ["ExplainedRule", "explain"]


class ExplainedRule(Struct, frozen=True, kw_only=True):
    """One rule."""

    rule: str
    """As in the file."""

    text: str


def explain(policy: Policy) -> tuple[ExplainedRule, ...]:
    """The rules of `policy`, in the order in which they are asked.

    Raises:
        KeyFileError: A file of `[keys]` is not a public key.
        FileError: One cannot be read.
    """
    trusted_keys(policy, tuple(policy.keys))
    lines = (*_signing(policy), *_content(policy), *_places(policy))
    return tuple(ExplainedRule(rule=rule, text=text) for rule, text in lines)


def _signing(policy: Policy) -> Iterator[tuple[str, str]]:
    if (signatures := policy.signatures) is not None:
        count = f"{signatures.threshold} of " if signatures.threshold > 1 else ""
        yield "signatures.by", f"the bundle is signed by {count}{listed(signatures.by)}, under its own name"
        if signatures.max_age is not None:
            yield "signatures.max_age", f"a signature counts for {signatures.max_age}"
        if signatures.models:
            yield "signatures.models", f"the weights have an OpenSSF model signature by {listed(signatures.by)}"
    if (builders := policy.builders) is not None:
        source = f" from {listed(builders.sources)}" if builders.sources else ""
        yield (
            "builders.allow",
            f"provenance signed by {listed(builders.by)} says: built by {listed(builders.allow)}{source}",
        )
        if not builders.allow_dirty:
            yield "builders.allow_dirty", "the bundle was built from a clean commit"
    if (approvals := policy.approvals) is not None:
        recent = f", in the last {approvals.max_age}" if approvals.max_age else ""
        yield (
            "approvals.required",
            f"{approvals.required} of {listed(approvals.by)} approved it{recent}, and did not sign it",
        )


def _content(policy: Policy) -> Iterator[tuple[str, str]]:
    if (images := policy.images) is not None:
        yield "images.bases", f"each image stands on {listed(images.bases)}"
        if images.required:
            yield "images.required", "the bundle has a runnable image"
    if (licences := policy.licences) is not None:
        yield "licences.allow", f"the bundle states its licences, and they can be met with {listed(licences.allow)}"
    if (formats := policy.formats) is not None:
        if formats.allow is not None:
            yield "formats.allow", f"models are {listed(formats.allow)}"
        if formats.trust is not None:
            yield "formats.trust", f"loading a model is {listed(formats.trust)}"
    if policy.age is not None:
        yield "age.max", f"the bundle was made in the last {policy.age.max}"
    if (vulnerabilities := policy.vulnerabilities) is not None:
        if vulnerabilities.block is not None:
            yield (
                "vulnerabilities.block",
                f"no package has a known vulnerability of severity {vulnerabilities.block} or more",
            )
        if vulnerabilities.max_report_age is not None:
            yield "vulnerabilities.max_report_age", f"it was scanned in the last {vulnerabilities.max_report_age}"
        for item in vulnerabilities.exceptions:
            yield "vulnerabilities.exceptions", f"except {item.id} in {item.package} until {item.until}: {item.reason}"


def _places(policy: Policy) -> Iterator[tuple[str, str]]:
    if not policy.folders.allow:
        yield "folders.allow", "service folders are not served, only bundles"
    if policy.admission.exempt:
        yield "admission.exempt", f"not judged in the cluster: {listed(policy.admission.exempt)}"
