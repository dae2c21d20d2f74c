"""What `/metrics` of the verdict service shows: what it was told, what it said, what it keeps.

It judges nothing. The invariant: what is kept is read from the store at each scrape, so it is true after a restart;
what was posted and answered is counted by this process and begins at 0 with it, every series from the start.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from slipway_bundle import SlipwayError
from slipway_serve.verdicts.answers import Answer, Recorded
from slipway_serve.verdicts.store import VerdictStore
from slipway_signals.gate.verdict import Verdict

__all__ = ["VerdictMetrics"]

VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)


class VerdictMetrics:
    """Counts of one service. Thread-safe.

    Args:
        store: Where verdicts are.
        clock: Seconds since 1970.
    """

    def __init__(self, store: VerdictStore, clock: Callable[[], float]) -> None:
        self.registry: Final = CollectorRegistry()
        self._posts = Counter(
            "slipway_verdicts_posts_total",
            "Evidence that was taken, by what it counts as; `again`: it was there before.",
            ["outcome"],
            registry=self.registry,
        )
        self._refused = Counter(
            "slipway_verdicts_refused_total",
            "Posts that left nothing behind, by the code of the problem.",
            ["code"],
            registry=self.registry,
        )
        self._answers = Counter(
            "slipway_verdicts_answers_total",
            "What rollouts were told, by verdict.",
            ["verdict"],
            registry=self.registry,
        )
        for verdict in VERDICTS:
            self._posts.labels(verdict)
            self._answers.labels(verdict)
        self._posts.labels("again")
        self.registry.register(_Kept(store, clock))

    def taken(self, judged: Recorded, *, is_new: bool) -> None:
        """Evidence was taken."""
        self._posts.labels(judged.verdict if is_new else "again").inc()

    def refused(self, code: str) -> None:
        """A post was refused; codes are ours, some twenty."""
        self._refused.labels(code).inc()

    def answered(self, answer: Answer) -> None:
        """A rollout was told."""
        self._answers.labels(answer.verdict).inc()


class _Kept(Collector):
    """The store, at each scrape. While it cannot be read there is nothing of it, and `slipway_verdicts_up` is 0."""

    def __init__(self, store: VerdictStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    def collect(self) -> Iterator[Family]:
        """The families."""
        try:
            kept, now_s = self._store.kept(), self._clock()
            frozen = self._store.frozen(now_s)
        except SlipwayError:
            yield _gauge("up", "Whether the store answers.", 0)
            return
        yield _gauge("up", "Whether the store answers.", 1)
        yield _gauge("store_bytes", "Size of the store, without its log.", kept.store_bytes)
        by_verdict = GaugeMetricFamily(
            "slipway_verdicts_kept", "Verdicts in the store, as they were judged.", labels=["verdict"]
        )
        for verdict in VERDICTS:
            by_verdict.add_metric([verdict], kept.verdicts.get(verdict, 0))
        yield by_verdict
        for name, received_s in (("oldest", kept.oldest_s), ("newest", kept.newest_s)):
            if received_s is not None:
                help_ = f"Time since the {name} verdict was received; absent while there is none."
                yield _gauge(f"{name}_age_seconds", help_, max(0.0, now_s - received_s))
        yield _gauge("freezes", "Freezes that hold now.", len(frozen))

    def describe(self) -> Iterable[Family]:
        """Nothing: the store is not read before the first scrape."""
        return ()


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"slipway_verdicts_{name}", text, value=value)
