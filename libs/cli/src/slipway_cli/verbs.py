"""The shape of every verb: help that starts with examples, and the global options accepted anywhere on the line.

It holds no verb. The invariant: `slipway --json bundle list` and `slipway bundle list --json` are the same command, and
a verb's own help lists its own options only.
"""

from collections.abc import Sequence
from typing import Any, Final

import click

from slipway_cli.terminal import Terminal

GLOBAL_NOTE: Final = "--json, --no-progress, --quiet and --verbose work with every verb; `slipway --help` explains them"


def _remember(name: str, *, value: bool) -> Any:  # click's callback type is generic over nothing useful
    def callback(context: click.Context, _: click.Parameter, given: bool) -> None:  # noqa: FBT001 - click's order
        if given:
            setattr(context.ensure_object(Terminal), name, value)

    return callback


def global_options(*, hidden: bool) -> list[click.Parameter]:
    """The options of the root, and of every verb, where help does not repeat them."""
    table = (
        (["--json"], "json", True, "Print one JSON object on stdout, also for errors."),
        (["--no-progress"], "progress", False, "Draw no progress bars (none are drawn without a terminal)."),
        (["-q", "--quiet"], "quiet", True, "Say nothing but the result, warnings and errors."),
        (["-v", "--verbose"], "verbose", True, "Say more; show the traceback of an unexpected error."),
    )
    return [
        click.Option(
            names,
            is_flag=True,
            expose_value=False,
            is_eager=True,
            hidden=hidden,
            callback=_remember(attribute, value=value),
            help=text,
        )
        for names, attribute, value, text in table
    ]


class Verb(click.Command):
    """A command whose help begins with examples; `examples` are (command, what it does) pairs."""

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.extend(global_options(hidden=True))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, usage, text, options."""
        write_examples(self.examples, formatter)
        super().format_help(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Where the other options are."""
        del ctx
        formatter.write_paragraph()
        formatter.write_text(GLOBAL_NOTE)


class VerbGroup(click.Group):
    """A group whose help begins with examples; the root shows the global options."""

    def __init__(
        self, *args: Any, examples: Sequence[tuple[str, str]] = (), is_root: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.extend(global_options(hidden=not is_root))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, usage, text, options, verbs."""
        write_examples(self.examples, formatter)
        super().format_help(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were added: the order of use, not of the alphabet."""
        del ctx
        return list(self.commands)


def write_examples(examples: Sequence[tuple[str, str]], formatter: click.HelpFormatter) -> None:
    """The examples as two columns under a heading."""
    if examples:
        with formatter.section("Examples"):
            formatter.write_dl(list(examples), col_max=46)
        formatter.write_paragraph()
