"""Promtool's unit tests as data: series that are given, and what must be true at which time.

What is given and expected comes from `slo_drills` and `watch_drills`. The invariants: all numbers of a series are
exact decimals, so a test says the same everywhere; each check has a time of its own.
Source: https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct, field

from slipway_signals.slo.promrules import Alert, render_yaml

__all__ = ["GRACE_S", "STEP_S", "Case", "Check", "Sounding", "counter", "firing", "gauge", "render_cases", "sounding"]

STEP_S: Final = 30
"""From one sample to the next, and from one evaluation to the next."""

GRACE_S: Final = 3 * STEP_S
"""One scrape and two evaluations: how much later than in theory an alert may fire or fall silent."""


class Check(Struct, frozen=True, kw_only=True):
    """How many alerts fire, or what a query gives, at a time."""

    at_s: float
    expr: str
    value: float | None
    """None: no sample at all."""


class Sounding(Struct, frozen=True, kw_only=True):
    """The alerts of one name at a time, with their labels and words."""

    at_s: float
    alert: str
    expected: tuple[tuple[Mapping[str, str], Mapping[str, str]], ...]


class Case(Struct, frozen=True, kw_only=True):
    """Series from time 0 on, and the checks."""

    name: str
    series: Mapping[str, str]
    checks: tuple[Check, ...] = ()
    soundings: tuple[Sounding, ...] = ()
    step_s: int = STEP_S
    note: str = field(default="")


def counter(phases: Iterable[tuple[float, Decimal | float]], step_s: int = STEP_S) -> str:
    """A counter that grows, in each phase of so many seconds, by so much a step; it starts at 0."""
    parts = ["0"]
    total = Decimal(0)
    for seconds, growth in phases:
        steps = round(seconds / step_s)
        if steps > 0:
            each = Decimal(str(growth))
            parts.append(f"{_text(total + each)}+{_text(each)}x{steps - 1}")
            total += each * steps
    return " ".join(parts)


def gauge(phases: Iterable[tuple[float, Decimal | float | None]], step_s: int = STEP_S) -> str:
    """A gauge that has, in each phase, one value; None: the series is not there, and the first scrape says so."""
    parts: list[str] = []
    is_there = False
    for seconds, value in phases:
        steps = round(seconds / step_s)
        if steps <= 0:
            continue
        if value is not None:
            parts.append(f"{_text(Decimal(str(value)))}x{steps - 1}")
        else:
            parts += ["stale", f"_x{steps - 1}"] if is_there and steps > 1 else ["stale" if is_there else f"_x{steps}"]
        is_there = value is not None
    return " ".join(parts)


def firing(at_s: float, labels: Mapping[str, str], *, count: int = 0) -> Check:
    """So many alerts with these labels fire; 0 by default."""
    inside = ",".join(f'{name}="{value}"' for name, value in {"alertstate": "firing", **labels}.items())
    return Check(at_s=at_s, expr=f"count(ALERTS{{{inside}}})", value=count or None)


def sounding(at_s: float, alerts: Sequence[tuple[Alert, Mapping[str, str], Mapping[str, str]]]) -> Sounding:
    """Alerts of one name with the labels that their series bring and what their templates put in.

    Args:
        at_s: When.
        alerts: Each alert, the labels from its series, and the text of each template action.
    """
    expected = tuple(
        (
            {**found, **alert.labels},
            {key: _rendered(text, {**found, **alert.labels}, values) for key, text in alert.annotations.items()},
        )
        for alert, found, values in alerts
    )
    return Sounding(at_s=at_s, alert=alerts[0][0].name, expected=expected)


def render_cases(cases: Sequence[Case], rules: Sequence[str], *, source: str, groups: Sequence[str] = ()) -> str:
    """One test file for promtool, of cases with the same step; `rules` are the files it loads, relative to it.

    The step is also how often promtool evaluates the rules, and it has one such number a file. Of several `groups` it
    takes any first, each time another, unless it is told; then an alert would see a record of this step or of the last.
    """
    step_s = cases[0].step_s if cases else STEP_S
    if any(case.step_s != step_s for case in cases):
        raise RuntimeError("this is a bug in slipway: promtool evaluates all cases of a file at the same step")
    document = {
        "rule_files": list(rules),
        "evaluation_interval": f"{step_s}s",
        **({"group_eval_order": list(groups)} if len(groups) > 1 else {}),
        "tests": [_case(case) for case in cases],
    }
    return render_yaml(document, source=source)


def _case(case: Case) -> dict[str, Any]:
    found: dict[str, Any] = {"name": case.name, "interval": f"{case.step_s}s"}
    found["input_series"] = [{"series": name, "values": values} for name, values in case.series.items()]
    if case.soundings:
        found["alert_rule_test"] = [
            {
                "eval_time": f"{_at(each.at_s, case.step_s)}s",
                "alertname": each.alert,
                "exp_alerts": [
                    {"exp_labels": dict(labels), "exp_annotations": dict(words)} for labels, words in each.expected
                ],
            }
            for each in case.soundings
        ]
    if case.checks:
        found["promql_expr_test"] = [
            {
                "expr": check.expr,
                "eval_time": f"{_at(check.at_s, case.step_s)}s",
                "exp_samples": [] if check.value is None else [{"labels": "{}", "value": check.value}],
            }
            for check in case.checks
        ]
    return found


def _at(seconds: float, step_s: int) -> int:
    """The evaluation at or before that time."""
    return max(0, int(seconds // step_s) * step_s)


def _rendered(text: str, labels: Mapping[str, str], values: Mapping[str, str]) -> str:
    """What Prometheus makes of a template, told by the drill and not computed here."""
    for action, value in values.items():
        text = text.replace(action, value)
    for name, value in labels.items():
        text = text.replace(f"{{{{ $labels.{name} }}}}", value)
    return text


def _text(number: Decimal) -> str:
    return f"{number:f}".rstrip("0").rstrip(".") if "." in f"{number:f}" else f"{number:f}"
