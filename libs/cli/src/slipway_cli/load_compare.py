"""`slipway load compare`: the same inputs to two servers, interleaved, and what came of both."""

from pathlib import Path

import click

from slipway_cli import loading
from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="compare",
    short_help="Put the same load on two servers.",
    help="Put the same load on two servers: each input goes to both, in random order, and answers are compared.\n\n"
    "It judges nothing: `slipway gate run` does, with the same load.",
    examples=(
        ("slipway load compare --stable http://127.0.0.1:8000 --candidate http://127.0.0.1:9000", "a minute"),
        ("slipway load compare --plan load.toml --windows run.jsonl", "what `slipway gate run --windows` judges"),
    ),
)
@click.option("--stable", help="The server that is there, http://HOST:PORT.")
@click.option("--candidate", help="The server that would replace it.")
@click.option("--stable-admin", help="Admin port of the one.")
@click.option("--candidate-admin", help="Admin port of the other.")
@loading.run_options
@click.pass_obj
def compare_load(  # noqa: PLR0917  # click passes them by name
    terminal: Terminal,
    stable: str | None,
    candidate: str | None,
    stable_admin: str | None,
    candidate_admin: str | None,
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
    arms = {"stable": (stable, stable_admin), "candidate": (candidate, candidate_admin)}
    followed = loading.plan_of(plan, arms, key_env, path, payloads, values)
    summary = loading.run_windows(terminal, "compare", followed, windows)
    terminal.document(summary)
    loading.show(terminal, summary)
    differing = ", ".join(f"{count:,} in {field}" for field, count in sorted(summary.disagreed.items()))
    terminal.say(f"{summary.compared:,} pairs of answers, {differing + ' differ' if differing else 'all alike'}")
