"""A model's drift counters as promtool sees them, and promtool asked about the rules; for the tests of drift."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from slipway_signals.drift.promql import Thresholds
from slipway_signals.drift.rules import drift_groups
from slipway_signals.slo.promrules import Timing, render_groups

LABELS = {"service": "churn", "model": "churn"}


class Stretch(Struct, frozen=True):
    """So many minutes with the same counts a minute."""

    minutes: int
    a_minute: float


def counter(name: str, stretches: Sequence[Stretch], **labels: str) -> dict[str, Any]:
    """An input series: a counter sampled once a minute."""
    value, parts = 0.0, []
    for number, stretch in enumerate(stretches):
        start = value if number == 0 else value + stretch.a_minute
        minutes = stretch.minutes if number == 0 else stretch.minutes - 1
        parts.append(f"{start:.10g}+{stretch.a_minute:.10g}x{minutes}")
        value += stretch.minutes * stretch.a_minute
    return {"series": _series(name, labels), "values": " ".join(parts)}


def gauge(name: str, value: float, minutes: int, **labels: str) -> dict[str, Any]:
    """An input series that keeps its value."""
    return {"series": _series(name, labels), "values": f"{value!r}+0x{minutes}"}


def promtool(
    folder: Path,
    series: Sequence[Mapping[str, Any]],
    *,
    values: Sequence[Mapping[str, Any]] = (),
    alerts: Sequence[Mapping[str, Any]] = (),
    timing: Timing | None = None,
    thresholds: Thresholds | None = None,
    every: str = "5m",
) -> str:
    """What promtool has to say about the rules of `churn` with these series: nothing, or what it expected and got.

    `every` is from one evaluation to the next: Prometheus has a minute, but windows of an hour and waits of a quarter
    are the same to a few of them, and fewer evaluations can only make more alerts last.
    """
    groups = drift_groups("churn", "team-churn", timing=timing, thresholds=thresholds)
    (folder / "rules.yaml").write_text(render_groups(groups, source="the test"))
    test = {
        "interval": "1m",
        "input_series": list(series),
        "promql_expr_test": list(values),
        "alert_rule_test": list(alerts),
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": every, "tests": [test]}
    (folder / "test.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _series(name: str, labels: Mapping[str, str]) -> str:
    pairs = ", ".join(f'{key}="{value}"' for key, value in {**LABELS, "instance": "a", **labels}.items())
    return f"{name}{{{pairs}}}"
