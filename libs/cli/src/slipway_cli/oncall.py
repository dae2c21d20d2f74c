"""`slipway oncall`: an alert's runbook with the live answers filled in; without an alert, what fires now.

Words only; `slipway_signals.oncall` asks.
"""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from slipway_cli.terminal import Terminal, lines_of
from slipway_cli.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipway_signals.alertmanager import Routed
    from slipway_signals.oncall_firing import Firing
    from slipway_signals.prometheus import Prometheus

NEAR: Final = 3
"""Names that are offered for one that is not known."""


def _address(context: click.Context, parameter: click.Parameter, given: str | None) -> str | None:
    del context, parameter
    if given is not None and not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", given):
        raise click.BadParameter(f"expected http://HOST:PORT, got {given!r}")
    return given and given.rstrip("/")


prometheus_option = click.option(
    "--prometheus",
    "prometheus_url",
    metavar="URL",
    default="http://127.0.0.1:9090",
    show_default=True,
    envvar="SLIPWAY_PROMETHEUS",
    callback=_address,
    help="Who is asked.",
)
"""Of every verb that asks one."""


@click.command(
    cls=Verb,
    short_help="Open an alert's runbook with the live answers filled in.",
    help="Show what the person on call asks in the first minute about ALERT: since when, which service and objective, "
    "which release, what is left of the budget, what fails most, the answer to each question of the runbook, the most "
    "likely cause and the next step. ALERT may be a playbook: `playbook-rollback`.\n\n"
    "Without ALERT: what fires now, pages first. It only asks; it changes nothing. Where Prometheus cannot be "
    "asked, the page is shown without answers, and the exit status is 3.",
    examples=(
        ("slipway oncall", "what fires now"),
        ("slipway oncall SlipwaySLOFastBurn --service churn", "the first minute of it"),
        ("slipway oncall SlipwayRetryStorm --prometheus http://prom:9090", "of another Prometheus"),
    ),
)
@click.argument("alert", required=False)
@click.option("--service", metavar="NAME", help="Of which service, where several have the alert.")
@click.option("--slo", metavar="NAME", help="Of which objective.")
@prometheus_option
@click.option(
    "--alertmanager",
    "alertmanager_url",
    metavar="URL",
    envvar="SLIPWAY_ALERTMANAGER",
    callback=_address,
    help="Who says which alerts are told.",
)
@click.option(
    "--runbooks",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the pages.  [default: runbooks/ of the repository]",
)
@click.pass_obj
def oncall(
    terminal: Terminal,
    *,
    alert: str | None,
    service: str | None,
    slo: str | None,
    prometheus_url: str,
    alertmanager_url: str | None,
    folder: Path | None,
) -> None:
    """Ask, and show."""
    from slipway_signals.prometheus import Prometheus, PrometheusError

    prometheus = Prometheus(prometheus_url)
    labels = {name: value for name, value in (("service", service), ("slo", slo)) if value is not None}
    if alert is None:
        _show_firing(terminal, prometheus, alertmanager_url, labels)
        return
    from slipway_cli.oncall_screen import draw_brief, draw_page
    from slipway_signals.oncall import brief
    from slipway_signals.runbooks import load_runbook

    runbook = load_runbook(_page(alert, folder or _repository() / "runbooks"))
    known = {"alertmanager": alertmanager_url} if alertmanager_url else {}
    try:
        told = brief(prometheus, runbook, labels, time.time(), known=known)
    except PrometheusError:  # who has no answers needs the page all the more
        if not terminal.json:
            draw_page(terminal, runbook, {**labels, **known})
        raise
    terminal.document({"brief": told, "runbook": runbook})
    if not terminal.json:
        draw_brief(terminal, told, runbook)


def _repository() -> Path:
    from slipway_signals.slo.build import find_root

    return find_root(Path.cwd())


def _page(alert: str, folder: Path) -> Path:
    from difflib import get_close_matches

    pages = {path.stem: path for path in sorted(folder.glob("*.md")) if path.stem != "README"}
    if alert in pages:
        return pages[alert]
    near = get_close_matches(alert, pages, n=NEAR, cutoff=0.4)
    raise click.UsageError(
        f"alert is {alert!r}, expected one that has a page in {str(folder)!r}"
        + (f": did you mean {' or '.join(near)}?" if near else "")
    )


def _show_firing(
    terminal: Terminal, prometheus: "Prometheus", alertmanager_url: str | None, labels: dict[str, str]
) -> None:
    from slipway_cli.oncall_screen import draw_firing
    from slipway_signals.alertmanager import Alertmanager, AlertmanagerError
    from slipway_signals.oncall_firing import firing

    routed: Sequence[Routed] = ()
    if alertmanager_url:
        try:
            routed = Alertmanager(alertmanager_url).routed()
        except AlertmanagerError as error:  # what fires matters more than who is told
            terminal.warn(error.message)
    found: list[Firing] = [one for one in firing(prometheus, routed) if labels.items() <= one.alert.labels.items()]
    terminal.document({"firing": found})
    if not terminal.json:
        draw_firing(terminal, found, time.time())
    now = [one for one in found if one.alert.state == "firing"]
    terminal.say(f"{lines_of(len(now), 'alert')} fire" + ("s" if len(now) == 1 else ""))
