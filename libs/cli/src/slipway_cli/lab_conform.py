"""`slipway lab conform`: ask whether Kubernetes takes manifests, without a cluster."""

from pathlib import Path

import click

from slipway_cli.lab_process import run_lab
from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="conform",
    short_help="Judge manifests by Kubernetes' schemas.",
    help="Ask whether every Kubernetes that the platform supports takes the manifests in PATHS, add-ons' kinds "
    "included; needs Go the first time, and no cluster. Prints what it would refuse; exit status 1 if there is any.",
    examples=(("slipway lab conform rendered/", "every YAML and JSON file in the folder"),),
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.pass_obj
def lab_conform(terminal: Terminal, *, paths: tuple[Path, ...]) -> int:
    """Judge them."""
    report = run_lab(terminal, "conform", "--", *map(str, paths))
    terminal.document(report)
    for found in report["findings"]:
        versions = ", ".join(found["kubernetes"])
        terminal.result(f"{found['file']}: {found['kind']} {found['name']}: {found['problem']} (Kubernetes {versions})")
    terminal.say(f"{lines_of(report['objects'], 'object')} judged by Kubernetes {', '.join(report['kubernetes'])}")
    return 1 if report["findings"] else 0
