"""The dispatcher process: `python -m slipway_serve.dispatch OPTIONS`, started by the supervisor, never by hand.

It imports no model, no service and no web framework: it is up again in a fraction of a second when it dies, and nothing
a model does can end it.
"""

import gc
import os
import socket
import sys
from collections.abc import Sequence

import msgspec

from slipway_runtime.control import WorkerControl, slot_fd_from_environment
from slipway_runtime.dispatcher import DispatcherServer
from slipway_serve.options import GC_ALLOCATIONS, DispatcherOptions
from slipway_signals import PoolMetrics, Slots
from slipway_signals.logs import configure_logging


def main(arguments: Sequence[str]) -> int:
    """Entry of the process; returns its exit status."""
    options = msgspec.json.decode(arguments[0], type=DispatcherOptions)
    log = configure_logging("dispatcher", options.logging)
    slot_fd = slot_fd_from_environment(os.environ)
    slots = None if slot_fd is None else Slots.attach(slot_fd)
    if slots is not None:
        log.count_drops(slots, "dispatcher")
    server = DispatcherServer(
        socket.socket(fileno=options.listen_fd),
        observer=None if slots is None else PoolMetrics(slots),
        control=WorkerControl.from_environment(os.environ),
    )
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)
    try:
        return server.run()
    finally:
        log.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
