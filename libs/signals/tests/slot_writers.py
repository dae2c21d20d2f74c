"""Processes that write slots, and slot files that went wrong, for the tests of signals."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from slipway_signals.slotfile import Metric
from slipway_signals.snapshots import SlotReader, Snapshot

HITS = Metric("hits_total", "counter", "Hits.", ("where",))
DEPTH = Metric("depth", "gauge", "Depth.")
SECONDS = Metric("wait_seconds", "histogram", "Wait.", (), (0.1, 1.0))

WRITER = """
import sys
from slipway_signals.slots import Slots
from slot_writers import DEPTH, HITS, SECONDS
slots = Slots.attach(int(sys.argv[1]))
"""


@contextmanager
def writer(fd: int, code: str, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs `code` with `slots` attached to the slot file `fd`; killed at the end."""
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])  # noqa: PTH120
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER + code, str(fd), *args],
        pass_fds=[fd],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_once(fd: int) -> Snapshot:
    reader = SlotReader(fd)
    snapshot = reader.read()
    reader.close()
    return snapshot


def values(snapshot: Snapshot) -> dict[tuple[str, ...], list[float]]:
    return {(one.metric.name, *one.values): list(one.cells) for one in snapshot.readings}
