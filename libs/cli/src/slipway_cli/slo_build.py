"""`slipway slo build`: every slo.yaml into rules, alert tests, routes and the data of dashboards.

Words and exit status only; `slipway_signals.slo` compiles.
"""

from pathlib import Path

import click

from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="build",
    short_help="Compile every slo.yaml into observability/.",
    help="Compile services/*/slo.yaml into observability/: Prometheus rules, a test of every alert, Alertmanager's "
    "routes, and the data of dashboards and runbooks. Prints each file that changed.\n\n"
    "SERVICE limits what is written to the files of those services. --check writes nothing: exit status 1 when a file "
    "is not what its slo.yaml says.",
    examples=(
        ("slipway slo build", "all services"),
        ("slipway slo build churn", "the files of one"),
        ("slipway slo build --check", "in CI: is the folder what it should be?"),
    ),
)
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--check", "is_checking", is_flag=True, help="Compare, and write nothing.")
@click.pass_obj
def build_slos(terminal: Terminal, services: tuple[str, ...], *, is_checking: bool) -> int:
    """Compile, then compare or write."""
    from slipway_signals.slo.build import differences, find_root, load_services, outputs, outputs_of, write

    root = find_root(Path.cwd())
    known = [service.service for service in load_services(root)]
    for service in services:
        if service not in known:
            raise click.UsageError(f"service is {service!r}, expected one that has an slo.yaml: {', '.join(known)}")
    wanted = outputs_of(root, services) if services else outputs(root)
    change = differences if is_checking else write
    changed = change(root, wanted, is_whole=not services)
    terminal.document({"root": str(root), "changed": [path.as_posix() for path in changed], "files": len(wanted)})
    for path in changed:
        terminal.result(path.as_posix())
    if is_checking and changed:
        terminal.insist(f"{lines_of(len(changed), 'file')} of {len(wanted)} not what slo.yaml says")
        terminal.insist("hint: run `slipway slo build` and commit what it writes")
        return 1
    terminal.say(f"{lines_of(len(wanted), 'file')}, {len(changed)} {'differ' if is_checking else 'changed'}")
    return 0
