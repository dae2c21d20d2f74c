"""`slipway policy explain`: what does the policy ask, in words?"""

import os

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="explain",
    short_help="Say in words what policy.toml asks.",
    help="Say in words what policy.toml asks, one rule a line, and check that its keys can be read.\n\n"
    "Exit status 2 when the file is wrong: an unknown name, a key that is none.",
    examples=(
        ("slipway policy explain", "policy.toml here or above"),
        ("slipway policy explain --policy production.toml", "another one"),
    ),
)
@click.option("--policy", metavar="FILE", help="The rules.  [default: policy.toml here or above]")
@click.pass_obj
def explain_policy(terminal: Terminal, *, policy: str | None) -> None:
    """Explain it."""
    from slipway_bundle.trust.explanation import explain
    from slipway_cli.home import policy_of

    lines = explain(policy_of(policy, os.environ))
    terminal.document({"rules": lines})
    for line in lines:
        terminal.result(f"{line.rule:<24} {line.text}")
    if not lines:
        terminal.say("no policy.toml here or above, or an empty one: nothing is required")
