"""`slipway console`: what fires, whom it hurts and what to do, as pages in a browser. Reads only."""

from pathlib import Path

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Show alerts, dashboards and runbooks as pages.",
    help="Serve pages that say whether users are hurt, since when, on which release and what to do; the dashboards of "
    "observability/dashboards; and the runbooks, with live answers. Prints its address; runs until Ctrl-C or SIGTERM."
    "\n\nIt only reads. There is no login: whoever reaches the port sees what Prometheus knows, so by default "
    "only this machine does. docs/console.md has the pages and their JSON.",
    examples=(
        ("slipway console", "a Prometheus on this machine"),
        ("slipway console --prometheus http://prometheus:9090 --alertmanager http://alertmanager:9093", "others"),
        ("slipway console --port 0", "on a free port"),
    ),
)
@click.option("--prometheus", metavar="URL", default="http://127.0.0.1:9090", show_default=True, help="Whom to ask.")
@click.option("--alertmanager", metavar="URL", help="Says who was told, and what is muted.")
@click.option(
    "--observability",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("observability"),
    show_default=True,
    help="Its dashboards/ are shown.",
)
@click.option(
    "--runbooks",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("runbooks"),
    show_default=True,
    help="One page for each alert.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8900, show_default=True, help="0 chooses a free one.")
@click.pass_obj
def console(
    terminal: Terminal,
    *,
    prometheus: str,
    alertmanager: str | None,
    observability: Path,
    runbooks: Path,
    host: str,
    port: int,
) -> int:
    """Serve until told to stop."""
    from slipway_serve.console import ConsoleOptions, serve_console

    options = ConsoleOptions(
        prometheus=prometheus,
        alertmanager=alertmanager,
        observability=observability,
        runbooks=runbooks,
        host=host,
        port=port,
    )

    def announce(url: str) -> None:
        terminal.document({"url": url})
        terminal.result(url)

    return serve_console(options, announce)
