"""`slipway traffic show`: who gets how much of a service's traffic, and what the release waits for."""

import click

from slipway_cli.kubectl_options import cluster_options
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

ANALYSES = 6


@click.command(
    cls=Verb,
    name="show",
    short_help="Who gets how much traffic.",
    help="Show both versions of a service in a cluster: weight, ready pods, digest; the step of the release, and what "
    "the last analyses said. It changes nothing.",
    examples=(("slipway traffic show shop/churn", "before anything else"),),
)
@click.argument("rollout", metavar="NAMESPACE/NAME")
@cluster_options
@click.pass_obj
def show_traffic(terminal: Terminal, rollout: str, *, kubeconfig: str | None, context: str | None) -> None:
    """Ask, and draw."""
    from rich.table import Table

    from slipway_cli.rollout_analyses import analyses_of
    from slipway_cli.rollout_questions import ask_pods, find_rollout
    from slipway_cli.rollouts import arms_of

    kubectl, found = find_rollout(rollout, kubeconfig=kubeconfig, context=context)
    pods = ask_pods(kubectl, found)
    analyses = analyses_of(found, kubectl.list("analysisruns.argoproj.io"))[:ANALYSES]
    arms = arms_of(found, pods)
    terminal.document({"rollout": found, "arms": arms, "pods": pods, "analyses": analyses})
    table = Table(box=None, pad_edge=False)
    for title in ("", "weight", "ready", "restarts", "hash", "image"):
        table.add_column(title, overflow="fold")
    for arm, one in arms.items():
        weight = "-" if one["weight"] is None else str(one["weight"])
        table.add_row(arm, weight, f"{one['ready']}/{one['pods']}", str(one["restarts"]), one["hash"], one["image"])
    terminal.draw(table)
    terminal.say(f"{found.phase}{': ' + found.message if found.message else ''}")
    if found.has_canary and found.step < len(found.steps):
        terminal.say(f"step {found.step + 1} of {len(found.steps)}: {found.steps[found.step]}")
    if found.is_held:
        terminal.say("held by a person; `slipway traffic shift … --to pipeline` goes on")
    for run in analyses:
        terminal.say(f"{run.began}  {run.phase:<13} {run.name}{': ' + run.text if run.text else ''}")
