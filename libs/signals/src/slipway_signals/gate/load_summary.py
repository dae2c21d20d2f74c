"""What a load run adds up to: one row for each arm, and how the generator did.

Pure; it judges nothing (`slipway gate` does). Windows of the warm-up are left out.
"""

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.records import Arm, Window

__all__ = ["ArmSummary", "LoadSummary", "summary_of"]


class ArmSummary(Struct, frozen=True, kw_only=True):
    """One arm over a whole run."""

    sent: int
    succeeded: int
    failed: dict[str, int]
    malformed: int
    latency_s: dict[str, float]
    """`p50`, `p90`, `p95`, `p99`, `p99.9`, `max`; from the intended send time; empty where nothing succeeded."""
    digests: dict[str, int]
    """Who answered; "" did not say."""


class LoadSummary(Struct, frozen=True, kw_only=True):
    """A whole run, without its warm-up."""

    seconds: float
    offered: int
    """Inputs that were due."""
    dropped: int
    arms: dict[Arm, ArmSummary]
    compared: int
    """Pairs of answers."""
    disagreed: dict[str, int]
    slip_p99_s: float | None
    """How much later than intended 1 % of the requests were sent."""
    cpu_share: float
    """Of one core, of the busiest worker in its busiest window."""


QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def summary_of(windows: Iterable[Window]) -> LoadSummary:
    """The sum of a run's windows."""
    counted = [window for window in windows if not window.is_warm_up]
    arms = list(counted[0].arms) if counted else []
    slip = Histogram()
    disagreed: Counter[str] = Counter()
    for window in counted:
        slip.merge(window.generator.slip_us)
        disagreed.update(window.pairs.disagreed)
    return LoadSummary(
        seconds=sum(window.end_s - window.begin_s for window in counted),
        offered=sum(window.generator.offered for window in counted),
        dropped=sum(window.generator.dropped for window in counted),
        arms={arm: _arm(counted, arm) for arm in arms},
        compared=sum(window.pairs.compared for window in counted),
        disagreed=dict(disagreed),
        slip_p99_s=slip.quantile(0.99) / 1e6 if slip.count else None,
        cpu_share=max((window.generator.cpu_share for window in counted), default=0.0),
    )


def _arm(windows: Iterable[Window], arm: Arm) -> ArmSummary:
    latency = Histogram()
    failed: Counter[str] = Counter()
    digests: Counter[str] = Counter()
    sent = succeeded = malformed = 0
    for window in windows:
        counts = window.arms[arm]
        latency.merge(counts.latency_us)
        failed.update(counts.failed)
        digests.update(counts.digests)
        sent += counts.sent
        succeeded += counts.succeeded
        malformed += counts.malformed
    return ArmSummary(
        sent=sent,
        succeeded=succeeded,
        failed=dict(failed),
        malformed=malformed,
        latency_s={name: latency.quantile(q) / 1e6 for name, q in QUANTILES.items()} if latency.count else {},
        digests=dict(digests),
    )
