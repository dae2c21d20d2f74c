"""One wide line for a request that is done: "request_completed", with what was measured of it.

It decides which requests get one, and nothing else. The invariants: every 5xx has its line, up to a rate, beyond which
lines are counted as dropped; a request whose trace is kept has its line too, so whoever finds one finds the other; of
the rest a share. Never a value of a header or of a row.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import Final

from slipway_signals.logs_writer import LineBudget
from slipway_signals.metrics import METHOD_OTHER, METHODS
from slipway_signals.traces_record import RequestTrace

__all__ = ["RequestLog"]

logger = logging.getLogger(__name__)

BURST_S: Final = 2.0


class RequestLog:
    """Tells the log about requests. Event loop only.

    Args:
        ratio: share of the requests that are told although nothing speaks for it; only where there are no traces.
        per_s: lines a second at most.
        lose: told of each line beyond the rate.
        clock: monotonic seconds.
    """

    def __init__(
        self, *, ratio: float, per_s: float, lose: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ratio = ratio
        self._budget = LineBudget(per_s, per_s * BURST_S)
        self._lose = lose
        self._clock = clock
        self._draw = random.Random().random  # noqa: S311 - which lines are written is no secret

    def completed(
        self, route: str, method: str, status: int, seconds: float, trace: RequestTrace | None = None
    ) -> None:
        """A request was answered. HOT: about 0.1 µs where no line is written.

        Args:
            route: the template.
            method: as received; anything but a known method is told as `OTHER`.
            status: of the answer; 499 when the client left.
            seconds: from its first byte to the last of the answer.
            trace: after `RouteTracer.end`; None without traces.
        """
        if status < 500 and (not trace.kept if trace is not None else self._draw() >= self._ratio):
            return
        if not self._budget.allows(self._clock()):
            self._lose()
            return
        fields: dict[str, object] = {
            "route": route,
            "method": _method(method),
            "status": status,
            "took_ms": _ms(seconds),
        }
        if trace is not None:
            fields |= _measured(trace)
        level = logging.ERROR if status >= 500 else logging.INFO
        logger.log(level, "request_completed", extra=fields)


def _measured(trace: RequestTrace) -> dict[str, object]:
    told: dict[str, object] = {"kept": trace.kept}
    if trace.error_type:
        told["error_type"] = trace.error_type
    if trace.is_synthetic:
        told["synthetic"] = True
    steps = trace.steps or []
    told["steps"] = len(steps)
    for step in steps[-1:]:
        told["model"], told["lane"] = step.model, step.lane
        if step.batch is not None:
            told["queue_ms"] = _ms(max(0.0, step.batch.sent_at - step.queued))
            told["compute_ms"] = _ms(step.batch.compute_s)
            told["batch_rows"] = step.batch.rows
            told["replica"] = step.batch.replica
    return told


def _method(method: str) -> str:
    return method if method in METHODS else METHOD_OTHER


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 3)
