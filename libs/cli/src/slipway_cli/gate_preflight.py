"""`slipway gate preflight`: can this plan conclude at all?"""

import os
from typing import Any

import click

from slipway_cli.gate_options import asked_of, plan_options
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="preflight",
    short_help="Say whether a plan can conclude, and what would do.",
    help="Foresee how many requests each metric takes until it is settled. Sends nothing. Prints each metric with "
    "its requests; exit status 1 when the plan cannot conclude, with what would do: a rate, a length, a margin.",
    examples=(
        ("slipway gate preflight --plan gate.toml --slo slo.yaml", "before a release"),
        (
            "slipway gate preflight --stable http://127.0.0.1:8000 --candidate http://127.0.0.1:8010 --rate 50",
            "is 50 a second enough?",
        ),
    ),
)
@plan_options
@click.pass_obj
def preflight(terminal: Terminal, /, **flags: Any) -> int:
    """Read, foresee, say."""
    from slipway_bundle.errors import UsageError
    from slipway_bundle.store import Store
    from slipway_cli.home import store_folder
    from slipway_signals.gate.asking import prepare

    found = prepare(asked_of(flags), lambda: Store.open(store_folder(os.environ))).preflight
    if found is None:
        raise UsageError("the plan sends nothing, so there is nothing to foresee")
    terminal.document(found)
    for one in found.forecasts:
        enough = "enough" if one.is_enough else "too few"
        terminal.result(f"{one.metric:<16} {one.requests:>9} requests  {one.seconds:>8.1f} s  {enough}")
    terminal.say(f"planned: {found.requests:,} requests for each arm in {found.seconds:g} s")
    if found.can_conclude:
        return 0
    terminal.insist("the plan cannot conclude")
    for line in found.advice:
        terminal.insist(f"hint: {line}")
    return 1
