"""`slipway slo explain`: what an objective means in minutes."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_signals.slo.explain import Explained


@click.command(
    cls=Verb,
    name="explain",
    short_help="How long until an alert fires, and what budget is left then.",
    help="Show for each objective of a service how long it takes at which error rate until each window pair fires, "
    "whom it wakes, and how much of the budget is left then. One scrape and two evaluations come on top.\n\n"
    "With few requests the low-traffic guard takes longer to be sure: --per-minute shows by how much.",
    examples=(
        ("slipway slo explain churn", "with much traffic"),
        ("slipway slo explain churn --per-minute 1", "with one request a minute"),
    ),
)
@click.argument("service")
@click.option("--per-minute", type=click.FloatRange(0, min_open=True), help="Requests a minute.  [default: many]")
@click.pass_obj
def explain_slos(terminal: Terminal, service: str, per_minute: float | None) -> None:
    """Work it out and draw it."""
    from slipway_signals.slo.build import find_root, load_services
    from slipway_signals.slo.explain import explain

    services = {found.service: found for found in load_services(find_root(Path.cwd()))}
    if service not in services:
        raise click.UsageError(f"service is {service!r}, expected one that has an slo.yaml: {', '.join(services)}")
    told = [explain(slo, per_minute=per_minute) for slo in services[service].slos]
    terminal.document({"service": service, "slos": told})
    for each in told:
        _draw(terminal, each)


def _draw(terminal: Terminal, told: "Explained") -> None:
    from rich.table import Table
    from rich.text import Text

    traffic = "" if told.per_minute is None else f", {told.per_minute:g} events a minute"
    title = f"{told.name}: {told.target:.6g} over {told.window}, {told.budget_minutes:g} minutes of budget{traffic}"
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("wakes", "windows", "burn", "from"):
        table.add_column(name, justify="right" if name in {"burn", "from"} else "left")
    for share in told.errors:
        table.add_column(f"{share:.4g}" if share < 0.01 else f"{share:.0%}", justify="right")
    table.add_column("resets", justify="right")
    table.add_column("budget left", justify="right")
    for row in told.rows:
        times = ["-" if time is None else _minutes(time) for time in row.detection_minutes]
        windows = f"{row.long} and {row.short}"
        cells = (row.severity, windows, f"{row.burn_rate:g}", f"{row.errors:.3g}", *times)
        table.add_row(*cells, _minutes(row.reset_minutes), f"{row.budget_left:.0%}")
    terminal.draw(Text(title, style="bold"), table, Text(""))


def _minutes(minutes: float) -> str:
    """`0.9 min`, `3.6 h`."""
    return f"{minutes:.1f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
