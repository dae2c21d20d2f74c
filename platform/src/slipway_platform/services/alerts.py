"""What watches a service: its scrape, and the rules that `slipway slo build` made of its objectives.

It writes no rule about a service; `slipway_signals.slo` does, and the repository has them in `observability/rules`. Put
in is the name of the rollout alone. The invariants: stable and canary are labels of the target, as docs/signals.md
asks; a service without objectives is refused, because nobody would be told of its failures and no release of it could
be judged.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from slipway_platform.manifests import Body, Manifest, manifest
from slipway_platform.services.naming import HASH_LABEL, TRACK, labels_of, promised, selector_of
from slipway_platform.services.settings import ServiceSettings, StackRefusedError
from slipway_signals.slo.release_watches import asked_of

__all__ = ["pod_monitor", "read_rules", "rule_objects"]

MONITORING: Final = "monitoring.coreos.com/v1"
POD: Final = "__meta_kubernetes_pod_label_"


def pod_monitor(service: ServiceSettings, namespace: str) -> Manifest:
    """Scrape every pod's admin port; what rules and dashboards call the target is set here."""
    kept = {
        "track": POD + _meta(TRACK),
        HASH_LABEL: POD + "rollouts_pod_template_hash",
    }
    relabelings: list[Body] = [{"targetLabel": "service", "replacement": promised(service), "action": "replace"}]
    relabelings += [
        {"sourceLabels": [source], "targetLabel": target, "action": "replace"} for target, source in kept.items()
    ]
    endpoint = {
        "port": "admin",
        "path": "/metrics",
        "interval": "15s",
        "scrapeTimeout": "10s",
        "honorLabels": False,
        "relabelings": relabelings,
    }
    return manifest(
        MONITORING,
        "PodMonitor",
        service.object_name,
        namespace,
        labels=labels_of(service),
        spec={
            "selector": {"matchLabels": selector_of(service)},
            "namespaceSelector": {"matchNames": [namespace]},
            "podMetricsEndpoints": [endpoint],
        },
    )


def read_rules(root: Path) -> dict[str, tuple[Body, ...]]:
    """Rule groups of every file of `observability/rules`: file name without its suffix -> groups.

    Args:
        root: Of the repository.
    """
    found = {}
    for path in sorted((root / "observability" / "rules").glob("*.yaml")):
        content: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        found[path.stem] = tuple(content["groups"])
    return found


def rule_objects(service: ServiceSettings, namespace: str, rules: Mapping[str, tuple[Body, ...]]) -> Iterator[Manifest]:
    """A PrometheusRule for each file about the service.

    Raises:
        StackRefusedError: There is none: `slo` is wrong, or `slipway slo build` has not run.
    """
    name = promised(service)
    rollout = (asked_of(name), asked_of(service.object_name))
    own = {stem: groups for stem, groups in rules.items() if _about(groups) == {name}}
    if not own:
        known = sorted({about for groups in rules.values() for about in _about(groups)} - {"monitoring"})
        raise StackRefusedError(
            f"no rule in observability/rules is about {name!r}, expected one of {', '.join(known)}",
            hint="write services/NAME/slo.yaml and run `slipway slo build`, or set `slo` to the service that it is",
        )
    for stem, groups in own.items():
        yield manifest(
            MONITORING,
            "PrometheusRule",
            f"{service.object_name}-{stem.removeprefix(name).lstrip('-.').replace('.', '-')}",
            namespace,
            labels=labels_of(service),
            spec={"groups": [_of_rollout(group, *rollout) for group in groups]},
        )


def _of_rollout(group: Body, ours: str, theirs: str) -> Body:
    """Rules know a rollout by its service's name; here it may have another, and two may share the objectives."""
    return {**group, "rules": [{**rule, "expr": rule["expr"].replace(ours, theirs)} for rule in group["rules"]]}


def _about(groups: tuple[Body, ...]) -> set[str]:
    named = {rule.get("labels", {}).get("service") for group in groups for rule in group["rules"]}
    return {name for name in named if name}


def _meta(label: str) -> str:
    """As Prometheus' service discovery writes it."""
    return "".join(character if character.isalnum() else "_" for character in label)
