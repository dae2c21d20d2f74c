"""`slipway load run`: open-loop load on one server, and what came of it."""

from pathlib import Path

import click

from slipway_cli import loading
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="run",
    short_help="Put load on one server.",
    help="Put load on one server: requests leave when they are due, answered or not, and latency counts from then.\n\n"
    "Inputs are made from the server's OpenAPI document, or read. Shapes, mixes and caps: docs/load.md.",
    examples=(
        ("slipway load run --url http://127.0.0.1:8000 --rate 200", "a minute of Poisson arrivals"),
        ("slipway load run --url http://127.0.0.1:8000 --payloads golden.jsonl", "recorded inputs"),
        ("slipway load run --plan soak.toml --windows soak.jsonl", "a plan, its windows kept"),
    ),
)
@click.option("--url", help="The server, http://HOST:PORT.")
@click.option("--admin", help="Its admin port, for CPU, queue and cost.")
@loading.run_options
@click.pass_obj
def run_load(
    terminal: Terminal,
    url: str | None,
    admin: str | None,
    plan: Path | None,
    path: str | None,
    payloads: Path | None,
    rate: float | None,
    seconds: float | None,
    warm_up_s: float | None,
    workers: int | None,
    key_env: str | None,
    windows: Path | None,
) -> None:
    """Make the plan, follow it, show what came of it."""
    values = {"rate": rate, "seconds": seconds, "warm_up_s": warm_up_s, "workers": workers}
    followed = loading.plan_of(plan, {"stable": (url, admin)}, key_env, path, payloads, values)
    summary = loading.run_windows(terminal, "run", followed, windows)
    terminal.document(summary)
    loading.show(terminal, summary)
