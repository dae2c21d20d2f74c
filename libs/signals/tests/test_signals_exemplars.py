import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser
from prometheus_client.registry import Collector
from slot_writers import HITS, SECONDS, read_once, writer

from slipway_signals.admin import Admin, start_admin
from slipway_signals.collector import MergedCollector, make_registry
from slipway_signals.slotfile import EXEMPLAR_WORDS, EXEMPLARS, Metric, make_slot_fd
from slipway_signals.slots import Slots
from slipway_signals.snapshots import SlotReader

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
SPAN = 0xB7AD6B7169203331
AT = 1_700_000_000.0


@pytest.fixture
def fd() -> Iterator[int]:
    fd = make_slot_fd()
    yield fd
    os.close(fd)


class Fleet:
    """A collector, and workers in this process that write to it."""

    def __init__(self) -> None:
        self.collector = MergedCollector()
        self.registry = make_registry(self.collector)

    def start(self, name: str) -> Slots:
        fd = self.collector.open(name)
        slots = Slots.attach(fd)
        os.close(fd)
        return slots

    def exemplars(self, metric: str = "wait_seconds") -> dict[str, tuple[str, float, float]]:
        """Of each bucket that has one: trace id, value, time."""
        families = [one for one in self.registry.collect() if one.name == metric]
        return {
            sample.labels["le"]: (
                sample.exemplar.labels["trace_id"],
                sample.exemplar.value,
                float(sample.exemplar.timestamp or 0),
            )
            for family in families
            for sample in family.samples
            if sample.exemplar is not None
        }


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_a_bucket_points_to_the_trace_of_a_value_it_counted(fleet: Fleet) -> None:
    waits = fleet.start("api-0.1").histogram(SECONDS)
    for value in (0.05, 0.5, 7.0):
        waits.observe(value)

    waits.exemplify(0.5, TRACE, SPAN, AT)
    waits.exemplify(7.0, TRACE + 1, SPAN, AT)

    assert fleet.exemplars() == {
        "1.0": ("0af7651916cd43dd8448eb211c80319c", 0.5, AT),
        "+Inf": ("0af7651916cd43dd8448eb211c80319d", 7.0, AT),
    }


def test_a_value_on_the_bound_belongs_to_the_bucket_that_counted_it(fleet: Fleet) -> None:
    waits = fleet.start("api-0.1").histogram(SECONDS)

    waits.observe(0.1)
    waits.exemplify(0.1, TRACE, SPAN, AT)

    assert list(fleet.exemplars()) == ["0.1"]


def test_a_bucket_takes_a_new_exemplar_after_fifteen_seconds(fleet: Fleet) -> None:
    waits = fleet.start("api-0.1").histogram(SECONDS)

    seen = []
    for seconds in (0.0, 14.9, 15.0, 16.0):
        waits.exemplify(0.5, TRACE, SPAN, AT + seconds)
        seen.append(fleet.exemplars()["1.0"][2] - AT)

    assert seen == [0.0, 0.0, 15.0, 15.0]


def test_the_newest_exemplar_of_all_workers_wins_also_over_a_dead_ones(fleet: Fleet) -> None:
    """Not like client_python#826, whose multiprocess mode has no exemplars."""
    old, new = fleet.start("api-0.1").histogram(SECONDS), fleet.start("api-1.1").histogram(SECONDS)
    old.exemplify(0.5, 1, 1, AT)
    new.exemplify(0.6, 2, 2, AT + 1)
    old.exemplify(0.05, 3, 3, AT)

    living = fleet.exemplars()
    fleet.collector.fold("api-0.1")
    fleet.collector.fold("api-1.1")

    assert {le: (int(trace, 16), value) for le, (trace, value, _) in living.items()} == {
        "0.1": (3, 0.05),
        "1.0": (2, 0.6),
    }
    assert fleet.exemplars() == living


def test_exemplars_of_workers_with_other_buckets_stand_where_their_value_is(fleet: Fleet) -> None:
    wider = msgspec.structs.replace(SECONDS, bounds=(0.1, 0.5, 1.0))
    old, new = fleet.start("api-0.1").histogram(SECONDS), fleet.start("api-0.2").histogram(wider)
    for waits in (old, new):
        waits.observe(0.3)
        waits.observe(0.7)

    old.exemplify(0.7, 1, 1, AT)
    new.exemplify(0.3, 2, 2, AT + 1)

    assert {le: value for le, (_, value, _) in fleet.exemplars().items()} == {"0.5": 0.3, "1.0": 0.7}


def test_when_the_room_runs_out_counting_goes_on_and_exemplars_stay(fd: int) -> None:
    slots = Slots.attach(fd)
    metric = Metric("route_seconds", "histogram", "", ("route",), (0.1, 1.0))

    for number in range(EXEMPLARS + 50):
        waits = slots.histogram(metric, str(number))
        waits.observe(0.5)
        waits.exemplify(0.5, TRACE, SPAN, AT)

    snapshot = read_once(fd)
    assert len(snapshot.exemplars) == EXEMPLARS
    assert len(snapshot.readings) == EXEMPLARS + 50
    assert snapshot.problem is None


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_value_that_was_not_counted_gets_no_exemplar(fd: int, bad: float) -> None:
    waits = Slots.attach(fd).histogram(SECONDS)

    waits.exemplify(bad, TRACE, SPAN, AT)

    assert read_once(fd).exemplars == ()


def test_an_exemplar_that_is_half_written_is_left_out(fd: int) -> None:
    slots = Slots.attach(fd)
    waits = slots.histogram(SECONDS)
    waits.exemplify(0.5, TRACE, SPAN, AT)
    waits.exemplify(0.05, TRACE, SPAN, AT)

    slots._exemplars._records[1] ^= 1  # the next trace id, its other words not yet

    assert [one.value for one in read_once(fd).exemplars] == [0.05]


@given(st.integers(0, EXEMPLAR_WORDS - 1), st.integers(0, 2**64 - 1))
def test_no_torn_word_is_ever_shown(word: int, value: int) -> None:
    slots, fd = Slots.create()
    slots.counter(HITS, "a")
    slots.histogram(SECONDS).exemplify(0.5, TRACE, SPAN, AT)
    before = slots._exemplars._records[word]

    slots._exemplars._records[word] = value
    shown = read_once(fd).exemplars
    os.close(fd)

    assert len(shown) == (1 if value == before else 0)


def test_a_reader_never_sees_an_exemplar_that_nobody_wrote(fd: int) -> None:
    """The writer's halves of a trace id, span id and time are always equal; a mix of two writes would not be."""
    code = """
waits = slots.histogram(SECONDS)
print(flush=True)
number = 0
while True:
    number += 1
    waits._exemplars._written.clear()
    waits.exemplify(0.5, number << 64 | number, number, number)
"""
    reader = SlotReader(fd)
    seen: set[float] = set()
    with writer(fd, code) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while len(seen) < 500 and process.poll() is None:
            for one in reader.read().exemplars:
                assert one.trace_id == one.span_id * 2
                assert int(one.span_id, 16) == one.at_s
                seen.add(one.at_s)
    reader.close()
    assert len(seen) >= 500


@pytest.fixture
def admin(fleet: Fleet) -> Iterator[Admin]:
    admin = start_admin(fleet.registry, 0)
    yield admin
    admin.close()


def page(admin: Admin, accept: str) -> str:
    connection = http.client.HTTPConnection(admin.host, admin.port, timeout=10)
    connection.request("GET", "/metrics", headers={"accept": accept})
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def test_exemplars_are_in_openmetrics_and_only_there(fleet: Fleet, admin: Admin) -> None:
    waits = fleet.start("api-0.1").histogram(SECONDS)
    waits.observe(0.5)
    waits.exemplify(0.5, TRACE, SPAN, AT)

    openmetrics = page(admin, "application/openmetrics-text;version=1.0.0")
    plain = page(admin, "text/plain")

    families: list[Family] = [*parser.text_string_to_metric_families(openmetrics)]  # type: ignore[no-untyped-call]  # prometheus_client
    found = [one.exemplar for family in families for one in family.samples if one.exemplar is not None]
    assert [(one.labels, one.value, float(one.timestamp or 0)) for one in found] == [
        ({"trace_id": f"{TRACE:032x}", "span_id": f"{SPAN:016x}"}, 0.5, AT)
    ]
    assert "trace_id" not in plain


class Scraped(Collector):
    """Opens a gate at the third scrape: by then the first two have been stored."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self._scrapes = 0

    def describe(self) -> Iterable[Family]:
        return ()

    def collect(self) -> Iterable[Family]:
        self._scrapes += 1
        if self._scrapes == 3:
            self.gate.set()
        return ()


def ask(port: int, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    found = json.load(connection.getresponse())["data"]
    connection.close()
    return found


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed (Debian: prometheus)")
def test_a_real_prometheus_answers_with_the_exemplars_of_two_workers(fleet: Fleet, tmp_path: Path) -> None:
    scraped = Scraped()
    fleet.registry.register(scraped)
    now = time.time()
    for number, value in ((1, 0.05), (2, 0.5)):
        waits = fleet.start(f"api-{number}.1").histogram(SECONDS)
        waits.observe(value)
        waits.exemplify(value, number, number, now)
    admin = start_admin(fleet.registry, 0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    target = json.dumps({"targets": [f"127.0.0.1:{admin.port}"]})
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: churn, static_configs: [{target}]}}]\n"
    )
    argv = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data", "--log.format=json"]
    argv += [f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
    query = urllib.parse.urlencode({"query": "wait_seconds_bucket", "start": now - 60, "end": now + 60})
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as prometheus:
        try:
            assert scraped.gate.wait(30.0), (tmp_path / "log").read_text()
            found = ask(port, f"/api/v1/query_exemplars?{query}")
        finally:
            prometheus.terminate()
            admin.close()

    exemplars = {
        one["seriesLabels"]["le"]: (exemplar["labels"]["trace_id"], exemplar["value"])
        for one in found
        for exemplar in one["exemplars"]
    }
    log_lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert exemplars == {"0.1": (f"{1:032x}", "0.05"), "1.0": (f"{2:032x}", "0.5")}
    assert [one for one in log_lines if "xemplar" in one.get("msg", "") and one["level"] != "info"] == []
