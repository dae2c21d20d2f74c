"""Counts what arms answer under one configuration, and writes it down window by window: what the gate judges.

Under a shadow both arms are counted in pairs: an input counts for stable when its copy was sent. Under a split they are
counted apart, each with its own users. The invariants: a request is in one window; what an operator forced (override,
fallback) or a test sent is in none; a full disk costs windows, which are counted, and no answer.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from slipway_serve.split.answered import Answered
from slipway_serve.split.assignment import STABLE
from slipway_serve.split.config import CANDIDATE, WindowsConfig
from slipway_serve.split.counting import SplitMetrics
from slipway_serve.split.request import Request
from slipway_serve.split.routing import Routing
from slipway_serve.split.scraping import facts_of, named
from slipway_serve.split.tee import Copy, Tee
from slipway_serve.split.thompson import Thompson
from slipway_serve.split.windows import WindowFile
from slipway_signals.gate.answers import Leaves, is_whole
from slipway_signals.gate.histogram import Histogram
from slipway_signals.gate.records import ARMS, Arm, Generator, Window
from slipway_signals.gate.scraping import ArmScrapes
from slipway_signals.gate.tally import UNREAD, ArmTally, PairTally

__all__ = ["Recorder"]

logger = logging.getLogger(__name__)

BY_NAME: Final[Mapping[str, Arm]] = {STABLE: "stable", CANDIDATE: "candidate"}


class Recorder:
    """Hears of every judged answer. Event loop only.

    Args:
        routing: the configuration in force; its life is this object's.
        metrics: counts.
        thompson: learns from answers; None: shares stay as they are.
    """

    def __init__(self, routing: Routing, metrics: SplitMetrics, thompson: Thompson | None) -> None:
        config = routing.config
        self._routing = routing
        self._metrics = metrics
        self._thompson = thompson
        self._good_us = 0.0 if config.thompson is None else config.thompson.good_ms * 1_000
        self._windows = config.windows
        tolerances = {} if config.windows is None else config.windows.tolerances
        self._arms: dict[Arm, ArmTally] = {arm: ArmTally() for arm in ARMS}
        self._pairs = PairTally(tolerances)
        self._scrapes: dict[Arm, ArmScrapes] = {arm: ArmScrapes() for arm in ARMS}
        self._offered = self._dropped = self._sockets = 0
        self._slips_us: list[int] = []
        self._tee: Tee | None = None
        if (shadow := config.shadow) is not None:
            self._tee = Tee(shadow, routing.clients[shadow.arm], routing.dropped, self._paired)
        self._writer: asyncio.Task[None] | None = None
        self._wakes = asyncio.Event()
        self._is_ending = False

    def start(self) -> None:
        """Begin; inside the event loop."""
        if self._tee is not None:
            self._tee.start()
        if self._windows is not None:
            self._writer = asyncio.create_task(self._write(self._windows))

    async def stop(self) -> None:
        """Let copies end, and write the last window."""
        if self._tee is not None:
            await self._tee.stop()
        self._is_ending = True
        self._wakes.set()
        if self._writer is not None:
            await self._writer

    def answered(self, request: Request, arm: str, answered: Answered, *, is_judged: bool) -> None:
        """A request to an arm has ended. HOT; waits for nothing."""
        if is_judged and self._thompson is not None:
            is_failed = answered.failure is not None
            is_good = not is_failed and answered.latency_us <= self._good_us
            self._thompson.observe(arm, is_good=is_good, is_failed=is_failed)
        if self._tee is not None:
            may_repeat = request.may_repeat(is_repeatable=self._routing.repeatable.has(request.path))
            if arm == STABLE and request.method == "POST" and may_repeat and answered.reason != "client_left":
                self._tee.offer(request, answered, is_judged=is_judged)
        elif is_judged and self._windows is not None and (name := BY_NAME.get(arm)) is not None:
            self._offered += 1
            self._sockets = max(self._sockets, self._routing.clients[arm].active)
            self._arms[name].sent(is_first=True)
            self._settle(name, answered, answered.leaves())

    def _paired(self, copy: Copy, shadow: Answered | None, late_s: float) -> None:
        """A copy has ended: count it and what it is a copy of."""
        if copy.is_judged:
            self._offered += 1
            self._slips_us.append(int(late_s * 1e6))
        if shadow is None:
            self._dropped += copy.is_judged
            self._metrics.copied("dropped")
            return
        stable_leaves, leaves = copy.stable.leaves(), shadow.leaves()
        if leaves and stable_leaves and not is_whole(leaves, frozenset(stable_leaves.numbers)):
            leaves = None if shadow.status < 300 and copy.stable.status < 300 else leaves
        if copy.is_judged:
            self._arms["stable"].sent(is_first=True)
            self._settle("stable", copy.stable, stable_leaves)
            self._arms["candidate"].sent()
            self._settle("candidate", shadow, leaves)
        if copy.stable.failure is not None or shadow.failure is not None:
            self._metrics.copied("failed")
            return
        self._compare(copy, shadow, stable_leaves, leaves)

    def _compare(self, copy: Copy, shadow: Answered, ours: Leaves | None, theirs: Leaves | None) -> None:
        also: tuple[str, ...] = ()
        if copy.stable.status != shadow.status:
            also = ("status",)
        elif shadow.status < 300 and (ours is UNREAD or theirs is UNREAD):  # no JSON: the bytes, if they were kept
            if copy.stable.body is None or shadow.body is None:
                self._metrics.copied("unread")
                return
            also = ("body",) if copy.stable.body != shadow.body else ()
        elif (ours is None) != (theirs is None):
            also = ("malformed",)
        pairs = self._pairs if copy.is_judged else PairTally({})
        agrees = pairs.compare(ours or UNREAD, theirs or UNREAD, also=also)
        self._metrics.copied("agreed" if agrees else "differed")

    def _settle(self, name: Arm, answered: Answered, leaves: Leaves | None) -> None:
        tally = self._arms[name]
        if (failure := answered.failure) is not None:
            tally.failed(failure, answered.digest)
            return
        tally.succeeded(answered.latency_us, leaves, answered.digest)
        tally.label("status", str(answered.status))

    async def _write(self, config: WindowsConfig) -> None:
        """One window after the other, until told to end; the last one is as long as it is."""
        file = WindowFile(Path(config.file), config.max_mb)
        loop = asyncio.get_running_loop()
        begun = start = begin = loop.time()
        busy = time.process_time()
        index = 0
        while not self._is_ending:
            try:
                async with asyncio.timeout_at(begin + config.seconds):
                    await self._wakes.wait()
            except TimeoutError:
                pass
            end, now_busy = loop.time(), time.process_time()
            generator = self._generator((now_busy - busy) / max(end - begin, 1e-9))
            counts = {arm: tally.take() for arm, tally in self._arms.items()}
            window = Window(
                index=index,
                begin_s=begin - start,
                end_s=end - start,
                is_warm_up=begin - begun < config.warm_up_s,
                arms=counts,
                pairs=self._pairs.take(),
                generator=generator,
            )
            begin, busy = end, now_busy
            try:
                is_full = await asyncio.to_thread(self._store, file, window)
            except OSError as error:
                logger.error("a window is lost: %s: %s", config.file, error.strerror or error)  # noqa: TRY400
                self._metrics.windows_lost.inc()
                is_full = True  # without it the file has a gap: begin another one
            index, start = (0, end) if is_full else (index + 1, start)

    def _generator(self, cpu_share: float) -> Generator:
        generator = Generator(
            offered=self._offered,
            dropped=self._dropped,
            slip_us=Histogram.of(self._slips_us),
            cpu_share=cpu_share,
            sockets=self._sockets,
            sockets_limit=self._routing.config.connections,
        )
        self._offered = self._dropped = self._sockets = 0
        self._slips_us = []
        return generator

    def _store(self, file: WindowFile, window: Window) -> bool:
        """Ask the arms' admin ports, then write; in a thread. Whether the file is full."""
        admins = {name: self._routing.config.arms[name].admin for name in ARMS}
        facts = {name: facts_of(admin, self._scrapes[name]) for name, admin in admins.items() if admin is not None}
        arms = {
            name: named(counts, facts[name].digests) if name in facts else counts
            for name, counts in window.arms.items()
        }
        scrapes = {name: one.scrape for name, one in facts.items()}
        file.write(msgspec.structs.replace(window, arms=arms, scrapes=scrapes))
        return file.is_full()
