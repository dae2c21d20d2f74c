"""`slipway policy check`: would the policy let this bundle run?"""

import os
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_bundle.trust.findings import Finding


@click.command(
    cls=Verb,
    name="check",
    short_help="Judge a bundle by policy.toml.",
    help="Judge a bundle of the local store by policy.toml, as `slipway serve` and `slipway bundle pull` do.\n\n"
    "Prints the digest when it is allowed. Exit status 1 when a rule refuses; each refusal says how to meet it.",
    examples=(
        ("slipway policy check churn:1.0.0", "by policy.toml here or above"),
        ("slipway policy check churn --policy production.toml --blobs", "hash code and weights, too"),
    ),
)
@click.argument("ref")
@click.option("--policy", metavar="FILE", help="The rules.  [default: policy.toml here or above]")
@click.option("--blobs", is_flag=True, help="Also hash code and weights, as `slipway serve` does.")
@click.pass_obj
def check_policy(terminal: Terminal, ref: str, *, policy: str | None, blobs: bool) -> int:
    """Judge, and show every finding."""
    from datetime import UTC, datetime

    from slipway_bundle.store import Store
    from slipway_bundle.trust.evaluation import evaluate
    from slipway_cli.home import policy_of, store_folder

    store = Store.open(store_folder(os.environ))
    found = store.find(ref)
    rules = policy_of(policy, os.environ)
    with terminal.bar() as bar:
        bar.begin("policy")
        verdict = evaluate(store, ref, rules, now=datetime.now(UTC), with_blobs=blobs, progress=bar)
    terminal.document({"ref": found.text, "digest": found.digest, **_plain(verdict)})
    for finding in verdict.findings:
        _say(terminal, finding)
    if not verdict.is_allowed:
        terminal.insist(f"{found.text} is refused")
        return 1
    terminal.result(found.digest)
    terminal.say(f"{found.text} is allowed" + ("" if verdict.findings else ": the policy requires nothing"))
    return 0


def _plain(verdict: object) -> dict[str, object]:
    import msgspec

    built: dict[str, object] = msgspec.to_builtins(verdict)
    return built


def _say(terminal: Terminal, finding: "Finding") -> None:
    line = f"{finding.rule:<24} {finding.status:<8} "
    if finding.status in {"ok", "skipped"}:
        terminal.say(line + finding.got)
        return
    terminal.insist(line + finding.claim)
    if finding.hint:
        terminal.insist(f"hint: {finding.hint}")
