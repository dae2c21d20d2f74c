"""`slipway capture compact`: make Parquet of what was captured, and let go of what is too old or too much."""

import time
from pathlib import Path

import click

from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Make Parquet of what was captured.",
    help="""Make Parquet of the segments that are closed, then apply retention and byte cap.

    A serving process has this done for it; by hand it is for folders that nobody serves from any more. It may be killed
    at any point, and run at any time.
    """,
    examples=(
        ("slipway capture compact --folder capture", "prints how many requests are in Parquet now"),
        ("slipway capture compact --folder capture --retention-days 7", "delete what is older"),
    ),
)
@click.option("--folder", required=True, type=click.Path(path_type=Path), help="`folder` of [runtime.capture].")
@click.option("--retention-days", type=click.IntRange(1, 3650), help="Days that captured requests are kept.  [30]")
@click.option("--max-bytes", type=click.IntRange(1_000_000), help="Bytes in the folder; the oldest go.  [10000000000]")
@click.option("--key-file", metavar="PATH", help="`key_file` of [runtime.capture], where it is configured.")
@click.option("--trust-clock", is_flag=True, help="The clock is right, however long ago the last run was.")
@click.pass_obj
def compact(
    terminal: Terminal,
    *,
    folder: Path,
    retention_days: int | None,
    max_bytes: int | None,
    key_file: str | None,
    trust_clock: bool,
) -> int:
    """Compact, and say what was done."""
    from slipway_signals.capture import CaptureConfig
    from slipway_signals.capture.compact import CLOCK_DOUBTED, compact

    defaults = CaptureConfig()
    config = CaptureConfig(
        retention_days=retention_days or defaults.retention_days,
        max_bytes=max_bytes or defaults.max_bytes,
        key_file=key_file,
    )
    report = compact(folder, config, time.time(), trust_clock=trust_clock)
    terminal.document(report)
    terminal.result(str(report.rows))
    terminal.say(
        f"{lines_of(report.segments, 'segment')} became {lines_of(report.parts, 'Parquet file')}; "
        f"{lines_of(report.expired, 'file')} too old, {report.evicted} too many"
    )
    if report.lost_bytes:
        terminal.warn(f"{report.lost_bytes} bytes were no whole records: a process was killed while it wrote them")
    if report.held:
        terminal.warn(f"{lines_of(report.held, 'file')} would be too old, and kept: {CLOCK_DOUBTED}")
        terminal.warn("if the clock is right, say so: `--trust-clock`")
    return 1 if report.held else 0
