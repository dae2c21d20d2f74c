"""Findings: what a rule of `policy.toml` found, and how to meet it.

It judges nothing. The invariant: a finding that refuses says in words what was found, what the rule expects and what
to do; a reader needs no other page.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

__all__ = ["Finding", "FindingStatus", "Verdict", "verdict_of"]

FindingStatus = Literal["ok", "refused", "warning", "skipped"]
"""`refused` alone decides; a `warning` is told; `skipped` names a rule that is on and had nothing to look at."""


class Finding(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer of one rule."""

    rule: str
    """As in `policy.toml`: `signatures.required`, `vulnerabilities.block`."""

    status: FindingStatus
    got: str
    """What was found, in words; with names and digests."""

    expected: str = ""
    """What the rule asks for; empty when there is nothing to say beyond `got`."""

    hint: str | None = None
    """How to meet the rule: the command, or whom to ask."""

    @property
    def claim(self) -> str:
        """`got …, expected …`, as the end of a sentence without the `got`."""
        return f"{self.got}, expected {self.expected}" if self.expected else self.got


class Verdict(Struct, frozen=True, kw_only=True):
    """The answer of a whole policy about one bundle."""

    is_allowed: bool
    """No finding refuses."""

    findings: tuple[Finding, ...] = ()
    """In the order of `policy.toml`'s tables; empty where nothing is required."""


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """A verdict from its findings."""
    found = tuple(findings)
    return Verdict(is_allowed=all(finding.status != "refused" for finding in found), findings=found)
