"""`slipway gate run`: may the candidate take more traffic than it has?"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipway_cli.gate_options import asked_of, plan_options
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_signals.gate.evidence import Evidence
    from slipway_signals.gate.verdict import Look

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    cls=Verb,
    name="run",
    short_help="Compare a candidate with stable, under load.",
    help="Send the same load to two servers, judge at every window, and write the evidence. Prints the verdict: pass, "
    "fail or inconclusive. Exit status 1 unless it is pass.\n\n"
    "Before any traffic the plan must be able to conclude, the candidate's interface must be compatible and the "
    "golden examples must replay. The load ends as soon as the verdict stands. --key signs the evidence.",
    examples=(
        ("slipway gate run --stable http://127.0.0.1:8000 --candidate http://127.0.0.1:8010 --slo slo.yaml", "compare"),
        ("slipway gate run --plan gate.toml --evidence evidence.json --key release.key", "as CI does, signed"),
        ("slipway gate run --windows windows.jsonl --plan gate.toml", "judge what a splitter counted"),
    ),
)
@plan_options
@click.option("--windows", type=FILE, help="Judge these windows instead; nothing is sent.")
@click.option(
    "--evidence",
    type=FILE,
    default=Path("evidence.json"),
    show_default=True,
    help="Where the evidence is written.",
)
@click.option("--key", help="Who signs the evidence: a private key, or a key service.")
@click.option("--public", metavar="FILE", help="The public key (PEM) of a key service.")
@click.option("--anyway", is_flag=True, help="Run a plan that cannot conclude; it does not pass.")
@click.option("--rollout", help="Which rollout this is about, with --pod-hash and --stage.")
@click.option("--pod-hash", help="Of the candidate's pods.")
@click.option("--stage", help="The rollout's step.")
@click.pass_obj
def run_gate_verb(
    terminal: Terminal,
    /,
    *,
    windows: Path | None,
    evidence: Path,
    key: str | None,
    public: str | None,
    anyway: bool,
    rollout: str | None,
    pod_hash: str | None,
    stage: str | None,
    **flags: Any,
) -> int:
    """Prepare, run, write, say."""
    from slipway_bundle.store import Store
    from slipway_bundle.trust.keys import load_signer
    from slipway_cli.home import store_folder
    from slipway_signals.gate.asking import conduct, prepare, subject_of, write_evidence

    asked = asked_of(flags, windows=windows, subject=subject_of(rollout, pod_hash, stage))
    # A key that cannot be read should not cost a minute of load.
    signer = (
        None if key is None else load_signer(key, environ=os.environ, public=None if public is None else Path(public))
    )
    prepared = prepare(asked, lambda: Store.open(store_folder(os.environ)))
    with terminal.bar() as bar:
        bar.begin("load")
        found = conduct(asked, prepared, os.environ, is_forced=anyway, announce=lambda look: say_look(terminal, look))
    digest = write_evidence(found, evidence, signer)
    terminal.document(
        {
            "verdict": found.decision.verdict,
            "evidence": str(evidence),
            "digest": digest,
            "decision": found.decision,
            "checks": found.checks,
            "criteria": found.criteria,
        }
    )
    say_decision(terminal, found)
    terminal.say(f"evidence: {evidence} ({digest})")
    return 0 if found.decision.verdict == "pass" else 1


def say_decision(terminal: Terminal, found: "Evidence") -> None:
    """The verdict on stdout, its reasons and metrics on stderr."""
    from slipway_signals.gate.reasons import amount_text

    for criterion, one in zip(found.criteria, found.decision.metrics, strict=False):
        between = f"{amount_text(criterion, one.lower)} … {amount_text(criterion, one.upper)}"
        estimate, margin = amount_text(criterion, one.estimate), amount_text(criterion, criterion.margin)
        terminal.say(f"{criterion.metric:<24} {one.verdict:<12} {estimate:>14} ({between}), margin {margin}")
    for check in found.checks:
        terminal.detail(f"{check.name}: {check.status}: {check.text}")
    for reason in found.decision.reasons:
        terminal.insist(reason)
    terminal.result(found.decision.verdict)


def say_look(terminal: Terminal, look: "Look") -> None:
    """How far the run is, for who wants to know more."""
    settled = sum(one.verdict == "pass" for one in look.metrics)
    terminal.detail(f"{look.at_s:6.1f} s  {look.verdict:<12} {settled} of {len(look.metrics)} metrics are settled")
