"""`slipway ready`: what stands between a service and production, and the command that mends each of it.

Words and exit status only; `readiness.py` looks.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipway_cli.readiness import Item

TINTS: Final = {"ok": "green", "advice": "yellow", "missing": "red"}


@click.command(
    cls=Verb,
    short_help="Check a service against the list for production.",
    help="Look at everything that SERVICE needs before production: it builds the bundle twice and compares, verifies "
    "it, starts it, and compares what is committed in observability/ and runbooks/ with its slo.yaml.\n\n"
    "SERVICE is a name in services/, or a folder. Exit status 1 when an item is missing; advice does not count.",
    examples=(
        ("slipway ready churn", "a table: each item, and the fix of each that is not ok"),
        ("slipway ready churn --json", "the same as one object, for CI"),
    ),
)
@click.argument("service")
@click.pass_obj
def ready(terminal: Terminal, service: str) -> int:
    """Check, and show."""
    from slipway_cli.readiness import check_service
    from slipway_signals.slo.build import find_root

    given = Path(service)
    root = find_root(given if given.is_dir() else Path.cwd())
    folder = given if given.is_dir() else Path(os.path.relpath(root / "services" / service))
    if not folder.is_dir():
        known = sorted(path.parent.name for path in root.glob("services/*/slipway.toml"))
        raise click.UsageError(f"service is {service!r}, expected a folder, or one of {', '.join(known)}")
    found = check_service(root, folder, say=terminal.detail)
    lacking = [item for item in found if item.status == "missing"]
    advised = sum(item.status == "advice" for item in found)
    terminal.document({"service": folder.resolve().name, "ready": not lacking, "items": found})
    if not terminal.json:
        _draw(terminal, found)
    terminal.say(f"{folder.resolve().name}: {len(found)} items, {len(lacking)} missing, {advised} with advice")
    return 1 if lacking else 0


def _draw(terminal: Terminal, found: "Sequence[Item]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for item in found:
        table.add_row(Text(item.status, style=TINTS[item.status]), item.name, Text(item.found))
        if item.fix:
            table.add_row("", "", Text(f"fix: {item.fix}", style="bold"))
    terminal.draw(table)
