"""`slipway bundle scan`: known vulnerabilities of what a bundle installs, and whether they stop it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    import datetime as dt

    from slipway_bundle.policy import Policy
    from slipway_bundle.scan.rules import VulnerabilityRules
    from slipway_bundle.scan.scanning import Scanned

SEVERITIES = ("low", "medium", "high", "critical")


@click.command(
    cls=Verb,
    short_help="Look for known vulnerabilities.",
    help="Look for known vulnerabilities in what a bundle installs, keep the report beside it, and judge it by "
    "[vulnerabilities] of the nearest policy.toml; without one, high and critical ones stop it.\n\n"
    "Prints the digest of the attached report. Exit status 1 when something stops the bundle; each such line says "
    "which version mends it, and which exception would excuse it.",
    examples=(
        ("slipway bundle scan churn --osv PyPI.zip", "the export of the OSV database"),
        ("slipway bundle scan churn --osv https://osv.example.com/PyPI/all.zip", "the same from a feed"),
        ("slipway bundle scan churn --report trivy.json --key ci.pem", "another scanner's report, signed"),
    ),
)
@click.argument("ref")
@click.option("--osv", help="OSV data: a record, a folder of records, a zip, or the URL of a zip.")
@click.option("--report", type=click.Path(path_type=Path), help="JSON report of Trivy, Grype or OSV-Scanner.")
@click.option("--scanned-at", help="When REPORT was made, RFC 3339; for reports that do not say.")
@click.option("--block", type=click.Choice(SEVERITIES), help="The severity that stops it.  [default: the policy's]")
@click.option("--key", help="Sign the report with this key: a file, or the URI of a key service.")
@click.option("--public", type=click.Path(path_type=Path), help="Public half of a key of a key service.")
@click.option("--attach/--no-attach", default=True, help="Keep the report beside the bundle.  [default: attach]")
@click.pass_obj
def scan(
    terminal: Terminal,
    ref: str,
    osv: str | None,
    report: Path | None,
    scanned_at: str | None,
    block: str | None,
    key: str | None,
    public: Path | None,
    *,
    attach: bool,
) -> int:
    """Scan, and show the findings."""
    import datetime as dt

    from slipway_bundle.policy import load_policy
    from slipway_bundle.scan.osv_data import data_size_bytes
    from slipway_bundle.scan.scanning import scan as scan_bundle
    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import load_signer
    from slipway_cli.home import store_folder

    if (osv is None) == (report is None):
        raise click.UsageError("say what to look it up in: one of `--osv` and `--report`")
    policy = load_policy(Path())
    store = Store.open(store_folder(os.environ))
    with terminal.bar() as bar:
        bar.begin("scan", data_size_bytes(osv) if osv else 0)
        scanned = scan_bundle(
            store,
            ref,
            rules=_rules(policy, block),
            now=dt.datetime.now(dt.UTC),
            osv=osv,
            report=report,
            scanned=_moment(scanned_at),
            signer=load_signer(key, environ=os.environ, public=public) if key else None,
            is_attaching=attach,
            progress=bar,
        )
    terminal.document(scanned)
    _say(terminal, scanned)
    if policy.signatures is not None and attach and key is None:
        terminal.warn("policy.toml asks for signatures: this report has none, so no verdict will count it (`--key`)")
    if scanned.attached is not None:
        terminal.result(scanned.attached.digest)
    return 0 if scanned.verdict.is_allowed else 1


def _rules(policy: "Policy", block: str | None) -> "VulnerabilityRules":
    """The policy's; the option wins; without either, `high`."""
    import msgspec

    from slipway_bundle.scan.rules import VulnerabilityRules

    rules = policy.vulnerabilities or VulnerabilityRules(block="high")
    if block is None:
        return rules
    return msgspec.convert({**msgspec.to_builtins(rules), "block": block}, VulnerabilityRules)


def _moment(text: str | None) -> "dt.datetime | None":
    import datetime as dt

    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"`--scanned-at` is no RFC 3339 time: got {text!r}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _say(terminal: Terminal, scanned: "Scanned") -> None:
    for finding in scanned.verdict.findings:
        line = f"{finding.status:<8} {finding.rule}: {finding.got}"
        if finding.status in {"ok", "skipped"}:
            terminal.say(line)
            continue
        terminal.insist(line)
        if finding.hint:
            terminal.insist(f"hint: {finding.hint}")
    count = lines_of(len(scanned.report.vulnerabilities), "finding")
    if scanned.verdict.is_allowed:
        terminal.say(f"{scanned.ref}: {count}, and none that stops it")
    else:
        terminal.insist(f"{scanned.ref} is stopped: {count}")
