"""`slipway split`: a small reverse proxy in front of two or more servers, until stopped."""

from pathlib import Path

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Share requests between servers, or copy them to one.",
    help="Share the requests of one address between arms, as FILE says: by weight, by a key of the request so that a "
    "user stays with an arm, or as a trusted caller asks. With `[shadow]` what stable answers is asked of another arm "
    "too, and nobody gets that answer. With `[windows]` it writes down what `slipway gate run --windows` judges.\n\n"
    "Runs until Ctrl-C or SIGTERM, then drains. FILE is read again when it changes. docs/split.md has all of its keys.",
    examples=(
        ("slipway split split.toml", "share, copy and count as the file says"),
        ("slipway split split.toml --check", "is the file right?"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--check", is_flag=True, help="Read the file, print the shares, and stop.")
@click.pass_obj
def split(terminal: Terminal, file: Path, *, check: bool) -> int:
    """Check, or serve until told to stop."""
    if check:
        from slipway_serve.split.config import load_split

        config = load_split(file)
        total = sum(config.weights.values())
        shares = {name: weight / total for name, weight in config.weights.items()}
        terminal.document({"shares": shares})
        for name, share in shares.items():
            terminal.result(f"{name} {share:.4g} {config.arms[name].url}")
        return 0
    from slipway_serve.split.run import run_split

    return run_split(file, terminal.say)
