"""`slipway labels ingest`: tell what became of predictions, so that true accuracy can be seen."""

import time
from pathlib import Path

import click

from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb

REFUSED = 1
"""Exit status when a line was no label: the others were counted."""


@click.command(
    cls=Verb,
    short_help="Count labels against captured predictions.",
    help="""Count the labels in FILE against the predictions that were captured in a folder.

    FILE is CSV, JSON lines (.jsonl) or Parquet with request_id, label and observed_at (seconds since the epoch, or ISO
    8601 with a zone). A label counts once, however often it is told; a later one for the same request corrects it.
    Lines that are no labels are named by number, the others are counted, and the exit status is 1.
    """,
    examples=(
        ("slipway labels ingest --folder capture labels.csv", "prints how many labels were new"),
        ("slipway labels ingest --folder capture labels.csv --json", "outcomes by model, version and day"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--folder", required=True, type=click.Path(path_type=Path), help="`folder` of [runtime.capture].")
@click.pass_obj
def ingest(terminal: Terminal, *, file: Path, folder: Path) -> int:
    """Ingest, and say where each line went."""
    from slipway_signals.capture.labels import ingest

    report = ingest(folder, file, time.time())
    terminal.document(report)
    terminal.result(str(report.new + report.corrected))
    numbers = (
        *((report.new, "new"), (report.again, "told before"), (report.corrected, "corrections")),
        *((report.outdated, "older than what is known"), (report.waiting, "wait for their request")),
        *((report.sampled_out, "left out by sampling"), (report.unanswered, "without a prediction")),
        *((report.found_later, "of earlier files found now"), (report.late, "late"), (report.early, "too early")),
    )
    told = ", ".join(f"{count} {words}" for count, words in numbers if count)
    terminal.say(f"{lines_of(report.lines, 'line')}: {told or 'nothing to count'}")
    for bad in report.bad_lines:
        terminal.warn(f"{file}:{bad.line}: {bad.problem}")
    if report.bad > len(report.bad_lines):
        terminal.warn(f"and {report.bad - len(report.bad_lines)} more lines that are no labels")
    return REFUSED if report.bad else 0
