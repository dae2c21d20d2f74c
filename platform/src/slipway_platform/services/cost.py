"""What a service costs: of one replica, of all at their caps, and of a thousand inferences in each release.

It refuses before anything is made. The formulas and what they leave out are in docs/cost.md. The invariant: every sum
is of the caps, so no traffic and no autoscaler can spend more than what was agreed to.
"""

from collections.abc import Sequence
from typing import Final

from slipway_platform.manifests import Manifest, manifest
from slipway_platform.quantities import bytes_of, millicores_of
from slipway_platform.services.naming import HASH_LABEL, promised
from slipway_platform.services.settings import Prices, ServiceSettings, ServicesSettings, StackRefusedError

__all__ = ["COST_SERIES", "check_spend", "cost_rules", "usd_per_hour"]

GIB: Final = 1024**3
COST_SERIES: Final = "slipway:inference_cost_usd:per_1000_1h"
"""Dollars for a thousand answers, by release: recorded, so that a release can be compared when its pods are gone."""


def usd_per_hour(service: ServiceSettings, prices: Prices) -> float:
    """Of one replica, in dollars; 0: nobody told."""
    if service.usd_per_hour is not None:
        return service.usd_per_hour
    processors = millicores_of(service.cpu) / 1000 * prices.usd_per_cpu
    memory = bytes_of(service.memory) / GIB * prices.usd_per_gib
    return processors + memory + (service.gpu.count * prices.usd_per_gpu if service.gpu else 0.0)


def check_spend(settings: ServicesSettings) -> float:
    """Dollars an hour of all services at their caps.

    A release needs up to as many pods again for its canary, while it lasts; they are not in the sum.

    Raises:
        StackRefusedError: It is more than `usd_per_hour_cap`, or a cap is set and a price is not known.
    """
    each = {
        service.name: (service.max_replicas, usd_per_hour(service, settings.prices)) for service in settings.services
    }
    total = sum(count * price for count, price in each.values())
    cap = settings.usd_per_hour_cap
    if cap is None:
        return total
    unknown = [name for name, (_, price) in each.items() if price == 0]
    if unknown:
        raise StackRefusedError(
            f"`usd_per_hour_cap` is {cap:g} and the price of {', '.join(map(repr, unknown))} is not known",
            hint="set `prices`, or `usd_per_hour` of the service",
        )
    if total > cap:
        parts = " + ".join(f"{name} {count} x {price:.4g}" for name, (count, price) in each.items())
        raise StackRefusedError(
            f"at their caps the services cost {total:.2f} USD an hour ({parts}), expected at most {cap:.2f}",
            hint="lower `max_replicas`, or raise `usd_per_hour_cap` with whoever pays",
        )
    return total


def cost_rules(services: Sequence[ServiceSettings], namespace: str, labels: dict[str, str]) -> Manifest:
    """Records the cost of a thousand inferences of each release; tests and probes pay for nothing (docs/signals.md)."""
    rules = [
        {"record": COST_SERIES, "expr": _cost(service, namespace), "labels": {"service": promised(service)}}
        for service in services
    ]
    return manifest(
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        "slipway-cost",
        namespace,
        labels=labels,
        spec={"groups": [{"name": "slipway-cost", "interval": "1m", "rules": rules}]},
    )


def _cost(service: ServiceSettings, namespace: str) -> str:
    own = f'namespace="{namespace}",service="{promised(service)}"'
    by = f"by (version, digest, {HASH_LABEL})"
    info = (
        f"on (instance) group_left (version, digest) max by (instance, version, digest) (slipway_build_info{{{own}}})"
    )
    usd = f"sum {by} (avg_over_time(slipway_cost_usd_per_hour{{{own}}}[1h]) * {info})"
    answered = f'increase(slipway_inferences_total{{{own},result="ok"}}[1h])'
    synthetic = f"increase(slipway_synthetic_inferences_total{{{own}}}[1h])"
    rows = f"sum {by} (sum by (instance, {HASH_LABEL}) ({answered}) * {info})"
    probes = f"sum {by} (sum by (instance, {HASH_LABEL}) ({synthetic}) * {info})"
    return f"1000 * {usd} / ({rows} - ({probes} or 0 * {rows}) > 0)"
