"""`slipway slo check`: is this slo.yaml one that can be compiled, and does Prometheus accept what comes of it?"""

from pathlib import Path

import click

from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb


@click.command(
    cls=Verb,
    name="check",
    short_help="Check one slo.yaml, with promtool.",
    help="Read an slo.yaml, compile it and let promtool check the rules. Writes nothing; prints each objective.\n\n"
    "An error begins with file:line:column.",
    examples=(("slipway slo check services/churn/slo.yaml", "before a commit"),),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def check_slos(terminal: Terminal, file: Path) -> None:
    """Load, compile, ask promtool."""
    from slipway_signals.slo.compile import compile_all
    from slipway_signals.slo.openslo import load_slos
    from slipway_signals.slo.promtool import check_rules

    service = load_slos(file)
    files = compile_all([service])
    rules = {name: text for name, text in files.items() if name.startswith("rules/")}
    check_rules(rules)
    found = [{"name": slo.name, "title": slo.title, "target": float(slo.target)} for slo in service.slos]
    terminal.document({"service": service.service, "slos": found})
    for slo in service.slos:
        terminal.result(slo.name)
    terminal.say(f"{lines_of(len(service.slos), 'objective')} of {service.service}: promtool accepts the rules")
