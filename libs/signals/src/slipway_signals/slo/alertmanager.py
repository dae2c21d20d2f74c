"""Who hears of an alert, how often, and which alerts are quiet because another one says it all.

It starts nothing. The invariants: a page is never muted and never waits for a deploy; all pages of a service are one
message, so that a dead service wakes somebody once; nothing is lost: what no route names goes to the platform's
tickets. Deploys quiet what they cause for as long as they last (an inhibition needs nobody to lift it).
Source: https://prometheus.io/docs/alerting/0.25/configuration/
"""

from collections.abc import Sequence
from typing import Any, Final

from slipway_signals.slo.model import ServiceSlos
from slipway_signals.slo.monitoring import OWNER, WATCHDOG
from slipway_signals.slo.promrules import Timing, render_yaml

__all__ = ["WEBHOOK", "render_alertmanager"]

WEBHOOK: Final = "http://alert-webhook:9099"
"""What carries messages to people; `/page/<owner>`, `/ticket/<owner>` and `/watchdog` are called on it."""

DEPLOY_CAUSES: Final = "restart|cold-start|capacity|anomaly|drift"
"""Categories of tickets that a deploy brings about by itself."""

SLOW: Final = "drift|quality|cost"
"""Categories that change in hours: they wait for company, and are repeated once a day."""

NOBODY: Final = "nobody"
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
    names = [f"{kind}-{owner}" for owner in owners for kind in ("page", "ticket")]
    receivers: list[dict[str, Any]] = [{"name": NOBODY}, _receiver("watchdog", f"{webhook}/watchdog")]
    receivers += [_receiver(name, f"{webhook}/{name.replace('-', '/', 1)}") for name in names]
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
    routes = [watchdog, {"receiver": NOBODY, "matchers": ['severity="info"']}]
    routes += [_pages(owner, timing) for owner in owners]
    for owner in owners:
        routes += [
            _tickets(owner, timing, f'service="{service.service}"', muted=f"deploy-{service.service}")
            for service in services
            if service.deploy_windows and owner in {service.owner, *_owners([service])}
        ]
        routes += [_slow_tickets(owner, timing), _tickets(owner, timing)]
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
        "matchers": [f'owner="{owner}"', 'severity="page"'],
        "group_by": ["service"],
        "group_wait": timing.text(10),
        "group_interval": timing.text(5 * MINUTE_S),
        "repeat_interval": timing.text(HOUR_S),
    }


def _tickets(owner: str, timing: Timing, *more: str, muted: str | None = None) -> dict[str, Any]:
    """Tickets of one owner; those of a service with deploy windows, less its objectives, can be muted."""
    route: dict[str, Any] = {
        "receiver": f"ticket-{owner}",
        "matchers": [f'owner="{owner}"', 'severity="ticket"', *more, *(['slo=""'] if muted else [])],
        "group_by": ["service", "category"],
        "group_wait": timing.text(MINUTE_S),
        "group_interval": timing.text(5 * MINUTE_S),
        "repeat_interval": timing.text(DAY_S),
    }
    return route | ({"mute_time_intervals": [muted]} if muted else {})


def _slow_tickets(owner: str, timing: Timing) -> dict[str, Any]:
    route = _tickets(owner, timing, f'category=~"{SLOW}"')
    return route | {"group_by": ["service", "model", "category"], "group_wait": timing.text(5 * MINUTE_S)}


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
        {
            "source_matchers": ['alertname="SlipwayDeployInProgress"'],
            "target_matchers": ['severity="ticket"', f'category=~"{DEPLOY_CAUSES}"'],
            "equal": ["service"],
        },
    ]


def _interval(service: ServiceSlos) -> dict[str, Any]:
    times = [
        {"weekdays": [window.days], "times": [{"start_time": window.start, "end_time": window.end}]}
        for window in service.deploy_windows
    ]
    return {"name": f"deploy-{service.service}", "time_intervals": times}


def _receiver(name: str, url: str) -> dict[str, Any]:
    return {"name": name, "webhook_configs": [{"url": url, "send_resolved": True}]}
