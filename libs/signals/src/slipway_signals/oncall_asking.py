"""Questions to a Prometheus while somebody waits: each has an answer or says why not, and all of them end.

It knows no alert. The invariants: a question that Prometheus refuses does not cost the others; when `patience_s` is
over, what is left is not asked; a value that is no number (NaN) is no answer.
"""

import math
import time
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from slipway_signals.prometheus import Prometheus, PrometheusError, Sample
from slipway_signals.runbooks import Evidence, RunbookError, fill

__all__ = ["Answer", "Asking", "Row", "value_text"]

MOST_ROWS: Final = 10
"""Of one answer; more are no help at three in the morning. Queries choose the largest themselves (`topk`)."""

HIDDEN: Final = frozenset({"__name__", "job", "alertname", "service"})
"""Labels that say nothing to whoever asks about one service."""


class Row(Struct, frozen=True, kw_only=True):
    """One series of an answer."""

    labels: dict[str, str]
    value: float
    """Finite or infinite, never NaN."""

    text: str
    """`/predict 503  3.2 requests/s`."""


class Answer(Struct, frozen=True, kw_only=True):
    """What the live system says to a question."""

    id: str
    question: str
    promql: str
    """As it was asked."""

    rows: tuple[Row, ...]
    """The largest first."""

    says: str | None
    """What it means that there is no row; None where there are rows, or where nothing was asked."""

    problem: str | None
    """Why nothing was asked or answered."""


class Asking:
    """Asks until `patience_s` is over.

    Args:
        prometheus: Whom.
        now: Unix seconds that every question is about.
        patience_s: How long all questions may take together.
    """

    def __init__(self, prometheus: Prometheus, now: float, patience_s: float = 10.0) -> None:
        self.prometheus = prometheus
        self.now = now
        self._patience_s = patience_s
        self._ends = time.monotonic() + patience_s

    def samples(self, promql: str) -> list[Sample]:
        """Values now, without NaN, the largest first.

        Raises:
            PrometheusError: it refuses, does not answer, or the patience is over.
        """
        if time.monotonic() > self._ends:
            raise PrometheusError(
                f"not asked: Prometheus took longer than {self._patience_s:g} s for the questions before",
                hint="ask it directly, or look at its own load",
            )
        found = [sample for sample in self.prometheus.instant(promql, self.now) if not math.isnan(sample.value)]
        return sorted(found, key=lambda sample: (-sample.value, sorted(sample.labels.items())))

    def samples_or_nothing(self, promql: str) -> list[Sample]:
        """The same, where an error is no sample."""
        try:
            return self.samples(promql)
        except PrometheusError:
            return []

    def answer(self, evidence: Evidence, values: Mapping[str, str]) -> Answer:
        """Fill in the names, ask, and put it into words; never raises."""
        asked, problem = evidence.promql, None
        rows: tuple[Row, ...] = ()
        try:
            asked = fill(evidence.promql, values, into="promql")
            rows = tuple(_row(sample, evidence.unit) for sample in self.samples(asked)[:MOST_ROWS])
        except (RunbookError, PrometheusError) as error:
            problem = error.message
        says = evidence.empty if not rows and problem is None else None
        return Answer(id=evidence.id, question=evidence.question, promql=asked, rows=rows, says=says, problem=problem)


def value_text(value: float, unit: str) -> str:
    """A number as a person reads it: `3.2 requests/s`, `12 ms`, `4.1 %`, `2.1 GB`, `yes`."""
    if math.isinf(value):
        return "endless" if value > 0 else "-endless"
    match unit:
        case "ratio":
            return f"{100 * value:.3g} %" if abs(value) < 10 else f"{100 * value:,.0f} %"
        case "seconds":
            return _seconds_text(value)
        case "bytes":
            return _bytes_text(value)
        case "yes":
            return "yes" if value else "no"
        case "":
            return f"{value:.4g}"
        case _ if (
            unit.endswith("s") and "/" not in unit and value >= 0.5
        ):  # things are counted; `increase` says 2.01 of them
            return f"{value:,.0f} {unit}"
        case _:
            return f"{value:.3g} {unit}" if abs(value) < 1_000 else f"{value:,.0f} {unit}"


def _row(sample: Sample, unit: str) -> Row:
    shown = [value for label, value in sorted(sample.labels.items()) if label not in HIDDEN and value]
    return Row(labels=sample.labels, value=sample.value, text="  ".join([*shown, value_text(sample.value, unit)]))


def _seconds_text(value: float) -> str:
    for limit, size, name in ((1, 0.001, "ms"), (120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if abs(value) < limit:
            return f"{value / size:.3g} {name}"
    return f"{value / 86_400:.3g} d"


def _bytes_text(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1_000:
            return f"{value:.3g} {unit}"
        value /= 1_000
    return f"{value:.3g} TB"
