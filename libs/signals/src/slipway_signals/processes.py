"""What the operating system and the drivers know of a service: memory and time of its processes, use of its devices.

It is read when somebody scrapes, in the supervisor, so it costs the workers nothing. It starts and ends no process and
knows no driver: both are told as arguments. The invariant: a process or device that cannot be read is left out, and
never keeps the rest of the page from being shown.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from slipway_signals import metrics

__all__ = ["DeviceCollector", "DeviceReading", "ProcessCollector"]

KIBIBYTE: Final = 1024
KINDS: Final = {"Rss": "resident", "Pss": "proportional"}


class DeviceReading(Protocol):
    """A GPU or slice at one moment."""

    @property
    def name(self) -> str:
        """As configuration names it: `gpu:0`."""

    @property
    def used_bytes(self) -> int:
        """Memory in use, by whomever."""

    @property
    def total_bytes(self) -> int:
        """All of its memory."""

    @property
    def utilisation(self) -> float | None:
        """Share of time in which it computed, 0 to 1; None: it cannot say (a slice)."""


class ProcessCollector(Collector):
    """Memory and processor time of worker processes, and how long they waited for a processor.

    Args:
        pids: worker name → process number, asked at each scrape.
        root: where `proc` is.
    """

    def __init__(self, pids: Callable[[], Mapping[str, int]], *, root: Path = Path("/")) -> None:
        self._pids = pids
        self._root = root
        self._used: dict[str, _Total] = {}
        self._waited: dict[str, _Total] = {}

    def collect(self) -> Iterator[Family]:
        """One gauge per worker and kind, two counters per worker; none where the system does not tell (macOS)."""
        family = GaugeMetricFamily(
            metrics.PROCESS_MEMORY.name, metrics.PROCESS_MEMORY.help, labels=metrics.PROCESS_MEMORY.labels
        )
        for worker, pid in sorted(self._pids().items()):
            folder = self._root / "proc" / str(pid)
            for kind, value in _memory(folder / "smaps_rollup"):
                family.add_metric((worker, kind), value)
            _add(self._used, worker, pid, _cpu_s(folder / "stat"))
            _add(self._waited, worker, pid, _waited_s(folder / "schedstat"))
        yield family
        for metric, totals in ((metrics.PROCESS_CPU, self._used), (metrics.PROCESS_CPU_WAIT, self._waited)):
            counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
            for worker, now in sorted(totals.items()):
                counter.add_metric((worker,), now.before_s + now.seen_s)
            yield counter

    def describe(self) -> Iterable[Family]:
        """Nothing: which workers there are is known at each scrape only."""
        return ()


class DeviceCollector(Collector):
    """Use of the devices.

    Args:
        read: all devices now, asked at each scrape.
    """

    def __init__(self, read: Callable[[], Iterable[DeviceReading]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Family]:
        """Utilisation and memory of each device."""
        busy = GaugeMetricFamily(
            metrics.DEVICE_UTILISATION.name, metrics.DEVICE_UTILISATION.help, labels=metrics.DEVICE_UTILISATION.labels
        )
        memory = GaugeMetricFamily(
            metrics.DEVICE_MEMORY.name, metrics.DEVICE_MEMORY.help, labels=metrics.DEVICE_MEMORY.labels
        )
        for device in self._read():
            if device.utilisation is not None:
                busy.add_metric((device.name,), device.utilisation)
            memory.add_metric((device.name, "used"), device.used_bytes)
            memory.add_metric((device.name, "total"), device.total_bytes)
        yield from (busy, memory)

    def describe(self) -> Iterable[Family]:
        """Nothing: which devices there are is known at each scrape only."""
        return ()


class _Total(NamedTuple):
    """A time of one worker, which only grows."""

    pid: int
    seen_s: float
    """Of this process, as it was last seen."""

    before_s: float
    """Of all processes before it, as they were last seen."""


def _add(totals: dict[str, _Total], worker: str, pid: int, now_s: float | None) -> None:
    """Take what is known now; a counter never falls, also where a process number comes again."""
    if now_s is None:
        return
    known = totals.get(worker, _Total(pid, 0.0, 0.0))
    if pid == known.pid and now_s >= known.seen_s:
        totals[worker] = known._replace(seen_s=now_s)
    else:
        totals[worker] = _Total(pid, now_s, known.before_s + known.seen_s)


def _cpu_s(stat: Path) -> float | None:
    """User and system time out of `stat` (proc(5), fields 14 and 15); None for a process that is gone."""
    try:
        fields = stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None


def _waited_s(schedstat: Path) -> float | None:
    """Time on a run queue out of `schedstat` (proc_pid_schedstat(5)), of the main thread; None without one."""
    try:
        return int(schedstat.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None


def _memory(rollup: Path) -> Iterator[tuple[str, float]]:
    """Kind and bytes out of `smaps_rollup`; nothing for a process that is gone, or not ours to look at."""
    try:
        lines = rollup.read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        name, _, rest = line.partition(":")
        if name in KINDS:
            yield KINDS[name], float(rest.split()[0]) * KIBIBYTE
