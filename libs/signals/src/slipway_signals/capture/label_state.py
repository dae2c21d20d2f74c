"""What labels have counted to, as a text file of metrics, and the collector that shows it on the admin port.

The file is written by the process that ingests labels or compacts, which nobody scrapes; the supervisor shows it with
its own metrics. It holds sums only, nothing of a request. The invariants: it is replaced in one step; a missing or
damaged one hides no other metric.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from slipway_signals.capture.config import CaptureConfig
from slipway_signals.capture.folder import CaptureFolder
from slipway_signals.capture.label_store import LabelStore
from slipway_signals.capture.parts import read_part
from slipway_signals.capture.private_files import read_own, replace_file
from slipway_signals.capture.retention import Stored
from slipway_signals.metrics_capture import (
    COVERAGE_DAYS,
    LABEL_COVERAGE,
    LABEL_LAG,
    LAG_SECONDS,
    REALIZED,
    RETRACTED,
)

__all__ = ["LABELS_DB", "LABELS_PROM", "LabelsCollector", "captured_by_day", "refresh_labels", "write_state"]

logger = logging.getLogger(__name__)

OUTCOMES_OF: Final = {"score": ("tp", "fp", "fn", "tn"), "choice": ("correct", "wrong"), "number": ("correct", "wrong")}
"""How a model is judged → its outcomes."""
LABELS_DB: Final = "labels.db"
LABELS_PROM: Final = "labels.prom"


class LabelsCollector(Collector):
    """A prometheus_client collector of what the labels of capture folders have counted to.

    Args:
        folders: Asked at each scrape which those are; they need not be there yet.
    """

    def __init__(self, folders: Callable[[], Sequence[Path]]) -> None:
        self._folders = folders

    def collect(self) -> Iterator[Family]:
        """The families that were written last; none while there are none."""
        for folder in self._folders():
            yield from _written(folder / LABELS_PROM)

    def describe(self) -> Iterable[Family]:
        """Nothing: which families exist is known at each scrape only."""
        return ()


def _written(path: Path) -> list[Family]:
    try:
        return list(text_string_to_metric_families(read_own(path).decode()))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        logger.warning("label_state_unreadable", extra={"path": str(path), "error": str(error)})
        return []


def refresh_labels(folder: CaptureFolder, config: CaptureConfig, now: float) -> None:
    """Let go of labels whose predictions are gone, and write the state. Nothing where no label can be judged.

    Series are there at 0 before the first label comes: a counter that is born at 7 is no rate to Prometheus.
    """
    path = folder.root / LABELS_DB
    if not path.exists() and not any(read_part(part).format.judge for part in folder.parts()):
        return
    oldest = datetime.fromtimestamp(now, UTC) - timedelta(days=config.retention_days)
    with LabelStore.opened(path) as store:
        store.expire(f"{oldest:%Y-%m-%d}", oldest.timestamp())
        write_state(folder, store, now)


def captured_by_day(folder: CaptureFolder) -> dict[tuple[str, str, str], int]:
    """(model, version, day) → predictions of the sample that are kept. Reads every footer."""
    counted: dict[tuple[str, str, str], int] = {}
    for path in folder.parts():
        stored = Stored.of(path.relative_to(folder.data), 0)
        if stored is not None:
            part = read_part(path)
            key = (part.format.model, part.format.version, f"{stored.hour:%Y-%m-%d}")
            counted[key] = counted.get(key, 0) + part.answered
    return counted


def write_state(folder: CaptureFolder, store: LabelStore, now: float) -> None:
    """Replace the text file by what the store says."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families([*_outcomes(folder, store), _lag(store), _coverage(folder, store, now)]))
    replace_file(folder.root / LABELS_PROM, generate_latest(registry), through=folder.staging)


class _Families(Collector):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> list[Family]:
        return self._families


def _outcomes(folder: CaptureFolder, store: LabelStore) -> Iterator[Family]:
    judged = {
        (part.format.model, part.format.judge.kind) for part in map(read_part, folder.parts()) if part.format.judge
    }
    zeros = {(model, outcome): 0.0 for model, kind in sorted(judged) for outcome in OUTCOMES_OF[kind]}
    zeros |= dict.fromkeys(store.totals("realized"), 0.0)
    for what, metric in (("realized", REALIZED), ("retracted", RETRACTED)):
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for (model, outcome), n in (zeros | store.totals(what)).items():
            family.add_metric([model, outcome], n)
        yield family


def _lag(store: LabelStore) -> Family:
    family = HistogramMetricFamily(LABEL_LAG.name, LABEL_LAG.help, labels=LABEL_LAG.labels)
    counts = store.totals("lag")
    for (model, _), total in store.totals("lag_sum").items():
        seen, buckets = 0.0, []
        for place, bound in enumerate((*map(str, LAG_SECONDS), "+Inf")):
            seen += counts.get((model, str(place)), 0.0)
            buckets.append((bound, seen))
        family.add_metric([model], buckets, total)
    return family


def _coverage(folder: CaptureFolder, store: LabelStore, now: float) -> Family:
    family = GaugeMetricFamily(LABEL_COVERAGE.name, LABEL_COVERAGE.help, labels=LABEL_COVERAGE.labels)
    cohorts = store.cohorts(captured_by_day(folder))
    for model in sorted({cohort.model for cohort in cohorts}):
        for days in COVERAGE_DAYS:
            first = f"{datetime.fromtimestamp(now, UTC) - timedelta(days=days):%Y-%m-%d}"
            chosen = [cohort for cohort in cohorts if cohort.model == model and cohort.day >= first]
            captured = sum(cohort.captured for cohort in chosen)
            if captured:
                labelled = sum(min(cohort.labelled, cohort.captured) for cohort in chosen)
                family.add_metric([model, str(days)], labelled / captured)
    return family
