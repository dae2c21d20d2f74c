"""What the metrics say while processes die: merged counters never fall, and lose nothing. Part of `make soak`."""

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest
from chaos_load import Load, eventually, pause
from pool_folders import write_obedient
from prometheus_client.parser import text_string_to_metric_families
from serve_process import Served, serving

pytestmark = pytest.mark.soak

POOL = "[runtime.models.obedient]\nmax_rows = 32\npool = { replicas = 2 }\n"
KILLS = 100
SERVES_S = 0.5
"""Between two deaths; the victim is the older one, so it lives for two of these and a start."""
RISING = ("_total", "_count", "_sum", "_bucket")
Sample = tuple[str, tuple[tuple[str, str], ...]]


def samples(served: Served, types: set[str]) -> dict[Sample, float]:
    """Every sample of metrics of these types."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(served.metrics())
        for sample in family.samples
        if family.type in types
    }


def counters(served: Served) -> dict[Sample, float]:
    """What may only rise."""
    found = samples(served, {"counter", "histogram"})
    return {key: value for key, value in found.items() if key[0].endswith(RISING)}


def is_ready(served: Served) -> bool:
    """Whether every process is."""
    return all(
        value == 0 or "ready" in dict(labels).values()
        for (name, labels), value in samples(served, {"gauge"}).items()
        if name == "slipway_workers"
    )


class Scraper:
    """Scrapes again and again, and remembers what fell or vanished."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.fallen: list[tuple[Sample, float, float]] = []
        self.scrapes = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        before: dict[Sample, float] = {}
        while not self._is_over.is_set():
            now = counters(self._served)
            self.fallen += [(key, old, now.get(key, -1.0)) for key, old in before.items() if now.get(key, -1.0) < old]
            before = now
            self.scrapes += 1

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()


@pytest.mark.parametrize("module", ["runner", "worker"])
def test_a_hundred_deaths_lose_no_count(tmp_path: Path, module: str) -> None:
    with serving(write_obedient(tmp_path / "o", POOL), store=tmp_path / "store", flags={"workers": 2}) as served:

        def alive() -> list[psutil.Process]:
            children = psutil.Process(served.process.pid).children()
            return [p for p in children if p.is_running() and f"slipway_serve.{module}" in " ".join(_command(p))]

        load, scraper = Load(served.url), Scraper(served)
        eventually(lambda: len(alive()) == 2)
        for _ in range(KILLS):
            pause(SERVES_S)
            victim = min(alive(), key=psutil.Process.create_time)  # it has served for longer than its start took
            os.kill(victim.pid, signal.SIGKILL)
            eventually(lambda: len(alive()) == 2 and victim not in alive() and is_ready(served))  # noqa: B023
        eventually(lambda: len(alive()) == 2)
        report = load.stop()
        scraper.stop()
        last = counters(served)

    counted = sum(
        value
        for (name, labels), value in last.items()
        if name == "http_server_request_duration_seconds_count"
        and {("http_route", "/predict"), ("http_response_status_code", "200")} <= set(labels)
    )
    print(
        f"chaos metrics over {KILLS} deaths of a {module:<8} sent {report.sent} answered {report.answered} "
        f"counted {counted:.0f} failed {report.failed}, {scraper.scrapes} scrapes, fell {len(scraper.fallen)}"
    )
    assert scraper.scrapes > KILLS
    assert scraper.fallen == []
    # what a dying API worker had counted, its client may not have read yet; the other way round nothing is missing
    assert report.answered <= counted <= report.answered + report.failed


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
