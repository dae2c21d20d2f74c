"""Before production, the signals: what is promised, who is told, what they read, where they look.

It reads files and asks promtool; no server is asked. The invariant: what is committed is compared with what `slo.yaml`
says today, so a file that was forgotten is missing, however good it looks.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from slipway_bundle.errors import SlipwayError
from slipway_cli.readiness import Item, attempt, missing, some
from slipway_signals.dashboards.reading import load_dashboard
from slipway_signals.runbooks import load_runbook
from slipway_signals.slo.alertmanager import WEBHOOK
from slipway_signals.slo.build import FOLDER, differences, outputs
from slipway_signals.slo.compile import ALERTMANAGER, alerts_of, compile_all, parts_of, platform_part
from slipway_signals.slo.errors import PromtoolError
from slipway_signals.slo.facts import AlertFacts, facts_of
from slipway_signals.slo.model import ServiceSlos
from slipway_signals.slo.openslo import FILE, load_slos
from slipway_signals.slo.promrules import Timing
from slipway_signals.slo.promtool import check_rules
from slipway_signals.slo.series import Known

__all__ = ["check_signals"]

PROMISED: Final = ("availability", "latency")
"""What every service promises; the rest depends on what it is for."""


def check_signals(root: Path, folder: Path) -> Iterator[Item]:
    """Objectives, rules, the route to the owner, runbooks, panels, and what drift starts.

    Args:
        root: The repository: `observability/` and `runbooks/` are in there.
        folder: The service's folder.
    """
    slo_check = f"slipway slo check {folder / FILE}"
    try:
        service = load_slos(folder / FILE, name=f"{folder.name}/{FILE}")
    except SlipwayError as error:
        yield missing("objectives", error.message.splitlines()[0], error.hint or slo_check)
        return
    timing, known = Timing(), Known()
    parts = (*parts_of(service, timing, known), platform_part(timing, known))
    alerts = facts_of(service, [alert for part in parts for alert in alerts_of(part)]).alerts
    yield attempt("objectives", lambda: _objectives(service), slo_check)
    yield attempt("rules", lambda: _rules(root, service), "slipway slo build")
    yield _owner(root, service)
    yield _runbooks(root, alerts)
    yield _panels(root, alerts)
    yield _retraining(service)


def _objectives(service: ServiceSlos) -> Item:
    without = [category for category in PROMISED if all(slo.category != category for slo in service.slos)]
    if without:
        fix = f"write an objective into services/{service.service}/{FILE} (docs/slo.md), then `slipway slo build`"
        return missing("objectives", f"none about {' or '.join(without)}", fix)
    named = some([f"{slo.name} {float(slo.target):.6g}" for slo in service.slos])
    rules = {name: text for name, text in compile_all([service]).items() if name.startswith("rules/")}
    try:
        check_rules(rules)
    except PromtoolError as error:
        return Item("objectives", "advice", f"{named}; not judged: {error.message}", error.hint)
    return Item("objectives", "ok", f"{named}; promtool accepts the rules")


def _rules(root: Path, service: ServiceSlos) -> Item:
    wanted = outputs(root)
    mine = {Path(FOLDER) / name for name in compile_all([service])}
    differing = [path.as_posix() for path in differences(root, wanted) if path in mine]
    if differing:
        fix = "slipway slo build, and commit what it writes"
        return missing("rules", f"{some(differing)} not what {FILE} says", fix)
    return Item("rules", "ok", f"{len(mine)} files of {FOLDER}/ are what {FILE} says")


def _owner(root: Path, service: ServiceSlos) -> Item:
    path = root / FOLDER / ALERTMANAGER
    routes = path.read_text(encoding="utf-8") if path.is_file() else ""
    if f"page-{service.owner}" not in routes:
        return missing("owner", f"{service.owner} has no route in {FOLDER}/{ALERTMANAGER}", "slipway slo build")
    if WEBHOOK in routes:
        fix = f"give the receiver your address: {FOLDER}/{ALERTMANAGER} (docs/slo.md)"
        return Item("owner", "advice", f"{service.owner}, told at the template's address {WEBHOOK}", fix)
    return Item("owner", "ok", f"{service.owner} has a route for pages and one for tickets")


def _runbooks(root: Path, alerts: Sequence[AlertFacts]) -> Item:
    problems = {}
    for alert in alerts:
        try:
            if load_runbook(root / alert.runbook).alert != alert.name:
                problems[alert.runbook] = "is about another alert"
        except SlipwayError as error:
            problems[alert.runbook] = error.message.splitlines()[0]
    if problems:
        page, problem = next(iter(problems.items()))
        found = f"{len(problems)} of {len(alerts)} pages: {some(list(problems))}"
        return missing("runbooks", found, f"{problem}; write {page}, runbooks/README.md has the form")
    return Item("runbooks", "ok", f"{len(alerts)} alerts, each with its page")


def _panels(root: Path, alerts: Sequence[AlertFacts]) -> Item:
    problems = {alert.name: problem for alert in alerts if (problem := _panel_problem(root, alert)) is not None}
    if problems:
        name, problem = next(iter(problems.items()))
        found = f"{len(problems)} of {len(alerts)} alerts lead to no panel: {some(list(problems))}"
        return missing("panels", found, f"{name}: {problem}; `make regen` writes the dashboards")
    return Item("panels", "ok", f"{len(alerts)} alerts, each leads to the panel that shows it")


def _panel_problem(root: Path, alert: AlertFacts) -> str | None:
    """Why the alert's link leads to no panel with a query; None when it does."""
    link = urlsplit(alert.dashboard)
    try:
        panels = {str(panel.id): panel for panel in load_dashboard(root / link.path).panels}
    except SlipwayError as error:
        return error.message.splitlines()[0]
    view = parse_qs(link.query).get("viewPanel", [""])[0]
    if view not in panels:
        return f"its link has viewPanel {view!r}, expected a panel of {link.path}"
    return None if panels[view].targets else f"panel {view} of {link.path} asks nothing"


def _retraining(service: ServiceSlos) -> Item:
    if service.retraining:
        return Item("drift hook", "ok", f"told at {service.retraining}")
    fix = f"slipway.dev/retraining: http://drift-hook:9098/alerts in services/{service.service}/{FILE} (docs/drift.md)"
    return Item("drift hook", "advice", f"drift is a ticket for {service.owner} and starts no training", fix)
