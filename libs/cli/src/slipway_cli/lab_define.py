"""`slipway lab define`: let a lab know more kinds of objects."""

import click

from slipway_cli.lab_process import NAME, run_lab
from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="define",
    short_help="Let a lab know an add-on's kinds of objects.",
    help="Apply the definitions (CRDs) of add-ons that a lab does not run, so that it accepts and validates their "
    "objects. Nobody acts on these objects. Without SOURCE: all of them, which costs the API server half a gigabyte.",
    examples=(("slipway lab define prometheus-operator keda", "PodMonitor, PrometheusRule, ScaledObject, …"),),
)
@NAME
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.pass_obj
def lab_define(terminal: Terminal, *, name: str, sources: tuple[str, ...]) -> None:
    """Apply them."""
    found = run_lab(terminal, "define", f"--name={name}", "--", *sources)
    terminal.document(found)
    terminal.say(f"{lines_of(len(found['files']), 'file')} applied")
