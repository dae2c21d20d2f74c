"""Write the pages that are made from the code: today `docs/cli.md`, from the help of every verb.

    python scripts/regen.py           write them
    python scripts/regen.py --check   exit 1 when a committed page differs

It decides nothing about the help itself: that is in `slipway_cli`. A house test runs the check.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import protos

from slipway_cli.main import slipway

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
WIDTH = 100
NAME = "slipway"

INTRODUCTION = f"""\
# The command line

Written by `make regen` from the program's own help.
`{NAME} VERB --help` prints the same.
Exit status: 0 done, 1 the answer is no, 2 wrong usage, 3 environment or network, 70 a bug of ours.
"""


def main() -> int:
    """Write or compare."""
    page = render()
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text() == page:
            return 0
        print(f"regen: {PAGE.name} is not what the code says\nhint: run `make regen` and commit it", file=sys.stderr)
        return 1
    PAGE.write_text(page)
    return protos.main()


def render() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for words, command in commands(slipway, NAME):
        context = click.Context(command, info_name=words, terminal_width=WIDTH, max_content_width=WIDTH)
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts.append(f"## {words}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def commands(group: click.Command, words: str) -> Iterator[tuple[str, click.Command]]:
    """The command itself, then all below it, with the words that call each."""
    yield words, group
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            yield from commands(command, f"{words} {name}")


if __name__ == "__main__":
    sys.exit(main())
