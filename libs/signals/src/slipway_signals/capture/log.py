"""`CaptureLog`: what an API worker calls for each answered request, and the thread that stores what was chosen.

`offer` chooses and hands over; it opens, encodes and waits for nothing, and it never raises. The invariants: memory is
bounded by records and by bytes; a full ring drops the newest and counts it; every counter has one writing thread
(`offer` and the constructor: the caller's; written, failed and bytes: ours), so they need no lock.

    log = CaptureLog(config, [CapturedModel(name="churn", version=digest, takes=Customer, gives=Risk)], slots)
    log.start()
    log.offer("churn", request_id, subject, row, answer, 200, 0.004, trace_id, time.time())
    log.close(5.0)
"""

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from zlib import crc32

from slipway_signals.capture.config import CaptureConfig
from slipway_signals.capture.errors import CaptureConfigError
from slipway_signals.capture.folder import CaptureFolder
from slipway_signals.capture.plans import CapturedModel, Plan
from slipway_signals.capture.projection import Redactor
from slipway_signals.capture.pseudonyms import Pseudonymiser
from slipway_signals.capture.records import KEPT
from slipway_signals.capture.sampling import ERROR_STATUS, GOLDEN, HASH_RANGE, sampled_rows
from slipway_signals.capture.writer import Offered, Outcomes, Writer
from slipway_signals.metrics_capture import CAPTURE_BYTES, CAPTURE_RATE, CAPTURE_RECORDS
from slipway_signals.slots import Slots

__all__ = ["CaptureLog"]

logger = logging.getLogger(__name__)

TURN_S: Final = 0.25
"""A record waits at most about this long for the disk; a ring that is half full does not wait."""
_SAMPLE, _ERROR, _UNSURE = range(len(KEPT))


class CaptureLog:
    """Captures a share of the requests of one process. `offer` is called by one thread.

    Args:
        config: Enabled, with a folder.
        models: What may be captured; requests of others are ignored.
        slots: The process's metrics. All series are made here, so that they exist at 0.

    Raises:
        CaptureConfigError: A configured model or field does not exist.
        RedactionError: An annotation cannot be followed.
        CaptureFolderError: The folder or its key file cannot be used.
    """

    def __init__(self, config: CaptureConfig, models: Iterable[CapturedModel], slots: Slots) -> None:
        if config.folder is None:
            raise CaptureConfigError("`runtime.capture.folder` is not given, expected the folder to capture into")
        redactor = Redactor(Pseudonymiser("k0", b""))  # the writer puts the folder's key in its place
        self._plans = {model.name: Plan(model, config, redactor) for model in models}
        if unknown := sorted(config.models.keys() - self._plans.keys()):
            raise CaptureConfigError(
                f"`runtime.capture.models.{unknown[0]}` is no model of this service, expected one of "
                f"{', '.join(self._plans)}"
            )
        if config.subject_field and not any(plan.subject for plan in self._plans.values()):
            raise CaptureConfigError(
                f"`runtime.capture.subject_field` is {config.subject_field!r}, expected a field of the rows of a model"
            )
        outcomes: dict[str, Outcomes] = {}
        self._counts = {}
        for name, plan in self._plans.items():
            written, dropped, sampled_out, failed = (
                slots.counter(CAPTURE_RECORDS, name, result)
                for result in ("written", "dropped", "sampled_out", "failed")
            )
            outcomes[name] = Outcomes(written, failed, slots.counter(CAPTURE_BYTES, name))
            self._counts[name] = (plan, sampled_out, dropped)
            slots.gauge(CAPTURE_RATE, name).set(plan.rate)
        self._errors = config.errors
        self._limit = config.ring_records
        self._limit_bytes = config.ring_bytes
        self._ring: deque[Offered] = deque()
        self._added_bytes = 0
        self._freed_bytes = 0
        self._wake = threading.Event()
        self._is_closing = False
        self._has_complained = False
        folder = CaptureFolder(Path(config.folder))
        self._writer = Writer(config, folder, redactor, outcomes, time.time())
        self._thread = threading.Thread(target=self._run, name="slipway-capture", daemon=True)

    def start(self) -> None:
        """Begin to store what is offered, in a thread of its own. Call it after the process has forked, if it does."""
        self._thread.start()

    def offer(
        self,
        model: str,
        request_id: str,
        subject: str | None,
        row: object,
        answer: object,
        status: int,
        latency_s: float,
        trace_id: str | None,
        now: float,
    ) -> None:
        """A request was answered. HOT: about 0.5 µs when it is not chosen (`benchmarks/capture.py`). Never raises.

        Args:
            model: One of the models; anything else is ignored.
            request_id: What labels will name; of several rows in one request, one id each.
            subject: The person it is about, or None (then `subject_field` says); stored as a pseudonym.
            row: What was asked, or None; it must not change afterwards.
            answer: What was answered, or None when there was no answer; it must not change afterwards.
            status: HTTP status.
            latency_s: Seconds it took.
            trace_id: 32 hexadecimal digits, or None.
            now: Seconds since the epoch.
        """
        known = self._counts.get(model)
        if known is None:
            return
        plan, sampled_out, dropped = known
        try:
            kept, weight = _SAMPLE, 1.0
            sampled = crc32(request_id.encode("utf-8", "replace")) * GOLDEN % HASH_RANGE < plan.threshold
            if status >= ERROR_STATUS and self._errors:
                kept = _ERROR
            elif plan.unsure and answer is not None and plan.is_unsure(answer):
                kept = _UNSURE
            elif sampled:
                weight = 1.0 / plan.rate
            else:
                sampled_out.inc()
                return
            if sampled:
                kept = _SAMPLE
            size = plan.size_bytes(row, answer)
            if len(self._ring) >= self._limit or self._added_bytes - self._freed_bytes + size > self._limit_bytes:
                dropped.inc()
                return
            if plan.holds_arrays:  # their memory may be used again when the request is over
                row, answer = copy.deepcopy((row, answer))
            self._added_bytes += size
            self._ring.append(
                Offered(plan, request_id, subject, row, answer, status, latency_s, trace_id, now, kept, weight, size)
            )
            if len(self._ring) == self._limit // 2:
                self._wake.set()
        except Exception as error:  # noqa: BLE001  # said once by `lose`
            self.lose(model, 1, error)

    def choose(self, model: str, request_id: str, numbers: range, answers: Sequence[object], status: int) -> list[int]:
        """Which rows of a request that came as columns to `offer`, so that nothing is made of the others. Never raises.

        Those that are left out are counted here: as sampled out, or as dropped where the ring has no room.

        Args:
            model: As in `offer`.
            request_id: Of the request; its rows are called `sampling.row_id`.
            numbers: Of the rows in it.
            answers: One for each of them, or empty when there were none.
            status: As in `offer`.
        """
        known = self._counts.get(model)
        if known is None:
            return []
        plan, sampled_out, dropped = known
        try:
            if status >= ERROR_STATUS and self._errors:
                chosen = list(numbers)
            else:
                chosen = sampled_rows(request_id, numbers, plan.threshold)
                if plan.unsure:
                    unsure = (n for n, answer in zip(numbers, answers, strict=False) if plan.is_unsure(answer))
                    chosen = sorted({*chosen, *unsure})
                sampled_out.inc(len(numbers) - len(chosen))
            room = max(0, self._limit - len(self._ring))
            if len(chosen) > room:
                dropped.inc(len(chosen) - room)
            return chosen[:room]
        except Exception as error:  # noqa: BLE001  # said once by `lose`
            self.lose(model, len(numbers), error)
            return []

    def lose(self, model: str, records: int, error: Exception) -> None:
        """Count records that could not be made as dropped; the first time say why."""
        if (known := self._counts.get(model)) is not None:
            known[2].inc(records)
        if not self._has_complained:  # once: a log line a request would hurt more than the capture is worth
            self._has_complained = True
            logger.error("capture_offer_failed", exc_info=error, extra={"model": model})

    def close(self, timeout_s: float) -> bool:
        """Store what was offered and close the segment; blocks for at most `timeout_s`, so not on the event loop.

        Returns:
            Whether all was stored in time; if not, the rest is lost with the process, and its segment is taken over.
        """
        is_first, self._is_closing = not self._is_closing, True
        self._wake.set()
        if self._thread.ident is None:
            if is_first:
                self._writer.close(self._ring, time.monotonic())
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._is_closing:
            self._wake.wait(TURN_S)
            self._wake.clear()
            try:
                self._freed_bytes += self._writer.turn(self._ring, time.monotonic())
            except Exception:  # the top of a thread: what it could not do now it does with the next turn
                logger.exception("capture_turn_failed")
        try:
            self._writer.close(self._ring, time.monotonic())
        except Exception:
            logger.exception("capture_close_failed")
