"""`slipway capture forget`: take everything that was captured of one person, or one request, out again."""

import time
from pathlib import Path

import click

from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Take a person, or a request, out of what was captured.",
    help="""Take every captured row of one subject, or of one request, out of a capture folder, with its labels.

    A subject is found where it is the value. Inside longer texts that a service keeps as they are, `--text` finds
    names, addresses and numbers, whatever their case; look with `--dry-run` first how many rows have them.

    Processes may be capturing meanwhile: they close what they have open first. A receipt, which does not say whom it
    is about, is kept in the folder; its digest is printed. Backups and copies are not reached; they end with the
    retention. See docs/capture.md.
    """,
    examples=(
        ("slipway capture forget --folder capture --subject c-1042", "prints the digest of the receipt"),
        ("slipway capture forget --folder capture --request 7f3a --dry-run", "how many rows would go"),
        ("slipway capture forget --folder capture --text 'Ada King'", "every row with a text that has the name in it"),
    ),
)
@click.option("--folder", required=True, type=click.Path(path_type=Path), help="`folder` of [runtime.capture].")
@click.option("--subject", metavar="ID", help="The person, as the service was told; not a pseudonym.")
@click.option("--request", metavar="ID", help="The id of one request.")
@click.option(
    "--text", "texts", metavar="TEXT", multiple=True, help="What kept texts call the person; may be repeated."
)
@click.option("--key-file", metavar="PATH", help="`key_file` of [runtime.capture], where it is configured.")
@click.option("--dry-run", is_flag=True, help="Forget nothing; say how much would be.")
@click.pass_obj
def forget(
    terminal: Terminal,
    *,
    folder: Path,
    subject: str | None,
    request: str | None,
    texts: tuple[str, ...],
    key_file: str | None,
    dry_run: bool,
) -> None:
    """Forget, and say how much was."""
    from slipway_signals.capture.forget import forget

    receipt = forget(
        folder, time.time(), subject=subject, request=request, texts=texts, key_file=key_file, dry_run=dry_run
    )
    terminal.document(receipt)
    if subject and receipt.kept_text:
        columns = ", ".join(receipt.kept_text)
        terminal.warn(f"nobody was looked for inside longer texts, which {columns} may hold: see `--text`")
    what = f"{lines_of(receipt.rows, 'row')} and {lines_of(receipt.labels, 'label')}"
    if dry_run:
        terminal.say(f"would take out {what}, searched {lines_of(receipt.searched, 'file')}")
        return
    terminal.result(receipt.digest)
    terminal.say(
        f"took out {what}, wrote {lines_of(len(receipt.files), 'file')} anew of {receipt.searched}; "
        f"receipt: {folder / 'receipts' / receipt.id}.json"
    )
