"""What `[vulnerabilities]` says about the reports of a bundle.

`judge` is pure; `verdict` reads the reports first. The invariants: no report is not the same as no vulnerability; a
refusal names the package, the vulnerability, the version that mends it and the exception that would excuse it; whatever
an exception does not say in full, it does not excuse.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from packaging.utils import canonicalize_name

from slipway_bundle.digest import Digest
from slipway_bundle.durations import parse_duration
from slipway_bundle.scan.attested import read_reports
from slipway_bundle.scan.rules import VulnerabilityException, VulnerabilityRules
from slipway_bundle.scan.vulnerability import SEVERITIES, Report, Vulnerability, merge, plain
from slipway_bundle.trust.findings import Finding

if TYPE_CHECKING:
    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import TrustedKey

__all__ = ["judge", "verdict"]

BLOCK: Final = "vulnerabilities.block"
AGE: Final = "vulnerabilities.max_report_age"
EXCEPTIONS: Final = "vulnerabilities.exceptions"

CLOCK_SKEW: Final = dt.timedelta(minutes=10)
"""A report from further in the future than this would never grow old."""

SHOWN: Final = 5
"""Names in a line about many."""


def verdict(
    store: "Store",
    digest: Digest,
    rules: VulnerabilityRules,
    *,
    now: dt.datetime,
    keys: "Sequence[TrustedKey]" = (),
) -> tuple[Finding, ...]:
    """What `rules` say about the bundle whose index is `digest`, by the reports that are attached to it.

    Args:
        store: Where the bundle and its referrers are.
        digest: Of the index.
        rules: `[vulnerabilities]`.
        now: The time, aware.
        keys: Whose reports count. When there are any, unsigned reports and those of other signers are not seen; a key
            past its last day opens nothing.

    Raises:
        BlobMissingError, BlobCorruptError, JsonError: A referrer is damaged.
    """
    live = [key for key in keys if not key.is_expired(now)]
    # No live key is not the same as no key: then nothing counts, and unsigned reports least of all.
    reports = read_reports(store, digest, keys=live) if live or not keys else ()
    return judge(reports, rules, now=now, digest=digest)


def judge(
    reports: Sequence[Report], rules: VulnerabilityRules, *, now: dt.datetime, digest: str
) -> tuple[Finding, ...]:
    """As `verdict`, for reports that have been read. Of each scanner the newest counts; all scanners count together."""
    newest: dict[str, Report] = {}
    for report in sorted(reports, key=lambda each: each.scanned):
        if report.scanned <= now + CLOCK_SKEW:
            newest[report.scanner] = report
    current = list(newest.values())
    findings = [*_age(current, rules, now, digest, ignored=len(reports) if not current else 0)]
    if current:
        found = merge(item for report in current for item in report.vulnerabilities)
        findings += _block(found, rules, now, _told(current))
        findings += _exceptions(found, rules, now)
    return tuple(findings)


def _age(
    reports: list[Report], rules: VulnerabilityRules, now: dt.datetime, digest: str, *, ignored: int
) -> Iterator[Finding]:
    """A report is there, and new enough."""
    rule = AGE if rules.max_report_age else BLOCK
    hint = f"run `slipway bundle scan {digest}` with today's data, and push again"
    if not reports and (rules.block or rules.max_report_age):
        got = "no vulnerability report that counts is attached" if not ignored else "only reports from the future"
        yield Finding(rule=rule, status="refused", got=got, expected="a report about this bundle", hint=hint)
        return
    if rules.max_report_age is None:
        return
    freshest = max(reports, key=_made)
    age = now - _made(freshest)
    is_new = age <= parse_duration(rules.max_report_age)
    yield Finding(
        rule=AGE,
        status="ok" if is_new else "refused",
        got=f"the newest report, of {_name(freshest)}, is of {freshest.scanned:%Y-%m-%d %H:%M} UTC, "
        f"from data of {freshest.updated:%Y-%m-%d %H:%M} UTC",
        expected=f"both at most {rules.max_report_age} old",
        hint=None if is_new else hint,
    )


def _block(found: Sequence[Vulnerability], rules: VulnerabilityRules, now: dt.datetime, told: str) -> Iterator[Finding]:
    """Each vulnerability that blocks, each that an exception excuses, and one line for the rest."""
    if rules.block is None:
        return
    expected = f"no vulnerability of severity {rules.block} or above"
    blocking = [item for item in found if _blocks(item, rules)]
    for item in blocking:
        standing = [each for each in _for(item, rules) if _stands(each, now)]
        if standing:
            one = standing[0]
            yield Finding(
                rule=EXCEPTIONS,
                status="ok",
                got=f"{_sentence(item)}; excused until {one.until} by {one.approved_by}: {one.reason}",
            )
            continue
        yield Finding(
            rule=BLOCK, status="refused", got=_sentence(item), expected=expected, hint=_procedure(item, rules, now)
        )
    rest = [item for item in found if not _blocks(item, rules)]
    if rest:
        names = ", ".join(f"{item.id} in {item.package}" for item in rest[:SHOWN])
        more = f" and {len(rest) - SHOWN} more" if len(rest) > SHOWN else ""
        yield Finding(rule=BLOCK, status="warning", got=f"{len(rest)} below {rules.block}: {names}{more}")
    if not blocking:
        yield Finding(rule=BLOCK, status="ok", got=f"no vulnerability that blocks, by {told}", expected=expected)


def _exceptions(found: Sequence[Vulnerability], rules: VulnerabilityRules, now: dt.datetime) -> Iterator[Finding]:
    """Exceptions that excuse nothing: not whole, past their day, or for something that is not here."""
    for one in rules.exceptions:
        name = f"{one.id} in {one.package or '(no package)'}"
        if one.missing:
            got = f"the exception for {name} excuses nothing: it has no {', no '.join(one.missing)}"
            hint = "an exception says `id`, `package`, `reason`, `until` and `approved_by`"
        elif not _stands(one, now):
            got = f"the exception for {name} ended on {one.until}"
            hint = f"mend it, or let {one.approved_by} decide anew; then take the exception out or move `until`"
        elif not any(one in _for(item, rules) for item in found):
            got = f"the exception for {name} excuses nothing here: no report has it"
            hint = "take it out of policy.toml when no other bundle needs it"
        else:
            continue
        yield Finding(rule=EXCEPTIONS, status="warning", got=got, hint=hint)


def _blocks(item: Vulnerability, rules: VulnerabilityRules) -> bool:
    if item.severity == "unknown":
        return rules.unknown == "block"
    return rules.block is not None and SEVERITIES.index(item.severity) >= SEVERITIES.index(rules.block)


def _for(item: Vulnerability, rules: VulnerabilityRules) -> list[VulnerabilityException]:
    """The exceptions that name this vulnerability and this package."""
    names = {name.upper() for name in item.names}
    package = canonicalize_name(item.package)
    return [
        one for one in rules.exceptions if one.id.upper() in names and canonicalize_name(one.package or "?") == package
    ]


def _stands(one: VulnerabilityException, now: dt.datetime) -> bool:
    return not one.missing and one.until is not None and now.astimezone(dt.UTC).date() <= one.until


def _sentence(item: Vulnerability) -> str:
    also = f" (also {', '.join(item.aliases[:SHOWN])})" if item.aliases else ""
    severity = "of unknown severity" if item.severity == "unknown" else f"{item.severity}"
    score = f" {item.score:.1f}" if item.score is not None else ""
    what = f": {item.summary}" if item.summary else ""
    mended = f"; {item.package} {item.fixed} is without it" if item.fixed else "; no version without it is known"
    return f"{item.package} {item.installed} has {item.id}{also}, {severity}{score}{what}{mended}"


def _procedure(item: Vulnerability, rules: VulnerabilityRules, now: dt.datetime) -> str:
    """What to do: upgrade; where that cannot be, the exception, as it would stand in the file."""
    upgrade = (
        f"require {item.package}>={item.fixed}, run `make lock`, build again"
        if item.fixed
        else f"do without {item.package}, or with another version"
    )
    ended = next((one for one in _for(item, rules) if not one.missing), None)
    why = f" (the one of {ended.approved_by} ended on {ended.until})" if ended else ""
    until = (now + dt.timedelta(days=30)).date()
    return (
        f"{upgrade}; until then an exception in policy.toml excuses it{why}:\n"
        f"[[vulnerabilities.exceptions]]\nid = {_quoted(item.id)}\npackage = {_quoted(item.package)}\n"
        f'reason = "why it does not hurt here"\nuntil = {until}\napproved_by = "who answers for it"'
    )


def _quoted(text: str) -> str:
    """As TOML and JSON write a string: a name in a report must not end it."""
    return msgspec.json.encode(text).decode()


def _made(report: Report) -> dt.datetime:
    """A scan of today with data of last year is a report of last year."""
    return min(report.scanned, report.updated)


def _name(report: Report) -> str:
    return plain(report.scanner.rpartition("/")[2])


def _told(reports: Sequence[Report]) -> str:
    return ", ".join(
        _name(report) + (f" ({report.packages} packages)" if report.packages is not None else "") for report in reports
    )
