"""`slipway bundle tag`: another name for what is in a registry."""

import os

import click

from slipway_cli.terminal import Terminal
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    short_help="Give what is in a registry another tag.",
    help="Give what is in a registry another tag in the same repository. Prints the reference by digest.",
    examples=(
        ("slipway bundle tag registry.example.com/churn:1.0.0 stable", "no byte is sent but the manifest"),
        ("slipway bundle tag registry.example.com/churn@sha256:… stable --replace", "move it"),
    ),
)
@click.argument("source")
@click.argument("new_tag", metavar="TAG")
@click.option("--replace", is_flag=True, help="Let the tag move away from another digest.")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to another machine.")
@click.pass_obj
def tag(terminal: Terminal, source: str, new_tag: str, *, replace: bool, insecure: bool) -> None:
    """Tag, and print the reference by digest."""
    from slipway_bundle.registry import tag as tag_remote

    tagged = tag_remote(source, new_tag, environ=os.environ, replaces=replace, is_insecure=insecure)
    terminal.document({"ref": tagged.text, "tag": new_tag, "digest": tagged.digest})
    terminal.result(tagged.text)
    terminal.say(f"{new_tag} of {tagged.place} is {tagged.digest}")
