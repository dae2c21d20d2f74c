"""Computes one batch of a runner: frames in, frames out, between them a model.

It waits for nothing and knows no socket. The invariants: every ticket of a batch is in exactly one part or failure of
the answer; one bad ticket fails alone, and looking for it stops while the batch is still young enough not to look like
a hang; whatever a model raises that is an `Exception` stays here, and nothing else does.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias, cast

from slipway_runtime.poison import Part, isolate
from slipway_runtime.request import Ticket
from slipway_runtime.wire.frames import (
    INLINE_BYTES,
    MAX_FRAME_BYTES,
    Blob,
    Done,
    Failure,
    Place,
    ResultPart,
    WireError,
    Work,
)
from slipway_runtime.wire.slab import Slab, SlabView

__all__ = ["BatchCompute", "RunnerModel"]

logger = logging.getLogger(__name__)

Buffer: TypeAlias = bytes | memoryview

ISOLATION_CALLS: Final = 64
"""Calls of compute that one failed batch may cost, as in `request.Limits`."""
ISOLATION_S: Final = 0.5
"""Or so many seconds, and no less than `ISOLATION_FACTOR` times the longest batch: a dispatcher ends a runner after
1 s or ten times the p95 (`dispatch.spec`), and a bad request must not cost a process."""
ISOLATION_FACTOR: Final = 5.0
MESSAGE_CHARACTERS: Final = 2000
"""Of a model's error; the whole is in the runner's log."""
_INLINE_FRAME_BYTES: Final = MAX_FRAME_BYTES // 2


class RunnerModel(Protocol):
    """One model in a runner."""

    @property
    def name(self) -> str:
        """Of the pool's models."""

    def compute(self, key: bytes, payloads: Sequence[Buffer], rows: int) -> object:
        """One result for all rows. The buffers are valid until the result has been encoded, and must not be kept."""

    def encode(self, result: object, start: int, stop: int) -> bytes:
        """Rows `start` to `stop` (exclusive) of a result, as the API worker decodes them."""


class BatchCompute:
    """Computes batches, one at a time; results above `INLINE_BYTES` go to `slab` while it has room."""

    def __init__(
        self, models: Mapping[str, RunnerModel], slab: Slab, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._models = models
        self._slab = slab
        self._clock = clock
        self._longest_s: dict[tuple[str, bytes], float] = {}

    def run(self, work: Work, slabs: Mapping[int, SlabView]) -> Done:
        """Compute `work`, whose payloads may lie in `slabs`. Blocks for as long as the model does.

        Raises:
            WireError: a payload lies where nothing was shared.
            BaseException: what the model raised, if it is no Exception (SystemExit, KeyboardInterrupt).
        """
        tickets = _tickets_of(work, slabs)
        started = self._clock()
        parts = self._compute(work, tickets, started)
        answer = Done(work.number, self._clock() - started, [], [], started)
        groups = [len(group.tickets) for group in work.groups]
        for part in parts:
            self._answer(work.model, part, groups, answer)
        return answer

    def _compute(self, work: Work, tickets: list[Ticket], started: float) -> list[Part]:
        model = self._models.get(work.model)
        if model is None:
            return [Part(tickets, error=LookupError(f"this runner has no model {work.model!r}"))]
        line = (work.model, work.key)
        try:
            result = model.compute(work.key, [ticket.payload for ticket in tickets], sum(t.rows for t in tickets))
        except Exception as error:  # a model may raise anything; it is handed to its tickets
            logger.exception("batch_failed", extra={"model": work.model, "batch": work.number})
            longest_s = max(self._longest_s.get(line, 0.0), self._clock() - started)
            ends = self._clock() + max(ISOLATION_S, ISOLATION_FACTOR * longest_s)
            return self._isolate(model, work.key, tickets, error, ends)
        self._longest_s[line] = max(self._longest_s.get(line, 0.0), self._clock() - started)
        return [Part(tickets, result)]

    def _isolate(
        self, model: RunnerModel, key: bytes, tickets: list[Ticket], error: Exception, ends: float
    ) -> list[Part]:
        def compute(payloads: Sequence[bytes], rows: int) -> object:
            if self._clock() >= ends:
                raise error
            return model.compute(key, payloads, rows)

        return isolate(compute, tickets, error, calls=ISOLATION_CALLS, is_wanted=lambda ticket: True)  # noqa: ARG005

    def _answer(self, name: str, part: Part, groups: Sequence[int], answer: Done) -> None:
        """Add what became of the tickets of `part`, which were computed together, to the answer."""
        numbers = [cast("int", ticket.future) for ticket in part.tickets]
        if part.error is not None:
            answer.failures += [_failure(number, part.error) for number in numbers]
            return
        model = self._models[name]
        at = row = first = 0
        for size in groups:
            first += size
            start, rows = at, row
            while at < len(numbers) and numbers[at] < first:
                row += part.tickets[at].rows
                at += 1
            if start == at:
                continue
            mine = numbers[start:at]
            try:
                answer.parts.append(ResultPart(mine, self._place(model.encode(part.result, rows, row), answer)))
            except Exception as error:  # a result of fewer rows, say
                logger.exception("result_invalid", extra={"model": name, "batch": answer.number})
                answer.failures += [_failure(number, error) for number in mine]

    def _place(self, blob: bytes, answer: Done) -> Blob:
        if len(blob) <= INLINE_BYTES:
            return blob
        place = self._slab.write(blob)
        if place is not None:
            return place
        inline = sum(len(part.result) for part in answer.parts if not isinstance(part.result, Place))
        if inline + len(blob) > _INLINE_FRAME_BYTES:
            raise WireError(
                f"a result of {len(blob)} bytes has no room: the slab of {self._slab.capacity} bytes is full",
                hint="a runner's shared memory must hold the results of a few batches: raise it, or lower `max_rows`",
            )
        return blob


def _tickets_of(work: Work, slabs: Mapping[int, SlabView]) -> list[Ticket]:
    """The tickets of a batch, in order; `future` is the number of each."""
    tickets: list[Ticket] = []
    for group in work.groups:
        for ticket in group.tickets:
            payload: Buffer
            if isinstance(ticket.payload, Place):
                view = slabs.get(group.slab)
                if view is None:
                    raise WireError(f"a payload lies in slab {group.slab}, which was never shared")
                payload = view.read(ticket.payload)
            else:
                payload = ticket.payload
            # a ticket says `bytes`: models read buffers, and the pure modules look at neither
            tickets.append(Ticket(cast("bytes", payload), ticket.rows, ticket.deadline, 0.0, len(tickets)))
    return tickets


def _failure(number: int, error: Exception) -> Failure:
    return Failure(number, type(error).__name__, str(error)[:MESSAGE_CHARACTERS])
