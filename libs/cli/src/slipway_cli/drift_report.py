"""`slipway drift report`: captured rows against the training sample, as a page that a person reads.

The report is made by `python -m slipway_signals.drift_report`, a process of its own: Evidently takes seconds and
hundreds of megabytes to import, and must not come into any other process.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from slipway_cli.errors import ProgramFailedError, ToldError


@click.command(
    cls=Verb,
    name="report",
    short_help="Write a drift report of captured rows.",
    help="Compare the rows in CAPTURED (a table, or a folder of captured Parquet parts) with the reference profile "
    "that training wrote, and print the page's path.\n\n"
    "With --reference, the training sample itself, Evidently's report is written beside it "
    "(needs slipway-signals[drift-report]).",
    examples=(
        ("slipway drift report captured/churn --profile services/churn/model/reference.json", "writes drift-report/"),
        ("slipway drift report day.parquet --profile p.json --reference train.parquet", "with Evidently's page"),
    ),
)
@click.argument("captured", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--profile",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The model's reference profile (JSON).",
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The training sample: .csv, .jsonl, .npz, .parquet.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("drift-report"),
    show_default=True,
    help="Folder.",
)
@click.option("--title", help="The page's heading.")
@click.pass_obj
def drift_report(
    terminal: Terminal, captured: Path, profile: Path, reference: Path | None, out: Path, title: str | None
) -> None:
    """Start the process, and hand on what it says."""
    import msgspec

    command = [sys.executable, "-m", "slipway_signals.drift_report", "--current", str(captured)]
    command += ["--profile", str(profile), "--out", str(out)]
    command += ["--reference", str(reference)] if reference is not None else []
    command += ["--title", title] if title is not None else []
    environment = {**os.environ, "DO_NOT_TRACK": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise _told(done.stderr)
    page = Path(done.stdout.decode().strip())
    figures = msgspec.json.decode((page.parent / "drift.json").read_bytes())
    terminal.document({"page": str(page), **figures})
    terminal.result(str(page))
    terminal.say(f"{figures['rows']:,} rows against {figures['reference_rows']:,} of the training sample")


def _told(stderr: bytes) -> "ToldError | ProgramFailedError":
    """The error that the process met, as it told it on its last line."""
    import msgspec

    from slipway_cli.errors import ProgramFailedError, Told, ToldError

    lines = stderr.decode("utf-8", "replace").strip().splitlines() or [""]
    try:
        return ToldError(msgspec.json.decode(lines[-1], type=dict[str, Told])["error"])
    except (msgspec.MsgspecError, KeyError):
        return ProgramFailedError(f"the drift report ended without a page: {lines[-1]}", hint="\n".join(lines[-8:]))
