"""`slipway bundle diff`: what changed between two bundles."""

import os
from itertools import groupby
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal, lines_of, size_text
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_bundle.diff import BundleDiff, Change

ABSENT = "-"


@click.command(
    cls=Verb,
    short_help="Show what changed between two bundles.",
    help="Show what changed from BEFORE to AFTER: models, schema, code, packages, metrics, size.\n\n"
    "Exit status 0 whether they differ or not; one tab-separated line a change through a pipe.",
    examples=(
        ("slipway bundle diff churn:1.0.0 churn:1.1.0", "a table of the changes"),
        ("slipway bundle diff churn:1.0.0 churn:1.1.0 --json", "the same as one object"),
    ),
)
@click.argument("before")
@click.argument("after")
@click.pass_obj
def diff(terminal: Terminal, before: str, after: str) -> None:
    """Compare, and show the changes."""
    import sys

    from slipway_bundle.diff import diff_bundles
    from slipway_bundle.store import Store
    from slipway_cli.home import store_folder

    found = diff_bundles(Store.open(store_folder(os.environ)), before, after)
    terminal.document(found)
    if sys.stdout.isatty():
        _draw(terminal, found)
    else:
        for change in found.changes:
            terminal.result("\t".join([change.area, change.name, change.before or ABSENT, change.after or ABSENT]))
    _say(terminal, found)


def _draw(terminal: Terminal, found: "BundleDiff") -> None:
    from rich.table import Table
    from rich.text import Text

    def area_of(change: "Change") -> str:
        return change.area

    for area, changes in groupby(found.changes, key=area_of):
        table = Table(box=None, pad_edge=False, header_style="bold", title=area, title_justify="left")
        for title in ("", "what", "before", "after"):
            table.add_column(title, overflow="fold")
        for change in changes:
            mark = "+" if change.before is None else "-" if change.after is None else "~"
            table.add_row(mark, Text(change.name), Text(change.before or ABSENT), Text(change.after or ABSENT))
        terminal.draw(table)


def _say(terminal: Terminal, found: "BundleDiff") -> None:
    if found.is_same_bundle:
        terminal.say(f"{found.before} and {found.after} are the same bundle")
        return
    same = "the same content" if found.is_same_content else "different content"
    terminal.say(
        f"{lines_of(len(found.changes), 'change')}, {same}; {size_text(found.size_before_bytes)} before, "
        f"{size_text(found.size_after_bytes)} after, {size_text(found.shared_bytes)} of it shared"
    )
