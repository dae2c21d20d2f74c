"""The compactor of captured requests: `python -m slipway_serve.compactor OPTIONS`, started by the supervisor.

It turns what API workers wrote into Parquet, and keeps to the retention and the byte cap: work for a process of its
own, because it imports pyarrow and takes a core for seconds. It is never in the way of a request: while it is away,
segments wait.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from slipway_bundle import SlipwayError
from slipway_runtime.control import WorkerControl, slot_fd_from_environment
from slipway_serve.options import CompactorOptions
from slipway_signals import Slots, metrics_capture
from slipway_signals.capture.compact import CLOCK_DOUBTED, compact
from slipway_signals.capture.parts import require_pyarrow
from slipway_signals.logs import configure_logging
from slipway_signals.slots import Counter

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Entry of the process; returns its exit status."""
    options = msgspec.json.decode(arguments[0], type=CompactorOptions)
    log = configure_logging("compactor", options.logging)
    control = WorkerControl.from_environment(os.environ)
    slot_fd = slot_fd_from_environment(os.environ)
    slots = Slots.create()[0] if slot_fd is None else Slots.attach(slot_fd)  # by hand: nobody reads them
    log.count_drops(slots, "compactor")
    doubted = slots.counter(metrics_capture.CLOCK_DOUBTED)
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: is_over.set())
    try:
        require_pyarrow()
    except SlipwayError as error:
        if control is not None:
            control.failed(error)
        return error.exit_status
    if control is not None:
        control.ready()
        threading.Thread(target=_follow, args=(control, is_over), daemon=True).start()
    while not is_over.wait(options.capture.compact_s):
        _once(options, doubted)
    _once(options, doubted)  # what the API workers left when they drained
    return 0


def _once(options: CompactorOptions, doubted: Counter) -> None:
    root = Path(options.capture.folder or "")
    if not root.exists():
        return  # no API worker has opened it yet
    try:
        report = compact(root, options.capture, time.time())
    except SlipwayError as error:  # a full disk, another process at work: nothing is lost, the next turn does it
        logger.warning("captured requests were not packed: %s", error)
    else:
        if report.held:
            doubted.inc()
            logger.error("%d captured parts would be too old, and are kept: %s", report.held, CLOCK_DOUBTED)
        logger.info(
            "captured requests were packed: %d rows, %d expired, %d evicted",
            report.rows,
            report.expired,
            report.evicted,
        )


def _follow(control: WorkerControl, is_over: threading.Event) -> None:
    control.wait_parent_gone()
    is_over.set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
