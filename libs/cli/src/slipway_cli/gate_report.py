"""`slipway gate report`: evidence as a page, a comment and a test result."""

from pathlib import Path

import click

from slipway_cli.gate_options import SIGNERS, read_evidence
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

OUTPUT = click.Path(path_type=Path, dir_okay=False)


@click.command(
    cls=Verb,
    name="report",
    short_help="Write evidence as a page, Markdown and JUnit.",
    help="Write what the evidence in FILE says: a page that opens from a disk, a summary for a pull request, JUnit for "
    "CI. Without an option the page is written beside FILE. Prints each path that was written.\n\n"
    "It judges nothing: `slipway gate replay FILE` does that. With --signer the evidence must be signed by that key, "
    "and the page says so.",
    examples=(
        ("slipway gate report evidence.json", "writes evidence.html"),
        ("slipway gate report evidence.json --markdown gate.markdown --junit gate.xml", "for CI"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--html", metavar="FILE", type=OUTPUT, help="The page.")
@click.option("--markdown", metavar="FILE", type=OUTPUT, help="The summary.")
@click.option("--junit", metavar="FILE", type=OUTPUT, help="The test result.")
@click.option("--link", metavar="URL", help="Where the page will be; the summary links to it.")
@SIGNERS
@click.pass_obj
def report_evidence(
    terminal: Terminal,
    file: Path,
    *,
    html: Path | None,
    markdown: Path | None,
    junit: Path | None,
    link: str | None,
    signers: tuple[Path, ...],
) -> None:
    """Open, render, write."""
    from slipway_bundle.trust.keys import load_key
    from slipway_signals.gate.report.writing import write_reports

    data = read_evidence(file)
    if html is None and markdown is None and junit is None:
        html = file.with_suffix(".html")
    written = write_reports(data, tuple(map(load_key, signers)), html=html, markdown=markdown, junit=junit, link=link)
    terminal.document(written)
    for path in written.paths:
        terminal.result(path)
    terminal.say(f"{written.verdict}: {written.digest}")
