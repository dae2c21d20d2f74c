"""Locks between processes: a `flock` with a bounded wait.

It protects nothing by itself: `store.py` says which lock means what. The invariant: a lock lasts exactly as long as
the `with` block or the process, whichever ends first (the kernel frees it after `kill -9`, so none can be stale).
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway_bundle.store_errors import StoreBusyError

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.05


@contextmanager
def locked(path: Path, *, shared: bool, timeout_s: float) -> Iterator[None]:
    """Hold the lock at `path`; blocks up to `timeout_s`.

    Two locks of one process exclude each other like those of two processes.

    Raises:
        StoreBusyError: Others held it all the time.
        OSError: The file cannot be made or opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, path, shared=shared, timeout_s=timeout_s)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file at once or not at all."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _acquire(descriptor: int, path: Path, *, shared: bool, timeout_s: float) -> None:
    # flock has no timed form, and an alarm signal belongs to the main thread of the program that calls us;
    # asking again with growing pauses is what is left.
    give_up = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while not try_lock(descriptor, shared=shared):
        left_s = give_up - time.monotonic()
        if left_s <= 0:
            kind = "shared" if shared else "exclusive"
            raise StoreBusyError(
                f"the store is busy: waited {timeout_s:g} s for the {kind} lock {str(path)!r}",
                hint="another slipway process is building or collecting garbage there; wait for it or stop it",
                path=str(path),
            )
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
