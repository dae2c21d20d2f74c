import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from slot_writers import DEPTH, HITS, SECONDS, writer

from slipway_signals import metrics
from slipway_signals.collector import MergedCollector, SlotProblem, make_registry
from slipway_signals.slotfile import Metric, make_slot_fd
from slipway_signals.slots import Slots


class Merged:
    """A collector with workers of this process."""

    def __init__(self) -> None:
        self.collector = MergedCollector(cells=256, key_bytes=4096)
        self.registry = make_registry(self.collector)
        self.slots: dict[str, Slots] = {}

    def start(self, name: str) -> Slots:
        fd = self.collector.open(name)
        self.slots[name] = Slots.attach(fd)
        os.close(fd)
        return self.slots[name]

    def end(self) -> None:
        for name in self.slots:
            self.collector.fold(name)


@pytest.fixture
def merged() -> Iterator[Merged]:
    merged = Merged()
    yield merged
    merged.end()


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_counters_and_histograms_of_all_workers_are_summed(merged: Merged) -> None:
    for name, hits in (("api-0.1", 3.0), ("api-1.1", 4.0)):
        slots = merged.start(name)
        slots.counter(HITS, "a").inc(hits)
        slots.histogram(SECONDS).observe(hits / 10)

    assert sample(merged.registry, "hits_total", where="a") == 7.0
    assert sample(merged.registry, "wait_seconds_bucket", le="0.1") == 0.0
    assert sample(merged.registry, "wait_seconds_bucket", le="1.0") == 2.0
    assert sample(merged.registry, "wait_seconds_bucket", le="+Inf") == 2.0
    assert sample(merged.registry, "wait_seconds_count") == 2.0
    assert sample(merged.registry, "wait_seconds_sum") == pytest.approx(0.7)


@pytest.mark.parametrize(("merge", "expected"), [("sum", 7.0), ("max", 5.0), ("min", 2.0)])
def test_gauges_merge_as_their_definition_says(merged: Merged, merge: str, expected: float) -> None:
    metric = msgspec.structs.replace(DEPTH, merge=merge)
    merged.start("api-0.1").gauge(metric).set(2.0)
    merged.start("api-1.1").gauge(metric).set(5.0)

    assert sample(merged.registry, "depth") == expected


def test_a_dead_workers_counts_stay_and_its_gauges_vanish(merged: Merged) -> None:
    slots = merged.start("api-0.1")
    slots.counter(HITS, "a").inc(3.0)
    slots.gauge(DEPTH).set(9.0)
    slots.histogram(SECONDS).observe(0.5)

    merged.collector.fold("api-0.1")

    assert sample(merged.registry, "hits_total", where="a") == 3.0
    assert sample(merged.registry, "wait_seconds_count") == 1.0
    assert sample(merged.registry, "depth") is None


def test_a_worker_is_folded_once(merged: Merged) -> None:
    merged.start("api-0.1").counter(HITS, "a").inc(3.0)

    folded = [merged.collector.fold("api-0.1") for _ in range(3)]
    folded.append(merged.collector.fold("never"))

    assert folded == [True, False, False, False]
    assert sample(merged.registry, "hits_total", where="a") == 3.0


def test_a_name_that_is_live_cannot_be_opened_again(merged: Merged) -> None:
    merged.start("api-0.1")

    with pytest.raises(ValueError, match="already has a slot"):
        merged.collector.open("api-0.1")


def test_a_sum_does_not_fall_by_the_order_of_additions(merged: Merged) -> None:
    """(0.1 + 0.2) + 0.3 > 0.1 + (0.2 + 0.3): a fall by the last bit would be a counter reset to Prometheus."""
    for name, value in (("api-0.1", 0.1), ("api-1.1", 0.2), ("api-2.1", 0.3)):
        merged.start(name).counter(HITS, "a").inc(value)
    before = sample(merged.registry, "hits_total", where="a")

    for name in ("api-2.1", "api-1.1", "api-0.1"):
        merged.collector.fold(name)

    after = sample(merged.registry, "hits_total", where="a")
    assert before == 0.6000000000000001
    assert after == before


def test_workers_with_other_buckets_lose_no_count(merged: Merged) -> None:
    """A rolling restart may add a threshold while old workers still count without it."""
    wider = msgspec.structs.replace(SECONDS, bounds=(0.1, 0.5, 1.0))
    old, new = merged.start("api-0.1").histogram(SECONDS), merged.start("api-0.2").histogram(wider)
    for value in (0.05, 0.3, 0.7, 9.0):
        old.observe(value)
        new.observe(value)

    buckets = {le: sample(merged.registry, "wait_seconds_bucket", le=le) for le in ("0.1", "0.5", "1.0", "+Inf")}

    assert buckets == {"0.1": 2.0, "0.5": 3.0, "1.0": 6.0, "+Inf": 8.0}
    assert sample(merged.registry, "wait_seconds_count") == 8.0


def test_a_metric_that_changed_its_meaning_does_not_spoil_the_page(merged: Merged) -> None:
    merged.start("api-0.1").counter(HITS, "a").inc(3.0)
    merged.start("api-0.2").counter(Metric("hits_total", "counter", "", ("where", "how")), "a", "b").inc(5.0)

    assert sample(merged.registry, "hits_total", where="a") == 3.0
    assert sample(merged.registry, "hits_total", where="a", how="b") is None


def test_a_slot_that_cannot_be_read_keeps_its_values_and_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fd = make_slot_fd(tmp_path / "slot")
    collector = MergedCollector()
    registry = make_registry(collector)
    collector.attach("api-0.1", fd)
    Slots.attach(fd).counter(HITS, "a").inc(3.0)
    assert sample(registry, "slipway_metrics_unreadable_slots") == 0.0
    assert collector.problems() == ()

    os.ftruncate(fd, 200)
    with caplog.at_level(logging.WARNING):
        seen = [sample(registry, "hits_total", where="a") for _ in range(3)]
    problems = collector.problems()
    unreadable = sample(registry, "slipway_metrics_unreadable_slots")
    collector.fold("api-0.1")
    os.close(fd)

    assert seen == [3.0, 3.0, 3.0]
    assert unreadable == 1.0
    assert [type(one) for one in problems] == [SlotProblem]
    assert "cut off" in problems[0].problem
    assert [one.message for one in caplog.records] == ["metrics_slot_unreadable"]
    assert sample(registry, "hits_total", where="a") == 3.0
    assert sample(registry, "slipway_metrics_unreadable_slots") == 0.0


def test_what_was_dropped_and_ignored_is_shown_over_deaths(merged: Merged) -> None:
    slots = merged.start("api-0.1")
    slots.counter(HITS, "a").inc(-1.0)
    for number in range(300):
        slots.counter(HITS, f"place-{number}")

    live = sample(merged.registry, "slipway_telemetry_dropped_total", signal="series", process="")
    merged.collector.fold("api-0.1")

    assert live is not None
    assert live > 0
    assert sample(merged.registry, "slipway_telemetry_dropped_total", signal="series", process="") == live
    assert sample(merged.registry, "slipway_telemetry_dropped_total", signal="values", process="") == 1.0


Operation = tuple[str, int, float]
operations = st.lists(
    st.tuples(st.sampled_from(["start", "hit", "wait", "fold", "scrape"]), st.integers(0, 3), st.floats(0.0, 5.0)),
    max_size=60,
)


@settings(max_examples=50)
@given(operations)
def test_whatever_lives_and_dies_the_page_says_what_was_counted_and_never_falls(plan: list[Operation]) -> None:
    merged = Merged()
    live: dict[int, str] = {}
    hits = waits = 0
    last: dict[str, float] = {}

    for number, (operation, worker, value) in enumerate([*plan, ("scrape", 0, 0.0)]):
        if operation == "start" and worker not in live:
            live[worker] = f"api-{worker}.{number}"
            merged.start(live[worker])
        elif operation == "hit" and worker in live:
            merged.slots[live[worker]].counter(HITS, "a").inc()
            hits += 1
        elif operation == "wait" and worker in live:
            merged.slots[live[worker]].histogram(SECONDS).observe(value)
            waits += 1
        elif operation == "fold" and worker in live:
            assert merged.collector.fold(live.pop(worker))
        elif operation == "scrape":
            page = {
                one.name + str(one.labels): one.value for family in merged.registry.collect() for one in family.samples
            }
            assert page.get("hits_total{'where': 'a'}", 0.0) == hits
            assert page.get("wait_seconds_count{}", 0.0) == waits
            assert all(page[name] >= before for name, before in last.items())
            last = {name: value for name, value in page.items() if "total" in name or "wait" in name}

    merged.end()


def test_over_twenty_kills_the_merged_counter_never_falls_and_loses_nothing() -> None:
    code = """
hits = slots.counter(HITS, "a")
while True:
    hits.inc()
    sys.stdout.buffer.write(b"x")
    sys.stdout.buffer.flush()
"""
    collector = MergedCollector()
    registry = make_registry(collector)
    told = 0
    seen = [0.0]
    for start in range(20):
        fd = collector.open(f"api-0.{start}")
        with writer(fd, code) as process:
            os.close(fd)
            assert process.stdout is not None
            told += len(process.stdout.read(50))
            seen.append(sample(registry, "hits_total", where="a") or 0.0)
            process.kill()
            told += len(process.stdout.read())
            process.wait()
        seen.append(sample(registry, "hits_total", where="a") or 0.0)
        collector.fold(f"api-0.{start}")
        seen.append(sample(registry, "hits_total", where="a") or 0.0)

    assert seen == sorted(seen)
    assert told <= seen[-1] <= told + 20  # each kill may fall between the count and its announcement


def test_what_processes_lost_stands_beside_what_their_slots_lost(merged: Merged) -> None:
    """Traces and log lines are counted by the workers, series and values by their slots: one metric, once."""
    for name in ("api-0.1", "api-1.1"):
        slots = merged.start(name)
        slots.counter(metrics.TELEMETRY_DROPPED, "traces", "api").inc(2.0)
        slots.counter(HITS, "a").inc(float("nan"))

    merged.collector.fold("api-0.1")

    families = [family for family in merged.collector.collect() if family.name == "slipway_telemetry_dropped"]
    lost = {sample.labels["signal"]: sample.value for family in families for sample in family.samples}
    assert len(families) == 1
    assert lost == {"series": 0.0, "traces": 4.0, "values": 2.0}
