"""`slipway bundle verify`: is a bundle, byte for byte, what it says, and does it answer as promised?"""

import os
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_bundle.verify import VerifyReport


@click.command(
    cls=Verb,
    short_help="Hash everything, replay the golden examples.",
    help="Hash every byte of a bundle and replay its golden examples in a clean process.\n\n"
    "Prints the digest that was verified. Exit status 1 when the bundle is not what it says.",
    examples=(
        ("slipway bundle verify churn", "all steps"),
        ("slipway bundle verify churn --no-replay", "bytes only: none of the bundle's code runs"),
    ),
)
@click.argument("ref")
@click.option("--replay/--no-replay", default=True, help="Replay the golden examples.  [default: replay]")
@click.pass_obj
def verify(terminal: Terminal, ref: str, *, replay: bool) -> int:
    """Verify, and show the steps."""
    from slipway_bundle.store import Store
    from slipway_bundle.verify import verify as verify_bundle
    from slipway_cli.home import store_folder

    store = Store.open(store_folder(os.environ))
    with terminal.bar() as bar:
        report = verify_bundle(store, ref, progress=bar, announce=bar.begin, is_replaying=replay)
    terminal.document(report)
    _say(terminal, report)
    if report.is_valid:
        terminal.result(report.digest)
    return 0 if report.is_valid else 1


def _say(terminal: Terminal, report: "VerifyReport") -> None:
    for step in report.steps:
        line = f"{step.number} {step.name:<12} {step.status:<8} "
        if step.status in {"ok", "skipped"}:
            terminal.say(line + step.detail)
            continue
        terminal.insist(line + step.detail)
        if step.hint:
            terminal.insist(f"hint: {step.hint}")
    if report.is_valid:
        terminal.say(f"{report.ref} is what it says")
    else:
        terminal.insist(f"{report.ref} is not what it says")
