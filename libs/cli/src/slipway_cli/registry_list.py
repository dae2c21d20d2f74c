"""`slipway registry list`: the tags of a repository."""

import os

import click

from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="list",
    short_help="List the tags of a repository.",
    help="List the tags of a repository, or of a layout on disk, one reference a line.",
    examples=(
        ("slipway registry list registry.example.com/team/churn", "the tags that are there"),
        ("slipway registry list registry.example.com/churn --json", "with their digests"),
    ),
)
@click.argument("repository")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to another machine.")
@click.pass_obj
def list_tags(terminal: Terminal, repository: str, *, insecure: bool) -> None:
    """List them."""
    from slipway_bundle.registry import parse_remote, tags

    place = parse_remote(repository).place
    found = tags(repository, environ=os.environ, is_insecure=insecure)
    terminal.document({"repository": place, "tags": [{"tag": name, "digest": digest} for name, digest in found]})
    for name, digest in found:
        terminal.result(f"{place}:{name}")
        terminal.detail(f"  {digest}")
    terminal.say(f"{lines_of(len(found), 'tag')} in {place}")
