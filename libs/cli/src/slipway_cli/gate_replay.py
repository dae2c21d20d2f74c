"""`slipway gate replay`: does the verdict follow from the evidence?"""

from pathlib import Path

import click

from slipway_cli.gate_options import SIGNERS, read_evidence
from slipway_cli.gate_run import say_decision
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="replay",
    short_help="Recompute a verdict from its evidence.",
    help="Judge the counts in FILE again and compare the outcome byte for byte. Prints the verdict that follows from "
    "the counts. Exit status 1 when the file says something else, or is not signed by the key of --signer; what the "
    "verdict is does not matter here.",
    examples=(
        ("slipway gate replay evidence.json", "is it what the counts say?"),
        ("slipway gate replay evidence.json --signer release.pub", "and who says so?"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@SIGNERS
@click.pass_obj
def replay(terminal: Terminal, file: Path, *, signers: tuple[Path, ...]) -> int:
    """Read, recompute, compare."""
    from slipway_bundle.trust.keys import load_key
    from slipway_signals.gate.replaying import replay_evidence

    data = read_evidence(file)
    found = replay_evidence(data, tuple(map(load_key, signers)))
    verdict = found.evidence.decision.verdict
    terminal.document(
        {
            "verdict": verdict,
            "is_same": found.is_same,
            "difference": found.difference,
            "digest": found.digest,
            "signer": found.signer,
        }
    )
    say_decision(terminal, found.evidence)
    if found.signer is not None:
        terminal.say(f"signed by {found.signer}")
    if found.is_same:
        terminal.say(f"{found.digest} gives the same bytes")
        return 0
    terminal.insist(f"{file} is not what its counts say: {found.difference}")
    return 1
