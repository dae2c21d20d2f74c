"""Who hears of an alert, how often, and which alerts are quiet because another one says it all.

It starts nothing. The invariants: a page is never muted and never waits for a deploy; all pages of a service are one
message, so that a dead service wakes somebody once; nothing is lost: what no route names goes to the platform's
tickets, and that messages are lost is told in two ways. Deploys quiet what they cause for as long as they last (an
inhibition needs nobody to lift it), and never that they were stopped. One message is missing: a ticket that ends while
it is inhibited is never told as resolved (alertmanager#2754).
Source: https://prometheus.io/docs/alerting/0.25/configuration/
"""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from slipway_signals.slo.model import DAYS, DeployWindow, ServiceSlos
from slipway_signals.slo.monitoring import FAILING, OWNER, WATCHDOG
from slipway_signals.slo.promrules import Timing, render_yaml
from slipway_signals.slo.release_watches import CATEGORY as RELEASE
from slipway_signals.slo.selectors import Matcher

__all__ = ["WEBHOOK", "render_alertmanager"]

WEBHOOK: Final = "http://alert-webhook:9099"
"""What carries messages to people; `/page/<owner>`, `/ticket/<owner>` and `/watchdog` are called on it."""

DEPLOY_CAUSES: Final = "restart|cold-start|capacity|anomaly|drift"
"""Categories of tickets that a deploy brings about by itself."""

SLOW: Final = "drift|quality|cost"
"""Categories that change in hours: they wait for company, and are repeated once a day."""

NOBODY: Final = "nobody"
MIDNIGHT: Final = "24:00"
MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DAY_S: Final = 86_400


def render_alertmanager(
    services: Sequence[ServiceSlos], *, webhook: str = WEBHOOK, timing: Timing | None = None
) -> str:
    """The configuration of Alertmanager.

    Args:
        services: All services; their owners have routes.
        webhook: Address of the receiver, without a slash at its end.
        timing: True waits, or scaled ones.
    """
    timing = timing or Timing()
    owners = sorted({OWNER, *(service.owner for service in services), *_owners(services)})
    receivers: list[dict[str, Any]] = [{"name": NOBODY}]
    receivers.append(_receiver("watchdog", f"{webhook}/watchdog", resolves=False))  # that it ended is no sign of life
    receivers += [
        _receiver(f"{kind}-{owner}", f"{webhook}/{kind}/{quote(owner, safe='')}")
        for owner in owners
        for kind in ("page", "ticket")
    ]
    receivers += [_receiver(f"retraining-{one.service}", one.retraining) for one in services if one.retraining]
    config: dict[str, Any] = {"route": _root(services, owners, timing), "receivers": receivers}
    config["inhibit_rules"] = _inhibitions()
    if any(service.deploy_windows for service in services):
        config["time_intervals"] = [_interval(service) for service in services if service.deploy_windows]
    return render_yaml(config, source="services/*/slo.yaml")


def _owners(services: Sequence[ServiceSlos]) -> set[str]:
    return {slo.owner for service in services for slo in service.slos}


def _root(services: Sequence[ServiceSlos], owners: Sequence[str], timing: Timing) -> dict[str, Any]:
    watchdog = {
        "receiver": "watchdog",
        "matchers": [f'alertname="{WATCHDOG}"'],
        "group_wait": "0s",
        "group_interval": timing.text(MINUTE_S),
        "repeat_interval": timing.text(MINUTE_S - 10),  # less than the interval, or every other message is left out
    }
    failing = _pages(OWNER, timing) | {"matchers": [f'alertname="{FAILING}"'], "continue": True}  # tickets may be it
    routes = [watchdog, {"receiver": NOBODY, "matchers": ['severity="info"']}, failing]
    routes += [_retraining(service.service, timing) for service in services if service.retraining]
    routes += [_pages(owner, timing) for owner in owners]
    for owner in owners:
        for service in services:
            if service.deploy_windows and owner == service.owner:
                waiting = (f'service="{service.service}"', 'slo=""', Matcher("category", "!=", RELEASE).text)
                routes += _tickets(owner, timing, *waiting, muted=f"deploy-{service.service}")
        routes += _tickets(owner, timing)
    return {
        "receiver": f"ticket-{OWNER}",
        "group_by": ["alertname", "service"],
        "group_wait": timing.text(MINUTE_S),
        "group_interval": timing.text(5 * MINUTE_S),
        "repeat_interval": timing.text(DAY_S),
        "routes": routes,
    }


def _pages(owner: str, timing: Timing) -> dict[str, Any]:
    return {
        "receiver": f"page-{owner}",
        "matchers": [Matcher("owner", "=", owner).text, 'severity="page"'],
        "group_by": ["service"],
        "group_wait": timing.text(10),
        "group_interval": timing.text(5 * MINUTE_S),
        "repeat_interval": timing.text(HOUR_S),
    }


def _tickets(owner: str, timing: Timing, *more: str, muted: str | None = None) -> list[dict[str, Any]]:
    """Tickets of one owner that also match `more`, the slow ones first; `muted` names when they wait."""
    slow: dict[str, Any] = {
        "receiver": f"ticket-{owner}",
        "matchers": [Matcher("owner", "=", owner).text, 'severity="ticket"', *more, f'category=~"{SLOW}"'],
        "group_by": ["service", "model", "category"],
        "group_wait": timing.text(5 * MINUTE_S),
        "group_interval": timing.text(5 * MINUTE_S),
        "repeat_interval": timing.text(DAY_S),
    }
    if muted:
        slow["mute_time_intervals"] = [muted]
    quick = {
        "matchers": slow["matchers"][:-1],
        "group_by": ["service", "category"],
        "group_wait": timing.text(MINUTE_S),
    }
    return [slow, slow | quick]


def _retraining(service: str, timing: Timing) -> dict[str, Any]:
    """What `slipway drift hook` hears, beside the tickets: every alert of a model at once, and again each hour."""
    return {
        "receiver": f"retraining-{service}",
        "matchers": [f'service="{service}"', 'category=~"drift|quality"', 'model!=""'],
        "continue": True,
        "group_by": ["service", "track", "model"],
        "group_wait": timing.text(MINUTE_S),
        "group_interval": timing.text(5 * MINUTE_S),
        "repeat_interval": timing.text(HOUR_S),
    }


def _inhibitions() -> list[dict[str, Any]]:
    return [
        {  # a dead service says all there is to say
            "source_matchers": ['alertname="SlipwayServiceDown"'],
            "target_matchers": ['alertname!="SlipwayServiceDown"', 'severity=~"page|ticket"'],
            "equal": ["service"],
        },
        {  # who was woken for an objective needs no ticket about it
            "source_matchers": ['severity="page"', 'slo!=""'],
            "target_matchers": ['severity="ticket"', 'slo!=""'],
            "equal": ["service", "slo"],
        },
        {  # a runner that is killed again and again: the losses say of which pool, and why
            "source_matchers": ['alertname="SlipwayReplicaLosses"'],
            "target_matchers": ['alertname="SlipwayWorkerCrashLoop"', 'worker!~"api-.+"'],
            "equal": ["service"],
        },
        {
            "source_matchers": ['alertname="SlipwayDeployInProgress"'],
            "target_matchers": ['severity="ticket"', f'category=~"{DEPLOY_CAUSES}"'],
            "equal": ["service"],
        },
    ]


def _interval(service: ServiceSlos) -> dict[str, Any]:
    times = [
        {"weekdays": days, "times": [{"start_time": start, "end_time": end}]}
        for window in service.deploy_windows
        for days, start, end in _within_days(window)
    ]
    return {"name": f"deploy-{service.service}", "time_intervals": times}


def _within_days(window: DeployWindow) -> list[tuple[list[str], str, str]]:
    """The parts of a window that lie within one day each, as Alertmanager wants them: weekdays, start, end."""
    if window.start < window.end:
        return [([window.days], window.start, window.end)]
    first, _, last = window.days.partition(":")
    numbers = range(DAYS.index(first), DAYS.index(last or first) + 1)
    nexts = [DAYS[(number + 1) % len(DAYS)] for number in numbers]
    before = [([window.days], window.start, MIDNIGHT)]
    return before if window.end == "00:00" else [*before, (nexts, "00:00", window.end)]


def _receiver(name: str, url: str, *, resolves: bool = True) -> dict[str, Any]:
    return {"name": name, "webhook_configs": [{"url": url, "send_resolved": resolves}]}
