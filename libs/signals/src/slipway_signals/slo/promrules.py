"""Rules as data, and the files that Prometheus reads.

No rule is written here. The invariants: the same groups give the same bytes everywhere; lengths of time are seconds
until they are rendered, so one factor makes a fast copy of all rules for a live test.
Source: https://prometheus.io/docs/prometheus/latest/configuration/recording_rules/ (the form of promtool 2.42).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml
from msgspec import Struct, field

from slipway_signals.slo.durations import duration_text

__all__ = ["HEADER", "INTERVAL_S", "Alert", "Group", "Record", "Timing", "render_groups", "render_yaml"]

INTERVAL_S: Final = 30
"""How often the rules are evaluated."""

HEADER: Final = "# Written by `slipway slo build`; change {source} and run it again.\n"


class Record(Struct, frozen=True, kw_only=True, tag="record"):
    """A recorded series."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Alert(Struct, frozen=True, kw_only=True, tag="alert"):
    """An alerting rule."""

    name: str
    expr: str
    for_s: float = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


class Group(Struct, frozen=True, kw_only=True):
    """Rules that are evaluated together, in order."""

    name: str
    rules: tuple[Record | Alert, ...]
    interval_s: float = INTERVAL_S


class Timing(Struct, frozen=True):
    """True lengths of time, or all of them divided by `scale` for a live test."""

    scale: float = 1

    def text(self, seconds: float) -> str:
        """A window or wait, as PromQL writes it."""
        return duration_text(seconds / self.scale)

    def seconds(self, seconds: float) -> str:
        """The same as a number of seconds in an expression."""
        return f"{seconds / self.scale:g}" if self.scale != 1 else f"{seconds:.0f}"

    def of(self, seconds: float) -> float:
        """The same as a number."""
        return seconds / self.scale


def render_groups(groups: Sequence[Group], *, source: str) -> str:
    """One rules file. `source` is what its first line tells a reader to change."""
    return render_yaml({"groups": [_group(group) for group in groups]}, source=source)


def render_yaml(document: object, *, source: str) -> str:
    """YAML in one spelling: keys in their order, no line breaks but those of the text."""
    body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=2**20, allow_unicode=True)
    return HEADER.format(source=source) + str(body)


def _group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "interval": duration_text(group.interval_s),
        "rules": [_rule(rule) for rule in group.rules],
    }


def _rule(rule: Record | Alert) -> dict[str, Any]:
    expr = rule.expr + "\n" if "\n" in rule.expr else rule.expr
    if isinstance(rule, Record):
        return {"record": rule.name, "expr": expr} | ({"labels": dict(rule.labels)} if rule.labels else {})
    waits = {"for": duration_text(rule.for_s)} if rule.for_s else {}
    return {
        "alert": rule.name,
        "expr": expr,
        **waits,
        "labels": dict(rule.labels),
        "annotations": dict(rule.annotations),
    }


class _Dumper(yaml.SafeDumper):
    """Long text as a block, lists indented under their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Lists are indented, as people write them."""
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Write every value out."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
