"""The series that a rule may ask for: what slipway counts, what it records, and what other exporters bring.

It holds no metric of its own. The invariant: a name or label that nothing exports is found here, when rules are
compiled, and not by an alert that never fires.
"""

import re
from collections.abc import Iterable, Iterator
from copy import copy
from difflib import get_close_matches
from typing import Final

from slipway_signals import metrics
from slipway_signals.metrics import Metric
from slipway_signals.slo.selectors import Selector, parse_selector

__all__ = ["EXTERNAL", "TARGET_LABELS", "Known", "selectors_of"]

TARGET_LABELS: Final = frozenset(
    {"service", "track", "job", "instance", "namespace", "pod", "container", "node", "cluster"}
)
"""Labels that the scrape configuration gives, never the program."""

EXTERNAL: Final = ("kube_", "container_", "DCGM_", "rollout_", "analysis_run_")
"""Beginnings of names that other exporters bring; their labels are theirs."""

MONITORING: Final = ("prometheus_", "alertmanager_")
"""Beginnings of what the monitoring says of itself."""

SYNTHETIC: Final = frozenset({"up", "ALERTS", "ALERTS_FOR_STATE", "scrape_duration_seconds"})
"""What Prometheus itself writes."""


_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_RANGE: Final = re.compile(r"\[[^\]]*\]")
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_SELECTOR: Final = re.compile(
    rf"(?<![\w:.])([a-zA-Z_:][\w:]*)(?![\w:])(\s*\{{(?:[^\"{{}}]|{_QUOTED})*\}})?(?!\s*\()|{_QUOTED}"
)
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", "by", "on"})


def selectors_of(expr: str) -> Iterator[Selector]:
    """Every selector of a compiled expression, which is written more regularly than PromQL allows."""
    plain = _RANGE.sub("", _GROUPING.sub("", expr))
    for found in _SELECTOR.finditer(plain):
        name = found[1]
        if name and (found[2] or name.lower() not in _WORDS):
            yield parse_selector(f"{name}{found[2] or ''}")


class Known:
    """Which series exist.

    Args:
        exported: What slipway counts; by default all of `metrics.ALL`.
        recorded: Names of recorded series.
    """

    def __init__(self, exported: Iterable[Metric] = metrics.ALL, recorded: Iterable[str] = ()) -> None:
        self._labels: dict[str, frozenset[str]] = {}
        self.bounds: dict[str, tuple[float, ...]] = {}
        """Bucket bounds by the name of the histogram's buckets."""
        self._recorded = frozenset(recorded)
        for metric in exported:
            labels = TARGET_LABELS | frozenset(metric.labels)
            if metric.kind != "histogram":
                self._labels[metric.name] = labels
                continue
            self.bounds[f"{metric.name}_bucket"] = tuple(metric.bounds)
            self._labels |= {f"{metric.name}_{end}": labels for end in ("sum", "count")}
            self._labels[f"{metric.name}_bucket"] = labels | {"le"}

    def and_recorded(self, names: Iterable[str]) -> "Known":
        """The same with further recorded series."""
        more = copy(self)
        more._recorded = self._recorded | frozenset(names)  # noqa: SLF001 - its own
        return more

    def __contains__(self, name: str) -> bool:
        return (
            name in self._labels
            or name in self._recorded
            or name in SYNTHETIC
            or name.startswith((*EXTERNAL, *MONITORING))
        )

    def problem_of(self, selector: Selector) -> str | None:
        """Why no series can match, or None."""
        if selector.metric not in self:
            near = get_close_matches(selector.metric, [*self._labels, *self._recorded], n=1)
            expected = f"did you mean {near[0]!r}?" if near else "`slipway_signals.metrics` lists all"
            return f"no metric is called {selector.metric!r}: {expected}"
        labels = self._labels.get(selector.metric)
        for matcher in selector.matchers:
            if labels is not None and matcher.label not in labels:
                return f"{selector.metric} has no label {matcher.label!r}, expected one of {', '.join(sorted(labels))}"
        return None
