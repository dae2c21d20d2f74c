"""`slipway bundle copy`: from registry to registry, past the local store."""

import os

import click

from slipway_cli.terminal import Terminal, lines_of, size_text
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Copy a bundle between registries.",
    help="Copy a bundle or an image, and everything that refers to it, between registries or layouts on disk.\n\n"
    "Nothing is converted, so the digest stays. Prints the reference by digest.",
    examples=(
        ("slipway bundle copy a.example.com/churn:1.0.0 b.example.com/churn", "from one registry to another"),
        ("slipway bundle copy registry.example.com/churn:1.0.0 oci:/media/disk:churn:1.0.0", "onto a disk"),
    ),
)
@click.argument("source")
@click.argument("destination")
@click.option("--replace", is_flag=True, help="Let the tag move away from another digest.")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to other machines.")
@click.pass_obj
def copy(terminal: Terminal, source: str, destination: str, *, replace: bool, insecure: bool) -> None:
    """Copy, and print the reference by digest."""
    from slipway_bundle.registry import copy as copy_bundle

    with terminal.bar() as bar:
        copied = copy_bundle(
            source,
            destination,
            environ=os.environ,
            progress=bar,
            announce=bar.begin,
            replaces=replace,
            is_insecure=insecure,
        )
    terminal.document(copied)
    terminal.result(copied.ref)
    terminal.say(
        f"{'copied' if copied.is_new else 'unchanged'}: {size_text(copied.sent_bytes)} sent, "
        f"{size_text(copied.present_bytes + copied.mounted_bytes)} were there; {lines_of(copied.referrers, 'referrer')}"
    )
