"""`slipway gate ask`: what does the verdict service know about a stage of a rollout?"""

from pathlib import Path

import click

from slipway_cli.gate_post import service_at, service_options
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="ask",
    short_help="Ask the verdict service about a stage.",
    help="Ask a verdict service whether a stage of a rollout may go on. Prints pass, fail or inconclusive; exit status "
    "0 for pass, 1 for the others.",
    examples=(("slipway gate ask --to URL --rollout shop/churn --pod-hash 6d5f8b --stage 10", "before more traffic"),),
)
@service_options[0]
@service_options[1]
@service_options[2]
@click.option("--rollout", required=True, metavar="NAME", help="Of the rollout, as in the evidence.")
@click.option("--pod-hash", required=True, metavar="HASH", help="Of the candidate's pods.")
@click.option("--stage", required=True, metavar="NAME", help="Of the rollout.")
@click.pass_obj
def ask_verdict(
    terminal: Terminal,
    *,
    url: str,
    key_file: Path | None,
    authority: Path | None,
    rollout: str,
    pod_hash: str,
    stage: str,
) -> int:
    """Ask, and answer with the exit status."""
    from slipway_serve.verdicts.answers import Stage

    asked = Stage(rollout=rollout, pod_hash=pod_hash, stage=stage)
    answer = service_at(url, key_file, authority).ask(asked)
    terminal.document(answer)
    terminal.result(answer.verdict)
    terminal.say(answer.reason)
    return 0 if answer.verdict == "pass" else 1
