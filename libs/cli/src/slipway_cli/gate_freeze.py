"""`slipway gate freeze`: let nothing of a rollout pass for a while."""

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from slipway_cli.gate_post import service_at, service_options
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

EVERY = "*"


@click.command(
    cls=Verb,
    name="freeze",
    short_help="Let nothing of a rollout pass for a while.",
    help="Freeze a rollout at a verdict service, or every one with --all: until it ends, or `slipway gate unfreeze`, "
    "what passed is inconclusive, and rollouts wait for a person. A fail stays a fail. Freezing again replaces the "
    "reason and the end. Prints what is frozen.",
    examples=(
        ("slipway gate freeze --to URL --rollout shop/churn --reason 'incident 4711'", "until it is taken back"),
        ("slipway gate freeze --to URL --all --reason 'holidays' --until 2027-01-04T08:00:00Z", "every rollout"),
        ("slipway gate freeze --to URL --rollout shop/churn --reason 'error budget spent' --for 12h", "for a while"),
    ),
)
@service_options[0]
@service_options[1]
@service_options[2]
@click.option("--rollout", metavar="NAME", help="As in the evidence: `shop/churn`.")
@click.option("--all", "is_every", is_flag=True, help="Every rollout.")
@click.option("--reason", required=True, metavar="TEXT", help="What people are told, 500 characters at most.")
@click.option("--until", metavar="TIME", help="When it ends, with a time zone: 2027-01-04T08:00:00Z.")
@click.option("--for", "length", metavar="TIME", help="How long: 30m, 12h, 3d.")
@click.pass_obj
def freeze(
    terminal: Terminal,
    *,
    url: str,
    key_file: Path | None,
    authority: Path | None,
    rollout: str | None,
    is_every: bool,
    reason: str,
    until: str | None,
    length: str | None,
) -> None:
    """Freeze, and say what holds now."""
    name = frozen_name(rollout, is_every=is_every)
    frozen = service_at(url, key_file, authority).freeze(name, reason, _end(until, length))
    terminal.document(frozen)
    terminal.result(frozen.rollout)
    terminal.say(frozen.said())


def frozen_name(rollout: str | None, *, is_every: bool) -> str:
    """What is frozen under: a rollout's name, or `*`."""
    if (rollout is None) != is_every:
        raise click.UsageError("expected either --rollout NAME or --all")
    return EVERY if rollout is None else rollout


def _end(until: str | None, length: str | None) -> datetime | None:
    from slipway_bundle.durations import parse_duration

    if until is not None and length is not None:
        raise click.UsageError("--until and --for are both given, expected one of them at most")
    if length is not None:
        return datetime.fromtimestamp(time.time(), UTC) + parse_duration(length)
    if until is None:
        return None
    try:
        end = datetime.fromisoformat(until)
    except ValueError:
        end = None
    if end is None or end.tzinfo is None:
        raise click.UsageError(f"--until is {until!r}, expected a time with its zone, such as 2027-01-04T08:00:00Z")
    return end
