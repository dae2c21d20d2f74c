"""`slipway gate unfreeze`: take a freeze back."""

from pathlib import Path

import click

from slipway_cli.gate_freeze import frozen_name
from slipway_cli.gate_post import service_at, service_options
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="unfreeze",
    short_help="Take a freeze back.",
    help="Take back what `slipway gate freeze` froze under exactly this name: a rollout stays frozen while --all "
    "holds. Exit status 3 when nothing was frozen by this name.",
    examples=(("slipway gate unfreeze --to URL --rollout shop/churn", "verdicts count again"),),
)
@service_options[0]
@service_options[1]
@service_options[2]
@click.option("--rollout", metavar="NAME", help="As it was frozen.")
@click.option("--all", "is_every", is_flag=True, help="What was frozen with --all.")
@click.pass_obj
def unfreeze(
    terminal: Terminal, *, url: str, key_file: Path | None, authority: Path | None, rollout: str | None, is_every: bool
) -> None:
    """Unfreeze, and say so."""
    name = frozen_name(rollout, is_every=is_every)
    service_at(url, key_file, authority).unfreeze(name)
    terminal.document({"rollout": name})
    terminal.result(name)
    terminal.say("not frozen any more by this name")
