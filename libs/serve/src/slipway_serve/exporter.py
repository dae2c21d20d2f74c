"""The exporter of traces: `python -m slipway_serve.exporter OPTIONS`, started by the supervisor, never by hand.

It sends what API workers wrote into a pipe, and gives way to them: it runs at a lower priority, and requests for which
it has no time are dropped and counted. It ends when it is told to, within `flush_s`, or when nobody is left to write.
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Final

import msgspec

from slipway_bundle import SlipwayError
from slipway_runtime.control import WorkerControl, slot_fd_from_environment
from slipway_serve.options import ExporterOptions
from slipway_signals import Slots
from slipway_signals.logs import configure_logging
from slipway_signals.traces_export import start_export

logger = logging.getLogger(__name__)

NICE: Final = 10
"""On a core that others want as well it gets a tenth of it."""


class _OutOfTime(BaseException):
    """`flush_s` is over. Not an `Exception`: a retry must not catch it."""


def main(arguments: Sequence[str]) -> int:
    """Entry of the process; returns its exit status."""
    options = msgspec.json.decode(arguments[0], type=ExporterOptions)
    log = configure_logging("exporter", options.logging)
    control = WorkerControl.from_environment(os.environ)
    slot_fd = slot_fd_from_environment(os.environ)
    if control is None or slot_fd is None:
        sys.stderr.write("the exporter is started by `slipway serve`, not by hand\n")
        return 2
    os.nice(NICE)
    slots = Slots.attach(slot_fd)
    log.count_drops(slots, "exporter")
    stop_fd = _stop_within(options.tracing.flush_s)
    try:
        run = start_export(options.traces_fd, options.tracing.endpoint, slots, spans_per_s=options.tracing.spans_per_s)
        control.ready()
        run(stop_fd)
    except SlipwayError as error:
        control.failed(error)
        return error.exit_status
    except _OutOfTime:
        logger.warning("traces_not_flushed", extra={"flush_s": options.tracing.flush_s})
    finally:
        log.close()
    return 0


def _stop_within(flush_s: float) -> int:
    """A descriptor that SIGTERM makes readable; `flush_s` seconds after it, `_OutOfTime` is raised wherever we are."""
    awake, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise _OutOfTime

    signal.signal(signal.SIGALRM, give_up)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.setitimer(signal.ITIMER_REAL, max(flush_s, 0.001)))
    return awake


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
