"""Leads the workers through one run or several: prepare, begin, gather windows, look after the caps, end.

It sends no load. The invariants: a window is handed on when all workers that still run have handed over their part, in
order and once; a run that lost a worker, or that hurts stable, ends and says why. What is asked next is decided by a
campaign: a generator that is sent the windows of one plan and gives the next.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final

import gevent  # type: ignore[import-untyped]  # it ships no types
import msgspec
from gevent.queue import Empty, Queue  # type: ignore[import-untyped]  # the same

from slipway_bundle.errors import HostError, IntegrityError, SlipwayError
from slipway_loadtests.caps import Guard
from slipway_loadtests.fetching import UnreachableError, fetch
from slipway_loadtests.ledger import merge_windows
from slipway_loadtests.worker import BEGIN, CLOCK, FAILED, PART, PREPARE, READY, STOP
from slipway_signals import metrics
from slipway_signals.gate.load_plan import LoadPlan, encode_plan
from slipway_signals.gate.records import ARMS, Arm, Scrape, Window, decode_window
from slipway_signals.gate.scraping import ArmScrapes, scrape_of

__all__ = ["Campaign", "Conductor", "HurtError", "LostError", "single"]

Campaign = Generator[LoadPlan, Sequence[Window], None]
PREPARE_S: Final = 60.0
"""In which workers must have made their inputs."""
LOST_S: Final = 5.0
"""After a window's end, when a worker that has not handed it over is lost."""
HEAD_START_S: Final = 0.1
"""From "begin" to the beginning, for the message to reach every worker."""
SCRAPE_S: Final = 1.0
SERIES: Final = (
    *(f"{name}".encode() for name in (metrics.REQUEST_DURATION.name + "_count", metrics.SYNTHETIC.name)),
    *(metric.name.encode() for metric in (metrics.ACTIVE_REQUESTS, metrics.QUEUE_DEPTH)),
    *(metric.name.encode() for metric in (metrics.PROCESS_CPU, metrics.PROCESS_CPU_WAIT)),
    *(metric.name.encode() for metric in (metrics.DEVICE_UTILISATION, metrics.COST)),
)
"""What is read of an admin page."""


class LostError(HostError):
    """A worker of a load run does not answer any more."""

    code = "load_worker_lost"


class HurtError(IntegrityError):
    """A load run was ended because stable failed too often under it."""

    code = "load_hurt_stable"


class _Refused(HostError):
    """A worker could not prepare; carries the worker's own error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error["message"]), hint=error.get("hint"))
        self.code = error["code"]  # type: ignore[misc]  # of the error that another process raised
        self.exit_status = error["exit_status"]  # type: ignore[misc]  # the same


def single(plan: LoadPlan) -> Campaign:
    """A campaign of one run."""
    yield plan


class Conductor:
    """Leads one campaign.

    Args:
        tell: sends a message to one worker: type, data, the worker's name.
        workers: names of the workers that are connected, asked when a run begins.
        written: handed each window that is complete.
        is_alone: whether the only worker is this process: its clock is ours.
    """

    def __init__(
        self,
        tell: Callable[[str, Mapping[str, Any], str], None],
        workers: Callable[[], list[str]],
        written: Callable[[Window], None],
        *,
        is_alone: bool,
    ) -> None:
        self._tell = tell
        self._workers = workers
        self._written = written
        self._is_alone = is_alone
        self._heard: Queue = Queue()
        self._offsets: dict[str, float] = {}
        self._is_stopped = False
        self._names: list[str] = []
        self._scrapes: dict[Arm, ArmScrapes] = {}

    def hear(self, kind: str, sender: str, data: Mapping[str, Any]) -> None:
        """A worker's message; the clock's is answered here, where nothing waits in line before it."""
        if kind == CLOCK:
            self._offsets[sender] = data["theirs"] - (data["sent"] + time.time()) / 2.0
        else:
            self._heard.put((kind, sender, data))

    def stop(self) -> None:
        """End the run with what was counted so far. Idempotent."""
        if not self._is_stopped:
            self._is_stopped = True
            for name in self._names:
                self._tell(STOP, {}, name)

    def conduct(self, campaign: Campaign) -> None:
        """Run all plans of a campaign; returns when it is over or was stopped.

        Raises:
            SlipwayError: a worker could not prepare, was lost, or stable was hurt.
        """
        windows: Sequence[Window] | None = None
        while not self._is_stopped:
            try:
                plan = next(campaign) if windows is None else campaign.send(windows)
            except StopIteration:
                return
            windows = self._run(plan)

    def _run(self, plan: LoadPlan) -> list[Window]:
        self._names = self._workers()
        for place, name in enumerate(self._names):
            data = {"plan": encode_plan(plan), "place": place, "of": len(self._names), "sent": time.time()}
            self._tell(PREPARE, data, name)
        self._await_ready()
        self._scrapes = {arm: ArmScrapes() for arm in ARMS}
        begin = {"begin": time.time() + HEAD_START_S}
        for name in self._names:
            self._tell(BEGIN, begin, name)
        return self._gather(plan)

    def _await_ready(self) -> None:
        waiting = set(self._names)
        while waiting and not self._is_stopped:
            kind, sender, data = self._next(PREPARE_S, "did not prepare its inputs")
            if kind == FAILED:
                raise _Refused(data)
            if kind == READY:
                waiting.discard(sender)

    def _gather(self, plan: LoadPlan) -> list[Window]:
        windows: list[Window] = []
        parts: dict[int, list[Window]] = {}
        guard = Guard(plan)
        running = set(self._names)
        ended: dict[int, int] = {}
        patience_s = plan.window_s + plan.timeout_s + LOST_S
        while running:
            kind, sender, data = self._next(patience_s, "handed over no window")
            if kind == FAILED:
                raise _Refused(data)
            if kind != PART:
                continue
            parts.setdefault(data["index"], []).append(decode_window(data["window"]))
            if data["last"]:
                running.discard(sender)
                ended[data["index"]] = ended.get(data["index"], 0) + 1
            while (ready := self._complete(len(windows), parts, ended)) is not None:
                window = self._finished(plan, ready)
                windows.append(window)
                self._written(window)
                reason = guard.hurt(window)
                if reason is not None and not self._is_stopped:
                    self.stop()
                    raise HurtError(reason, hint="lower `rate`, or look at stable first")
        return windows

    def _complete(self, index: int, parts: dict[int, list[Window]], ended: Mapping[int, int]) -> list[Window] | None:
        """The parts of window `index`, once every worker has given its own or had ended before."""
        gone = sum(count for last, count in ended.items() if last < index)
        if index in parts and len(parts[index]) + gone == len(self._names):
            return parts.pop(index)
        return None

    def _finished(self, plan: LoadPlan, parts: list[Window]) -> Window:
        window = merge_windows(parts)
        admins = {arm: target.admin for arm, target in plan.arms.items() if target.admin is not None}
        asked = {arm: gevent.spawn(_scrape, admin, self._scrapes[arm]) for arm, admin in admins.items()}
        gevent.joinall(list(asked.values()))
        scrapes: dict[Arm, Scrape] = {arm: greenlet.value for arm, greenlet in asked.items()}
        offset_s = None if self._is_alone else max(self._offsets.values(), key=abs, default=None)
        generator = msgspec.structs.replace(window.generator, clock_offset_s=offset_s)
        return msgspec.structs.replace(window, generator=generator, scrapes=scrapes)

    def _next(self, timeout_s: float, what: str) -> tuple[str, str, Mapping[str, Any]]:
        try:
            message: tuple[str, str, Mapping[str, Any]] = self._heard.get(timeout=timeout_s)
        except Empty:
            raise LostError(
                f"a load worker {what} in {timeout_s:g} s", hint="was it killed, or is it starved?"
            ) from None
        return message


def _scrape(admin: str, of_arm: ArmScrapes) -> Scrape:
    try:
        page = fetch(f"{admin.rstrip('/')}/metrics", SCRAPE_S)
    except UnreachableError as error:
        return Scrape(ok=False, problem=error.message)
    lines = [line for line in page.text.splitlines(keepends=True) if line.startswith(SERIES)]  # reading all is slip
    found = scrape_of(b"".join(lines).decode(errors="replace"), date=page.date, now=page.now)
    return of_arm.add(found, page.instance)


def error_line(error: SlipwayError) -> bytes:
    """The error as one JSON line, for whoever started this process."""
    return msgspec.json.encode({"error": error.as_dict()}) + b"\n"
