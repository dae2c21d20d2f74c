"""`[vulnerabilities]` of `policy.toml`: what blocks, how old a report may be, and which exceptions stand.

It judges nothing (`judge.py` does). The invariant: without the table nothing is asked; an exception is a whole sentence
(what, where, why, until when, by whom) or none.
"""

import datetime as dt
from typing import Literal

from msgspec import Struct

from slipway_bundle.durations import Duration

__all__ = ["VulnerabilityException", "VulnerabilityRules"]


class VulnerabilityException(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[vulnerabilities.exceptions]]`: one vulnerability of one package that somebody answers for, for a time.

    The fields may be left out so that a verdict can say which is missing; an exception that is not whole excuses
    nothing.
    """

    id: str
    """Any of its names: CVE, GHSA, PYSEC."""

    package: str = ""
    """As in the lock."""

    reason: str = ""
    """Why it does not hurt here, or what is done instead."""

    until: dt.date | None = None
    """The last day, UTC, on which it stands."""

    approved_by: str = ""
    """Who answers for it."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The fields without which it excuses nothing."""
        fields = {"package": self.package, "reason": self.reason, "until": self.until, "approved_by": self.approved_by}
        return tuple(name for name, value in fields.items() if not (value.strip() if isinstance(value, str) else value))


class VulnerabilityRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[vulnerabilities]`."""

    block: Literal["low", "medium", "high", "critical"] | None = None
    """From this severity on, a bundle is refused. Setting it asks for a report."""

    unknown: Literal["block", "allow"] = "block"
    """What a vulnerability counts as whose severity nobody has said."""

    max_report_age: Duration | None = None
    """How old the newest report, and the data it is made from, may be. Setting it asks for a report."""

    exceptions: tuple[VulnerabilityException, ...] = ()
