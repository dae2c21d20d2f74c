"""Sends each request when it is due, answered or not: one worker's share of a run.

It makes no schedule (arrivals.py) and merges nothing (conductor.py). The invariants: the schedule never waits for an
answer; a latency counts from the moment the request was due, so neither a stalled server nor a late generator can hide
time (coordinated omission, Tene 2013); at most `max_in_flight` inputs are under way, what is due beyond them is dropped
and counted, never sent late in a heap. With two arms each input goes to both, in random order, the second half the mean
distance of two inputs after the first: interleaved, and neither waits for the other.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

import gevent  # type: ignore[import-untyped]  # it ships no types
from gevent.event import Event  # type: ignore[import-untyped]  # the same

from slipway_loadtests.alarm_clock import AlarmClock
from slipway_loadtests.arms import Asks, Reply
from slipway_loadtests.arrivals import first_of_pair
from slipway_loadtests.ledger import Ledger, warm_until
from slipway_loadtests.payloads import Payload
from slipway_signals.gate.answers import Leaves, differing, is_whole, read_answer
from slipway_signals.gate.load_plan import LoadPlan
from slipway_signals.gate.records import Arm
from slipway_signals.gate.tally import UNREAD

__all__ = ["Heard", "OpenLoop"]

LONGEST_GAP_S: Final = 0.005
"""Between the two requests of a pair, at most."""


class Heard(NamedTuple):
    """One request that is settled, for who follows them one by one (locust's own statistics)."""

    arm: Arm
    payload: Payload
    latency_s: float
    reply: Reply


class _Input:
    """One input on its way to its arms."""

    __slots__ = ("due_s", "index", "leaves", "left", "payload")

    def __init__(self, index: int, due_s: float, payload: Payload, arms: int) -> None:
        self.index = index
        self.due_s = due_s
        self.payload = payload
        self.left = arms
        self.leaves: dict[Arm, Leaves] = {}


class OpenLoop:
    """One worker's requests.

    Args:
        plan: of the run.
        payloads: all inputs, the same in every worker.
        arms: whom to ask.
        ledger: counts what happens.
        heard: told of each settled request.
    """

    def __init__(
        self,
        plan: LoadPlan,
        payloads: Sequence[Payload],
        arms: Mapping[Arm, Asks],
        ledger: Ledger,
        heard: Callable[[Heard], None],
    ) -> None:
        self._plan = plan
        self._payloads = payloads
        self._arms = arms
        self._ledger = ledger
        self._heard = heard
        self._names: tuple[Arm, ...] = tuple(arms)
        self._warm_until = warm_until(plan)
        self._begin = 0.0
        self._under_way = 0
        self._is_quiet = Event()
        self._is_stopped = False

    def run(self, times: Iterable[float], begin: float, place: int, of: int) -> None:
        """Send this worker's share; returns when all of it is settled, or `stop` was called.

        Args:
            times: of the whole run, seconds from `begin`, ascending.
            begin: of the run, on `time.monotonic`.
            place: of this worker, from 0; it takes the inputs `place`, `place + of`, …
            of: how many workers there are.
        """
        self._begin = begin
        most = max(1, self._plan.max_in_flight // of)
        gap_s = min(LONGEST_GAP_S, 0.5 / self._plan.rate) if len(self._names) > 1 else 0.0
        later: deque[tuple[float, _Input, Arm]] = deque()
        clock = AlarmClock()
        try:
            for index, due_s in islice(enumerate(times), place, None, of):
                self._send_until(due_s, later, clock)
                clock.sleep_until(begin + due_s)
                if self._is_stopped:
                    return
                self._ledger.offered += 1
                if self._under_way >= most:
                    self._ledger.dropped += 1
                    continue
                self._under_way += 1
                item = _Input(index, due_s, self._payloads[index % len(self._payloads)], len(self._names))
                first, *rest = self._order(index)
                gevent.spawn(self._ask, item, first, due_s, is_first=True)
                later.extend((due_s + gap_s, item, arm) for arm in rest)
            self._send_until(float("inf"), later, clock)
            self._wait()
        finally:
            clock.close()

    def stop(self) -> None:
        """Send nothing more; `run` returns when the next request would be due. What is under way stays unsettled."""
        self._is_stopped = True
        self._is_quiet.set()

    def _send_until(self, due_s: float, later: "deque[tuple[float, _Input, Arm]]", clock: AlarmClock) -> None:
        """Send the second requests of pairs that are due before."""
        while later and later[0][0] <= due_s and not self._is_stopped:
            at, item, arm = later.popleft()
            clock.sleep_until(self._begin + at)
            gevent.spawn(self._ask, item, arm, at, is_first=False)

    def _order(self, index: int) -> tuple[Arm, ...]:
        return self._names if first_of_pair(self._plan.seed, index) else self._names[::-1]

    def _wait(self) -> None:
        while self._under_way and not self._is_stopped:
            self._is_quiet.clear()
            self._is_quiet.wait()

    def _ask(self, item: _Input, arm: Arm, due_s: float, *, is_first: bool) -> None:
        """One request, in a greenlet of its own."""
        due = self._begin + due_s
        sent = time.monotonic()
        self._ledger.slips_us.append(max(0, round((sent - due) * 1e6)))
        tally = self._ledger.arms[arm]
        tally.sent(is_first=is_first and len(self._names) > 1)
        reply = self._arms[arm].ask(item.payload, due + self._plan.timeout_s - sent)
        settled = time.monotonic()
        if not (item.due_s < self._warm_until <= settled - self._begin):
            self._settle(item, arm, reply, settled - due)
        item.left -= 1
        if not item.left:
            self._under_way -= 1
            if not self._under_way:
                self._is_quiet.set()
        self._heard(Heard(arm, item.payload, settled - due, reply))

    def _settle(self, item: _Input, arm: Arm, reply: Reply, latency_s: float) -> None:
        """Count an answer, and the pair when it is the second."""
        tally, payload = self._ledger.arms[arm], item.payload
        latency_us = max(0, round(latency_s * 1e6))
        if payload.kind == "invalid":
            if 400 <= reply.status < 500 and reply.status != 429:
                tally.succeeded(latency_us, UNREAD, reply.digest)
            else:
                tally.failed(reply.failed or "accepted_invalid", reply.digest)
            return
        if reply.failed is not None:
            tally.failed(reply.failed, reply.digest)
            return
        leaves = read_answer(reply.body)
        if leaves is not None and not is_whole(leaves, payload.required):
            leaves = None
        is_correct = None
        if payload.right is not None:
            is_correct = leaves is not None and not differing(payload.right, leaves, self._plan.tolerances)
        tally.succeeded(latency_us, leaves, reply.digest, is_correct)
        if leaves is None:
            return
        item.leaves[arm] = leaves
        if len(item.leaves) > 1:
            self._ledger.pairs.compare(item.leaves["stable"], item.leaves["candidate"])
