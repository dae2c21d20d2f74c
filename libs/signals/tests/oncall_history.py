"""A Prometheus that remembers an incident: a release, an alert 2 minutes later, the release before again.

Everything is a sample of a real Prometheus, every two seconds of the last hour; nothing is scraped. Times are counted
back from `now`, in seconds.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from alert_stack import AlertStack
from msgspec import Struct

from slipway_signals.prometheus import Prometheus

OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
STEP_S = 2
OLD_AGAIN, ALERT_OVER, RELEASED, ALERTED = 600, 480, 1_200, 1_080
"""The new release was served from 20 to 10 minutes ago; the alert fired from 18 to 8 minutes ago."""


class History(Struct, frozen=True):
    """Where it can be asked, and what time it was when the last sample was taken."""

    prometheus: Prometheus
    now: float


@contextmanager
def incident(folder: Path) -> Iterator[History]:
    """A Prometheus with that history."""
    now = float(int(time.time()) // STEP_S * STEP_S)
    with AlertStack(folder, [], {}, history=_text(now)) as stack:
        yield History(Prometheus(stack.url), now)


def _text(now: float) -> str:
    def moments(oldest: float, youngest: float = 0) -> Sequence[float]:
        return [now - ago for ago in range(int(oldest), int(youngest) - 1, -STEP_S)]

    families: dict[str, list[str]] = {}

    def tell(name: str, labels: str, value: float, at: Sequence[float]) -> None:
        families.setdefault(name, []).extend(f"{name}{{{labels}}} {value:g} {moment:.0f}" for moment in at)

    service = 'service="churn"'
    info = f'{service},instance="127.0.0.1:8002",slipway_version="0.1.0"'
    for version, digest, at in (
        ("1.0.0", OLD, [*moments(3_000, RELEASED), *moments(OLD_AGAIN)]),
        ("1.1.0", NEW, moments(RELEASED - STEP_S, OLD_AGAIN + STEP_S)),
    ):
        tell("slipway_build_info", f'{info},version="{version}",digest="{digest}"', 1, at)
    fires = f'{service},alertname="SlipwaySLOFastBurn",alertstate="firing",severity="page",slo="churn-availability"'
    tell("ALERTS", fires, 1, moments(ALERTED, ALERT_OVER))
    deploys = f'{service},alertname="SlipwayDeployInProgress",alertstate="firing",severity="info"'
    tell("ALERTS", deploys, 1, moments(RELEASED, RELEASED - 900))
    slo = f'{service},slo="churn-availability"'
    tell("slipway:slo_total:rate5m", slo, 10, moments(3_000))
    for value, at in ((0.0, moments(3_000, ALERTED)), (2.0, moments(ALERTED - STEP_S, ALERT_OVER))):
        tell("slipway:slo_bad:rate5m", slo, value, at)
        tell("slipway:slo_burn_rate:ratio_rate5m", slo, value * 100, at)
    tell("slipway:slo_bad:rate5m", slo, 0, moments(ALERT_OVER - STEP_S))
    tell("slipway:slo_budget_remaining:ratio", slo, 0.9, moments(3_000, ALERTED))
    tell("slipway:slo_budget_remaining:ratio", slo, 0.25, moments(ALERTED - STEP_S))
    lines = [line for name, samples in families.items() for line in (f"# TYPE {name} gauge", *samples)]
    return "\n".join([*lines, "# EOF", ""])
