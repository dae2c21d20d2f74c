"""Help: what every verb shows, and how little it costs."""

import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from cli_commands import Slipway

from slipway_cli.main import slipway as tree

HEAVY = ("numpy", "rich", "msgspec", "slipway_bundle", "slipway_serve", "asyncio", "importlib.metadata")


def commands(command: click.Command = tree, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in command.commands.items() if isinstance(command, click.Group) else ():
        yield from commands(child, (*path, name))


@pytest.mark.parametrize("path", list(commands()))
def test_help_begins_with_examples_of_the_very_command(slipway: Slipway, path: tuple[str, ...]) -> None:
    said = slipway(*path, "--help")

    lines = said.out.splitlines()
    assert said.status == 0
    assert lines[0] == "Examples:"
    assert " ".join(("slipway", *path)) in lines[1]


def test_the_global_options_are_explained_once(slipway: Slipway) -> None:
    root, verb = slipway("--help"), slipway("bundle", "list", "--help")

    assert "--json         Print one JSON object" in root.out
    assert "Print one JSON object" not in verb.out
    assert "--json, --no-progress" in verb.out


def test_help_imports_nothing_heavy() -> None:
    code = f"import json, sys, slipway_cli.main; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert json.loads(done.stdout) == []


def test_no_verb_is_wrong_usage_and_shows_the_verbs(slipway: Slipway) -> None:
    said = slipway()

    assert said.status == 2
    assert said.out == ""
    assert "Commands:" in said.err


def test_the_version_is_printed(slipway: Slipway) -> None:
    said = slipway("--version")

    assert said.status == 0
    assert said.out.startswith("slipway ")
