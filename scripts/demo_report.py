"""The words of the demo: what was predicted, what the traffic met, where to look next. Pure functions, ASCII only.

It measures nothing. The invariant: every number in it comes from an answer or from `/metrics`; nothing is rounded up.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from demo_traffic import LOYAL, UNHAPPY, Outcome, Phase

SAMPLE: Final = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$")
LE: Final = re.compile(r'le="([^"]+)"')


@dataclass(frozen=True)
class Batches:
    """What `/metrics` says of batch sizes."""

    count: int
    rows: int
    largest: int
    """Upper bound of the bucket that the largest batch fell into."""

    @property
    def mean(self) -> float:
        """Rows a batch."""
        return self.rows / self.count if self.count else 0.0


def batches_of(metrics: str) -> Batches:
    """Reads the batch size histogram, summed over models, out of a Prometheus page."""
    count = rows = 0.0
    buckets: defaultdict[float, float] = defaultdict(float)
    for line in metrics.splitlines():
        sample = SAMPLE.match(line)
        if sample is None or not sample["name"].startswith("slipway_inference_batch_size"):
            continue
        value = float(sample["value"])
        kind = sample["name"].removeprefix("slipway_inference_batch_size")
        count += value if kind == "_count" else 0
        rows += value if kind == "_sum" else 0
        if kind == "_bucket" and (bound := LE.search(sample["labels"] or "")):
            buckets[float(bound[1])] += value
    full = [bound for bound, below in sorted(buckets.items()) if below >= count > 0 and bound != float("inf")]
    return Batches(count=round(count), rows=round(rows), largest=round(full[0]) if full else 0)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(len(ordered) * share)) - 1] if ordered else 0.0


def prediction_lines(unhappy: float, loyal: float) -> list[str]:
    """Two predictions as sentences."""
    new = f"{UNHAPPY['tenure_months']:.0f} months, a monthly contract, {UNHAPPY['support_calls']} support calls"
    old = f"{LOYAL['tenure_months']:.0f} months, a yearly contract, no support call"
    return [f"{new}: leaves with a probability of {unhappy:.0%}", f"{old}: {loyal:.0%}"]


def traffic_lines(phases: Sequence[Phase], batches: Batches) -> list[str]:
    """What the traffic met, as aligned lines."""
    outcomes = [outcome for phase in phases for outcome in phase.outcomes]
    lines = [_speed(phase) for phase in phases if any(o.kind == "good" for o in phase.outcomes)]
    lines.append(
        f"batches  {batches.count:5d} computed   {batches.rows} rows, {batches.mean:.1f} a batch on average, "
        f"the largest had at most {batches.largest}"
    )
    bad = Counter(outcome.status for outcome in outcomes if outcome.kind == "bad")
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(bad.items()))
    lines.append(f"refused  {bad.total():5d} bad requests, each told what is wrong: {statuses}")
    hasty = [outcome for outcome in outcomes if outcome.kind == "hasty"]
    late = [outcome for outcome in hasty if outcome.status != 200]
    if late:
        told = " and told when to come back" if all(outcome.has_retry_after for outcome in late) else ""
        lines.append(
            f"refused  {len(late):5d} of {len(hasty)} requests whose deadline could not be met, within "
            f"{1000 * quantile([o.seconds for o in late], 0.5):.1f} ms{told}"
        )
    lines.append(f"failed   {len(failures(phases)):5d}")
    return lines


def failures(phases: Sequence[Phase]) -> list[Outcome]:
    """Outcomes that a server must not have."""
    return [outcome for phase in phases for outcome in phase.outcomes if not outcome.is_expected]


def _speed(phase: Phase) -> str:
    good = [outcome.seconds for outcome in phase.outcomes if outcome.status == 200]
    rate = len(phase.outcomes) / phase.seconds if phase.seconds else 0.0
    return (
        f"{phase.name:<8} {len(good):5d} answered   p50 {1000 * quantile(good, 0.5):.1f} ms   "
        f"p99 {1000 * quantile(good, 0.99):.1f} ms   {rate:,.0f} req/s over {phase.connections} connections"
    )
