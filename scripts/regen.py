"""Write what is made from other files: `docs/cli.md` from every verb's help, `observability/` from every slo.yaml.

    python scripts/regen.py           write them
    python scripts/regen.py --check   exit 1 when a committed page differs

It decides nothing about the help itself: that is in `slipway_cli`; nor about rules: `slipway slo build` writes them,
too; nor about dashboards: `slipway_signals.dashboards` does; nor about the configuration of Pulumi's stacks:
`slipway_platform.schemas` does. House tests run the check.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import protos

from slipway_cli.main import slipway
from slipway_platform import schemas
from slipway_signals.dashboards import building
from slipway_signals.slo import build

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cli.md"
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
    rules = {**build.outputs(ROOT), **building.outputs(), **schemas.outputs()}
    if "--check" in sys.argv[1:]:
        stale = [path.as_posix() for path in build.differences(ROOT, rules)]
        if not PAGE.exists() or PAGE.read_text() != page:
            stale.append(PAGE.name)
        for name in stale:
            print(f"regen: {name} is not what its source says", file=sys.stderr)
        if stale:
            print("hint: run `make regen` and commit it", file=sys.stderr)
        return 1 if stale else 0
    PAGE.write_text(page)
    build.write(ROOT, rules)
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
