"""`slipway bundle push`: a bundle of the local store goes to a registry."""

import os
import time

import click

from slipway_cli.terminal import Terminal, lines_of, size_text
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Send a bundle to a registry.",
    help="Send a bundle, and everything that refers to it, to a registry or to a layout on disk.\n\n"
    "Prints the reference by digest: what to deploy. What is there already is not sent, what was cut off is continued, "
    "and the tag is set last. Credentials are those of `docker login` or `skopeo login`.",
    examples=(
        ("slipway bundle push churn:1.0.0 registry.example.com/team/churn", "the tag is the version, 1.0.0"),
        ("slipway bundle push churn registry.example.com/churn:blue", "another tag"),
        ("slipway bundle push churn oci:/media/disk", "into a folder, for a machine without a network"),
    ),
)
@click.argument("ref")
@click.argument("destination")
@click.option("--replace", is_flag=True, help="Let the tag move away from another digest.")
@click.option("--mount-from", multiple=True, metavar="REPOSITORY", help="Link blobs that this repository has.")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to another machine.")
@click.pass_obj
def push(
    terminal: Terminal, ref: str, destination: str, *, replace: bool, mount_from: tuple[str, ...], insecure: bool
) -> None:
    """Push, and print the reference by digest."""
    from slipway_bundle.registry import push as push_bundle
    from slipway_bundle.store import Store
    from slipway_cli.home import store_folder

    started = time.monotonic()
    store = Store.open(store_folder(os.environ))
    with terminal.bar() as bar:
        pushed = push_bundle(
            store,
            ref,
            destination,
            environ=os.environ,
            progress=bar,
            announce=bar.begin,
            replaces=replace,
            mount_from=mount_from,
            is_insecure=insecure,
        )
    terminal.document(pushed)
    terminal.result(pushed.ref)
    terminal.say(
        f"{'pushed' if pushed.is_new else 'unchanged'} under tag {pushed.tag} in {time.monotonic() - started:.1f} s: "
        f"{size_text(pushed.sent_bytes)} sent, {size_text(pushed.present_bytes + pushed.mounted_bytes)} were there; "
        f"{lines_of(pushed.referrers, 'referrer')}"
    )
