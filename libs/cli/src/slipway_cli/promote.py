"""`slipway promote`: the same digest, from one environment to the next, with its evidence."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli.stacks import stack_options, user_name
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from datetime import datetime

    from slipway_bundle.policy import Policy
    from slipway_bundle.trust.keys import TrustedKey
    from slipway_signals.release.promotion import Evidenced
    from slipway_signals.release.records import Release
    from slipway_signals.release.stack_files import ServiceImage, StackFile


@click.command(
    cls=Verb,
    short_help="Release the same digest in the next environment.",
    help="Write the digest that SERVICE runs in one environment into the stack file of another, when policy.toml "
    "allows the bundle and signed evidence of the gate says that it passed. Bundle, signatures and evidence are "
    "copied when the other environment has a registry of its own. Prints the reference by digest.\n\n"
    "Both files that change, the stack file and releases.jsonl, are for a commit; `pulumi up` releases. "
    "docs/release.md.",
    examples=(
        ("slipway promote churn --from dev --to staging", "then `pulumi -C platform/services -s staging up`"),
        ("slipway promote churn --from staging --to production --dry-run", "would it be allowed?"),
    ),
)
@click.argument("service")
@click.option("--from", "origin", required=True, metavar="ENV", help="Where it runs: Pulumi.ENV.yaml.")
@click.option("--to", "target", required=True, metavar="ENV", help="Where it shall run.")
@stack_options
@click.option("--policy", metavar="FILE", help="What may be released.  [default: policy.toml here or above]")
@click.option(
    "--signer",
    "signers",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Public key of whose evidence counts; may be repeated.  [default: `signatures.by` of the policy]",
)
@click.option("--dry-run", is_flag=True, help="Judge, and change nothing.")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to registries on other machines.")
@click.pass_obj
def promote(
    terminal: Terminal,
    service: str,
    *,
    origin: str,
    target: str,
    stacks: Path,
    by: str | None,
    policy: str | None,
    signers: tuple[Path, ...],
    dry_run: bool,
    insecure: bool,
) -> None:
    """Read both, judge, copy, write."""
    from datetime import UTC, datetime

    from slipway_cli.home import policy_of
    from slipway_signals.release.promotion import examine
    from slipway_signals.release.records import add_release
    from slipway_signals.release.stack_files import ServiceImage, load_stack

    rules = policy_of(policy, os.environ)
    keys = _keys(rules, signers)
    source, stack = load_stack(stacks, origin).image(service), load_stack(stacks, target)
    before = stack.image(service)
    after = ServiceImage(place=before.place, digest=source.digest)
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="slipway-promote-") as folder, terminal.bar() as bar:
        bar.begin("evidence")
        found = examine(
            source.text, Path(folder) / "store", rules, keys, environ=os.environ, now=now, is_insecure=insecure
        )
    is_new = before != after
    text = stack.with_image(service, after)
    if not dry_run and is_new:
        if source.place != after.place:
            _copy(terminal, source, f"{after.place}:{found.version}", insecure=insecure)
        stack.write(text)
        add_release(stacks, _record(service, stack, before, after, found, origin=origin, by=by, now=now))
    terminal.document(
        {
            "image": after.text,
            "before": before.text,
            "is_new": is_new,
            "was_written": is_new and not dry_run,
            "passed": found,
        }
    )
    terminal.result(after.text)
    terminal.say(f"{found.name}:{found.version} passed: evidence {found.evidence}, signed by {found.signer}")
    _say(terminal, stack, before, is_new=is_new, is_dry=dry_run)


def _record(
    service: str,
    stack: "StackFile",
    before: "ServiceImage",
    after: "ServiceImage",
    found: "Evidenced",
    *,
    origin: str,
    by: str | None,
    now: "datetime",
) -> "Release":
    from slipway_signals.release.records import Release

    return Release(
        kind="promote",
        service=service,
        environment=stack.environment,
        image=after.text,
        before=before.text,
        at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        by=by or user_name(),
        origin=origin,
        evidence=found.evidence,
        signer=found.signer,
    )


def _keys(policy: "Policy", signers: tuple[Path, ...]) -> "tuple[TrustedKey, ...]":
    from slipway_bundle.trust.keys import load_key
    from slipway_bundle.trust.signing_rules import trusted_keys

    if signers:
        return tuple(map(load_key, signers))
    return trusted_keys(policy, policy.signatures.by) if policy.signatures is not None else ()


def _copy(terminal: Terminal, source: "ServiceImage", target: str, *, insecure: bool) -> None:
    from slipway_bundle.registry import copy

    with terminal.bar() as bar:
        copied = copy(source.text, target, environ=os.environ, progress=bar, announce=bar.begin, is_insecure=insecure)
    terminal.say(f"copied to {copied.ref}, with what refers to it: {copied.referrers}")


def _say(terminal: Terminal, stack: "StackFile", before: "ServiceImage", *, is_new: bool, is_dry: bool) -> None:
    if not is_new:
        terminal.say(f"unchanged: {stack.environment} has it already")
    elif is_dry:
        terminal.say(f"would replace {before.text} in {stack.path}")
    else:
        terminal.say(f"replaced {before.text} in {stack.path}")
        terminal.say(f"next: commit it, and `pulumi -C {stack.path.parent} -s {stack.environment} up`")
