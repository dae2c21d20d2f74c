"""One sending process: prepares the inputs, sends its share, and hands over each window as soon as it is over.

It decides nothing; the conductor says which plan, when to begin and when to stop. The invariant: a process sends at
most one run at a time, and every window of it is handed over once. In a run with one process it talks to the conductor
by the same messages, inside the process.
"""

import gc
import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import gevent  # type: ignore[import-untyped]  # it ships no types
from gevent.event import Event  # type: ignore[import-untyped]  # the same

from slipway_bundle.errors import FileError, SlipwayError
from slipway_loadtests.arms import Asks, HttpArm
from slipway_loadtests.arrivals import due_times, recorded_times
from slipway_loadtests.fetching import fetch_document
from slipway_loadtests.ledger import Ledger
from slipway_loadtests.open_loop import Heard, OpenLoop
from slipway_loadtests.payloads import Payload, load_payloads
from slipway_signals.gate.load_plan import LoadPlan, Replay, Target, decode_plan
from slipway_signals.gate.records import Arm, encode_window

__all__ = ["BEGIN", "CLOCK", "FAILED", "PART", "PREPARE", "READY", "STOP", "Worker"]

PREPARE: Final = "slipway_prepare"
CLOCK: Final = "slipway_clock"
READY: Final = "slipway_ready"
FAILED: Final = "slipway_failed"
BEGIN: Final = "slipway_begin"
PART: Final = "slipway_part"
STOP: Final = "slipway_stop"

Send = Callable[[str, Mapping[str, Any]], None]


class Worker:
    """What one process does with the conductor's messages.

    Args:
        send: hands a message to the conductor.
        heard: told of each settled request.
        environment: where the keys of the arms are, by the names that the plan has.
    """

    def __init__(self, send: Send, heard: Callable[[Heard], None], environment: Mapping[str, str]) -> None:
        self._send = send
        self._heard = heard
        self._environment = environment
        self._running: gevent.Greenlet | None = None
        self._loop: OpenLoop | None = None
        self._is_over = Event()

    def prepare(self, data: Mapping[str, Any]) -> None:
        """`PREPARE`: make ready what the plan needs, or say why that cannot be done."""
        self._send(CLOCK, {"sent": data["sent"], "theirs": time.time()})
        try:
            plan = decode_plan(data["plan"])
            self._prepared = _Prepared(plan, int(data["place"]), int(data["of"]), self._environment)
        except SlipwayError as error:
            self._send(FAILED, error.as_dict())
            return
        gc.collect()
        gc.freeze()  # the inputs stay; looking at them again and again would be slip
        self._send(READY, {"place": data["place"]})

    def begin(self, data: Mapping[str, Any]) -> None:
        """`BEGIN`: at this time of the wall clock, which all machines have."""
        begin = time.monotonic() + float(data["begin"]) - time.time()
        self._is_over.clear()
        self._running = gevent.spawn(self._run, self._prepared, begin)

    def stop(self) -> None:
        """`STOP`: hand over what was counted so far as the last window, and send nothing more."""
        if self._loop is not None:
            self._loop.stop()
        self._is_over.set()

    def wait(self, timeout_s: float) -> None:
        """Until the last window was handed over."""
        if self._running is not None:
            self._running.join(timeout_s)

    def _run(self, prepared: "_Prepared", begin: float) -> None:
        plan = prepared.plan
        ledger = Ledger(plan)
        loop = self._loop = OpenLoop(plan, prepared.payloads, prepared.arms, ledger, self._heard)
        sending = gevent.spawn(loop.run, prepared.times(), begin, prepared.place, prepared.of)
        sending.link(lambda _: self._is_over.set())
        gevent.sleep(max(0.0, begin - time.monotonic()))
        index, wall, cpu = 0, time.monotonic(), time.process_time()
        while not self._is_over.is_set():
            end_s = (index + 1) * plan.window_s
            if end_s > plan.seconds - 1e-9:
                self._is_over.wait()  # the last window stays open until everything is settled
                break
            if self._is_over.wait(max(0.0, begin + end_s - time.monotonic())):
                break
            now, used = time.monotonic(), time.process_time()
            window = ledger.take(index, end_s, (used - cpu) / max(1e-9, now - wall), _sockets())
            self._send(PART, {"window": encode_window(window), "index": index, "last": False})
            index, wall, cpu = index + 1, now, used
        now, used = time.monotonic(), time.process_time()
        end_s = max(now - begin, index * plan.window_s)
        window = ledger.take(index, end_s, (used - cpu) / max(1e-9, now - wall), _sockets())
        self._send(PART, {"window": encode_window(window), "index": index, "last": True})
        sending.kill(block=False)
        for arm in prepared.arms.values():
            arm.close()


class _Prepared:
    """What a run needs, before it begins."""

    def __init__(self, plan: LoadPlan, place: int, of: int, environment: Mapping[str, str]) -> None:
        self.plan = plan
        self.place = place
        self.of = of
        keys = {arm: environment.get(target.key_env) if target.key_env else None for arm, target in plan.arms.items()}
        first: Arm = next(iter(plan.arms))
        base = plan.arms[first].url
        self.payloads = load_payloads(plan, lambda: fetch_document(base, keys[first]))
        if plan.protocol != "http":
            self.payloads = _as_tensors(plan, self.payloads, keys[first])
        most = max(1, plan.max_in_flight // of)
        self.arms: dict[Arm, Asks] = {arm: _arm(plan, target, most, keys[arm]) for arm, target in plan.arms.items()}

    def times(self) -> Any:
        """When inputs are due: those of all workers."""
        if not isinstance(self.plan.shape, Replay):
            return due_times(self.plan)
        path = Path(self.plan.shape.path)
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{str(path)!r} cannot be read: {error}", path=str(path)) from error
        return recorded_times(lines, self.plan, repr(str(path)))


def _arm(plan: LoadPlan, target: Target, connections: int, key: str | None) -> Asks:
    if plan.protocol != "grpc":
        return HttpArm(target, connections, plan.timeout_s, key)
    from slipway_loadtests.open_inference import GrpcArm

    return GrpcArm(target, key)


def _as_tensors(plan: LoadPlan, payloads: list[Payload], key: str | None) -> list[Payload]:
    """Rows as requests of the Open Inference Protocol; a scenario's path says which model they are for."""
    from slipway_loadtests.open_inference import as_tensors, describe

    models = {scenario.path: scenario.model or "" for scenario in plan.scenarios}
    tensors = {path: describe(plan, model, key) for path, model in models.items()}
    return [as_tensors(one, models[one.path], tensors[one.path], plan.protocol) for one in payloads]


def _sockets() -> tuple[int, int]:
    """Open files of this process, and how many it may open; 0 where nothing limits them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 0 if soft == resource.RLIM_INFINITY else soft
    try:
        return len(os.listdir("/proc/self/fd")), limit  # noqa: PTH208  # no Path objects in each window
    except OSError:
        return 0, limit
