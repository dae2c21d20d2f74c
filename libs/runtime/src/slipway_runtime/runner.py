"""The loop of a runner process: takes batches from the dispatcher, has them computed, answers; one at a time.

It knows no model format (whoever starts it brings `RunnerModel`s) and batches nothing. The invariants: a batch that was
taken is answered on the connection it came from, or by nobody; a runner outlives its dispatcher and joins the next one,
but not its supervisor; a model that asks the process to end (SystemExit, KeyboardInterrupt) does end it, with status
70, because whoever counts on the process must hear of it.

Each connection gets a slab of its own: an API worker may still be reading a result of the dispatcher before.

How it ends: SIGTERM or SIGINT → `Leaving`, the batches it still has, `Dismissed`, 0. The supervisor gone → it works for
as long as the dispatcher does (which ends when its API workers have), at most `grace_s`, then the process is ended.
"""

import contextlib
import logging
import os
import resource
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from slipway_runtime.batch_compute import BatchCompute, RunnerModel
from slipway_runtime.control import WorkerControl
from slipway_runtime.wakeups import Wakeups
from slipway_runtime.wire.connection import FrameSocket, PeerGone, Received, close_descriptors, connect_to
from slipway_runtime.wire.frames import Dismissed, DropSlab, Join, Leaving, Release, ShareSlab, WireError, Work
from slipway_runtime.wire.slab import Slab, SlabView

__all__ = ["RunnerLimits", "RunnerModel", "run_runner"]

logger = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.020
LONGEST_RETRY_S: Final = 0.500
GRACE_S: Final = 90.0
"""How long a runner whose supervisor is gone may take to finish."""
BUG: Final = 70
"""Exit status of an internal error, as everywhere in slipway."""
LOOK_EVERY_S: Final = 1.0
"""Between two looks at the memory; only a batch makes it grow."""


class RunnerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Beyond these a runner asks to be replaced, once, and goes on. 0 = no limit."""

    memory_bytes: int = 0
    """Of its own: what other processes map as well (slabs, weights from files) does not count, on Linux."""
    age_s: float = 0.0


def run_runner(
    path: str,
    join: Join,
    models: Mapping[str, RunnerModel],
    *,
    control: WorkerControl | None = None,
    limits: RunnerLimits | None = None,
    clock: Callable[[], float] = time.monotonic,
    grace_s: float = GRACE_S,
) -> int:
    """Serve batches until dismissed. Main thread only: it listens to signals. Blocks.

    Args:
        path: The dispatcher's Unix socket; need not be there yet.
        join: The first words on every connection.
        models: By name; at least those of `join.pool`.
        control: The line to the supervisor, if there is one; told `ready` after the first `join` was sent.
        limits: When to ask for a successor.
        clock: Monotonic seconds.
        grace_s: What the process may take to finish once its supervisor is gone.

    Returns:
        The exit status: 0, or 70 when a model ended the process.
    """
    with Wakeups((signal.SIGTERM, signal.SIGINT)) as wakeups:
        runner = _Runner(path, join, models, control, limits or RunnerLimits(), clock, wakeups, grace_s)
        try:
            runner.run()
        except BaseException:  # of the model, or our bug: either way the process is not what it was
            logger.exception("runner_ended", extra={"runner": join.name})
            return BUG
    return 0


class _Connection:
    """What a runner has for as long as one dispatcher lives."""

    def __init__(
        self, wire: FrameSocket, slab_bytes: int, models: Mapping[str, RunnerModel], clock: Callable[[], float]
    ) -> None:
        self.wire = wire
        self.slab = Slab(slab_bytes)
        self.views: dict[int, SlabView] = {}
        self.batches = BatchCompute(models, self.slab, clock)
        self.has_said_leaving = False
        self.is_dismissed = False

    def close(self) -> None:
        self.wire.close()
        self.slab.close()


class _Runner:
    def __init__(
        self,
        path: str,
        join: Join,
        models: Mapping[str, RunnerModel],
        control: WorkerControl | None,
        limits: RunnerLimits,
        clock: Callable[[], float],
        wakeups: Wakeups,
        grace_s: float,
    ) -> None:
        self._path = path
        self._join = join
        self._models = models
        self._control = control
        self._limits = limits
        self._clock = clock
        self._wakeups = wakeups
        self._grace_s = grace_s
        self._selector = selectors.DefaultSelector()
        self._selector.register(wakeups.fileno(), selectors.EVENT_READ)
        self._retry_s = FIRST_RETRY_S
        self._born_at = clock()
        self._look_at = self._born_at
        self._has_computed = True  # loading counts
        self._is_ready = False
        self._is_leaving = False
        self._is_parent_gone = threading.Event()
        self._has_asked = control is None

    def run(self) -> None:
        if self._control is not None:
            threading.Thread(target=self._watch_parent, args=(self._control,), name="parent", daemon=True).start()
        while not self._must_stop():
            connection = self._connect()
            if connection is None:
                self._pause()
                continue
            try:
                self._serve(connection)
            except (PeerGone, WireError) as error:
                logger.warning("dispatcher_lost", extra={"runner": self._join.name, "why": str(error)})
            finally:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(connection.wire.fileno())
                connection.close()
            if connection.is_dismissed:
                return
            if not self._must_stop():
                self._pause()

    def _must_stop(self) -> bool:
        """Whether it would be of no use without the dispatcher it has, or had."""
        return self._is_leaving or self._is_parent_gone.is_set()

    def _connect(self) -> _Connection | None:
        try:
            wire = connect_to(self._path)
        except OSError as error:
            logger.info("dispatcher_unreachable", extra={"path": self._path, "why": str(error)})
            return None
        return _Connection(wire, self._join.slab_bytes, self._models, self._clock)

    def _pause(self) -> None:
        """Wait before the next attempt to connect, or until a signal comes."""
        self._wait(self._retry_s)
        self._retry_s = min(2.0 * self._retry_s, LONGEST_RETRY_S)

    def _serve(self, connection: _Connection) -> None:
        wire = connection.wire
        wire.send(self._join, fds=(connection.slab.fileno(),))
        events = _events(is_empty=wire.flush())
        self._selector.register(wire.fileno(), events)
        if not self._is_ready and self._control is not None:
            self._control.ready()
        self._is_ready = True
        while not connection.is_dismissed:
            ready = self._wait(self._look())
            if self._is_leaving and not connection.has_said_leaving:
                connection.has_said_leaving = True
                wire.send(Leaving())
                wire.flush()  # before the next batch, which may be long
            if ready & selectors.EVENT_READ:
                self._take_all(connection)
            wanted = _events(is_empty=wire.flush())
            if wanted != events:
                events = wanted
                self._selector.modify(wire.fileno(), events)

    def _wait(self, timeout_s: float | None) -> int:
        """Wait for the dispatcher, a signal, or `timeout_s` seconds; returns what the connection is ready for."""
        events = 0
        for key, mask in self._selector.select(timeout_s):
            if key.fd != self._wakeups.fileno():
                events |= mask
            elif {signal.SIGTERM, signal.SIGINT}.intersection(self._wakeups.take()):
                self._is_leaving = True
        return events

    def _take_all(self, connection: _Connection) -> None:
        received = connection.wire.receive()
        if received:
            self._retry_s = FIRST_RETRY_S
        taken = 0
        try:
            for one in received:
                taken += 1
                self._take(connection, one)
        finally:
            close_descriptors(received[taken:])

    def _take(self, connection: _Connection, received: Received) -> None:
        frame = received.frame
        if isinstance(frame, Work):
            self._has_computed = True
            connection.wire.send(connection.batches.run(frame, connection.views))
            connection.wire.flush()  # as above
        elif isinstance(frame, Release):
            for _, offset in frame.places:
                connection.slab.free(offset)
        elif isinstance(frame, ShareSlab):
            connection.views[frame.slab] = SlabView(received.fds[0], frame.slab_bytes)
        elif isinstance(frame, DropSlab):
            connection.views.pop(frame.slab, None)
        elif isinstance(frame, Dismissed):
            connection.is_dismissed = True
        else:
            close_descriptors([received])
            raise WireError(f"a dispatcher said what only others say: {type(frame).__name__}")

    def _look(self) -> float | None:
        """Ask for a successor when it is time; returns the seconds until the next look, None for not before a batch."""
        if self._has_asked:
            return None
        now = self._clock()
        reason = self._too_old(now) or self._too_large(now)
        if reason:
            self._has_asked = True
            if self._control is not None:
                self._control.recycle(reason)
            return None
        looks_at = [self._look_at] if self._limits.memory_bytes and self._has_computed else []
        if self._limits.age_s:
            looks_at.append(self._born_at + self._limits.age_s)
        return max(0.0, min(looks_at) - now) if looks_at else None

    def _too_old(self, now: float) -> str:
        age_s, limit_s = now - self._born_at, self._limits.age_s
        return f"it is {age_s:.0f} s old, and may be {limit_s:.0f} s" if 0 < limit_s <= age_s else ""

    def _too_large(self, now: float) -> str:
        limit = self._limits.memory_bytes
        if limit <= 0 or now < self._look_at or not self._has_computed:
            return ""
        self._look_at = now + LOOK_EVERY_S
        self._has_computed = False
        used = _own_memory_bytes()
        return f"it uses {used} bytes of memory, and may use {limit}" if used > limit else ""

    def _watch_parent(self, control: WorkerControl) -> None:
        control.wait_parent_gone()
        self._is_parent_gone.set()
        time.sleep(self._grace_s)  # the process usually ends meanwhile, and this daemon thread with it
        os._exit(BUG)


def _events(*, is_empty: bool) -> int:
    return selectors.EVENT_READ if is_empty else selectors.EVENT_READ | selectors.EVENT_WRITE


def _own_memory_bytes() -> int:
    """Resident memory that no other process shares; where that is not told, the most that was ever resident."""
    try:
        _, resident, shared, *_ = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return (int(resident) - int(shared)) * resource.getpagesize()
