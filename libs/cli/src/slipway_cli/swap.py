"""`slipway swap`: another version into a live server, without a request lost.

Words only; `swapping.py` asks the server and follows it.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_cli.swapping import Rollout

PHASES: Final = {
    "preparing": "the new version starts beside the old one, and proves itself",
    "replacing": "API workers are replaced, one by one",
    "retiring": "what only the old version needed drains",
    "undoing": "going back",
}
"""What a person reads for a phase of a rollout; the last one, `over`, is in the result."""


def _address(context: click.Context, parameter: click.Parameter, given: str) -> str:
    del context, parameter
    if not re.fullmatch(r"https?://[^/?#\s]+/?", given):
        raise click.BadParameter(f"expected http://HOST:PORT, got {given!r}")
    return given.rstrip("/")


@click.command(
    cls=Verb,
    short_help="Put another version into a live server.",
    help="Put another version into a live server. It starts beside the old one, replays its golden examples, and takes "
    "over when it is ready; no request is lost. If it does not get ready, the old one serves on.\n\n"
    "TARGET is a bundle's reference in the server's store, or a folder.\n\n"
    "Exit status 1 when the new version failed, or another swap is running.",
    examples=(
        ("slipway swap churn:1.1.0", "prints the old and the new digest"),
        ("slipway swap services/churn --admin http://127.0.0.1:9002", "a folder, into the server with that admin port"),
    ),
)
@click.argument("target")
@click.option("--service", metavar="NAME", help="Which service, where several are served.")
@click.option(
    "--admin",
    metavar="URL",
    default="http://127.0.0.1:8002",
    show_default=True,
    callback=_address,
    help="The server's admin port.",
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0), default=900.0, show_default=True, help="Seconds to follow it."
)
@click.pass_obj
def swap(terminal: Terminal, target: str, service: str | None, admin: str, timeout_s: float) -> None:
    """Ask, follow, and say how it ended."""
    from slipway_cli.swapping import follow_swap, request_swap

    def announce(rollout: "Rollout") -> None:
        if rollout.phase in PHASES:
            why = f": {rollout.message}" if rollout.message else ""
            terminal.say(f"{rollout.phase:<10} {PHASES[rollout.phase]}{why}")

    where = str(Path(target).resolve()) if Path(target).is_dir() else target  # the server has a folder of its own
    accepted = request_swap(admin, where, service)
    terminal.say(f"swapping   {accepted.from_} for {accepted.to}")
    done = follow_swap(admin, accepted, timeout_s=timeout_s, announce=announce)
    terminal.document(
        {"generation": accepted.generation, "from": accepted.from_, "to": accepted.to, "outcome": done.outcome}
    )
    terminal.result(f"{accepted.from_} → {accepted.to}")
