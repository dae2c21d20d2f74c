"""`slipway bundle compatible`: may one bundle take the place of another without its callers noticing?"""

import os
import sys
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_bundle.compatibility import Compatibility, Finding

ABSENT = "-"


@click.command(
    cls=Verb,
    short_help="May one bundle take the place of another?",
    help="Compare the schemas of OLD and NEW: the bodies of their routes, and the tensors of their models.\n\n"
    "What callers send may not be removed or narrowed, what they read may not be removed or widened, unless the major "
    "version is higher. Exit status 1 when it is, and the version is not; one tab-separated line a finding through a "
    "pipe, breaking ones first.",
    examples=(
        ("slipway bundle compatible churn:1.0.0 churn:1.1.0", "before 1.1.0 takes any traffic"),
        ("slipway bundle compatible churn:1.0.0 churn:2.0.0", "a major version may break its callers; it says how"),
    ),
)
@click.argument("old")
@click.argument("new")
@click.pass_obj
def compatible(terminal: Terminal, old: str, new: str) -> int:
    """Compare, and show the findings."""
    from slipway_bundle.compatibility import compare_bundles
    from slipway_bundle.store import Store
    from slipway_cli.home import store_folder

    found = compare_bundles(Store.open(store_folder(os.environ)), old, new)
    terminal.document(found)
    if sys.stdout.isatty() and found.findings:
        _draw(terminal, found)
    else:
        for finding in found.findings:
            terminal.result("\t".join(_cells(finding)))
    _say(terminal, found)
    return 0 if found.is_compatible else 1


def _cells(finding: "Finding") -> tuple[str, ...]:
    weight = "breaking" if finding.is_breaking else "fine"
    change = (finding.before or ABSENT, finding.after or ABSENT)
    return (weight, finding.where, finding.field, finding.kind, finding.what, *change)


def _draw(terminal: Terminal, found: "Compatibility") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "where", "field", "", "what", "before", "after"):
        table.add_column(title, overflow="fold")
    for finding in found.findings:
        table.add_row(*(Text(cell) for cell in _cells(finding)))
    terminal.draw(table)


def _say(terminal: Terminal, found: "Compatibility") -> None:
    broken = lines_of(sum(finding.is_breaking for finding in found.findings), "breaking change")
    if not found.is_compatible:
        terminal.insist(f"{found.after} cannot take the place of {found.before}: {broken}")
        terminal.insist("hint: keep what callers rely on, or give it a higher major version: `version` of `[bundle]`")
    elif found.is_major:
        terminal.say(f"{found.after} may take the place of {found.before}: {broken}, and a higher major version")
    else:
        terminal.say(f"{found.after} may take the place of {found.before}: {broken}")
