"""`slipway postmortem new`: what the systems know about an incident, as the beginning of its post-mortem.

Words only; `slipway_signals.postmortem` asks, `slipway_bundle.diff` compares.
"""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli.oncall import prometheus_option
from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_bundle.diff import BundleDiff


@click.command(
    cls=Verb,
    name="new",
    short_help="Begin a post-mortem with what the systems know.",
    help="Write a post-mortem of SERVICE as Markdown: when which alert began and ended, when which release was served, "
    "what each objective lost, what failed how often, and what changed between two bundles (training data included). "
    "What only people know is left blank. Prints the path.\n\n"
    "--since and --until are a length before now (90m, 6h, 2d) or a time (2026-11-22T03:00:00+00:00). Without "
    "--from-bundle and --to-bundle the first and the last release of the interval are compared, where the local store "
    "has both.",
    examples=(
        ("slipway postmortem new churn", "of the last six hours"),
        ("slipway postmortem new churn --since 2d --until 1d", "of yesterday"),
        ("slipway postmortem new churn --from-bundle churn:1.0.0 --to-bundle churn:1.1.0", "with this difference"),
    ),
)
@click.argument("service")
@click.option("--since", default="6h", show_default=True, metavar="TIME", help="When it began, or earlier.")
@click.option("--until", metavar="TIME", help="When it was over.  [default: now]")
@click.option("--from-bundle", "before", metavar="REF", help="What was served before.")
@click.option("--to-bundle", "after", metavar="REF", help="What was served when it happened.")
@click.option("--out", type=click.Path(path_type=Path), help="File.  [default: postmortem-SERVICE-DAY, Markdown]")
@prometheus_option
@click.pass_obj
def new_postmortem(
    terminal: Terminal,
    *,
    service: str,
    since: str,
    until: str | None,
    before: str | None,
    after: str | None,
    out: Path | None,
    prometheus_url: str,
) -> None:
    """Ask, compare, write."""
    from slipway_cli.errors import FolderTakenError
    from slipway_signals.postmortem import incident_of
    from slipway_signals.postmortem_page import BLANK, write_postmortem
    from slipway_signals.prometheus import Prometheus

    if (before is None) != (after is None):
        raise click.UsageError("--from-bundle and --to-bundle belong together, expected both or none")
    now = time.time()
    start = _moment("--since", since, now)
    end = now if until is None else _moment("--until", until, now)
    path = out or Path(f"postmortem-{service.replace('/', '-')}-{datetime.fromtimestamp(start, UTC):%Y-%m-%d}.md")
    if path.exists():
        raise FolderTakenError(
            f"{str(path)!r} is there already, expected a new file", hint="name another one with `--out`"
        )
    incident = incident_of(Prometheus(prometheus_url), service, start, end)
    difference, why_not = _difference(before, after, incident.digests)
    page = write_postmortem(incident, difference, why_not)
    path.write_text(page, encoding="utf-8")
    terminal.document({"path": str(path), "incident": incident, "difference": difference})
    terminal.result(str(path))
    if not incident.timeline and not incident.spent:
        terminal.warn(f"Prometheus knows nothing about a service {service!r} in that time")
    terminal.say(f"{lines_of(len(incident.timeline), 'event')}; {page.count(BLANK) - 1} blanks are for people")


def _moment(option: str, text: str, now: float) -> float:
    from slipway_signals.slo.durations import parse_duration

    if (length_s := parse_duration(text)) is not None:
        return now - length_s
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise click.UsageError(
            f"{option} is {text!r}, expected a length (90m, 6h, 2d) or a time with its zone (2026-11-22T03:00:00+00:00)"
        )
    return found.timestamp()


def _difference(
    before: str | None, after: str | None, digests: tuple[str, ...]
) -> "tuple[BundleDiff | None, str | None]":
    """What was asked for, or must be there; what was not asked for may be missing, and is said."""
    from slipway_bundle.diff import diff_bundles
    from slipway_bundle.errors import SlipwayError
    from slipway_bundle.store import Store
    from slipway_cli.home import store_folder

    if before is not None and after is not None:
        return diff_bundles(Store.open(store_folder(os.environ)), before, after), None
    if len(digests) < 2:
        return None, "one release was served all the time, or what was served were folders"
    try:
        return diff_bundles(Store.open(store_folder(os.environ)), digests[0], digests[-1]), None
    except SlipwayError as error:
        return None, error.message
