"""A batch on its way: what runs beside the event loop, and what came of it.

It resolves nothing: the pool does, on the loop's thread. The invariant: `run` never raises, whatever compute does; its
outcome is in `parts`, or in `fatal` when compute raised something that no batch mate can be saved from
(KeyboardInterrupt, SystemExit and the like).
"""

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import msgspec

from slipway_runtime.errors import ModelFailed
from slipway_runtime.lanes import LaneChooser
from slipway_runtime.observer import SendReason
from slipway_runtime.poison import Compute, Part, isolate
from slipway_runtime.request import Answer, Ticket

if TYPE_CHECKING:
    import asyncio

__all__ = ["Flight", "WarmUp"]


_numbers = itertools.count(1)


class LocalBatch(msgspec.Struct, frozen=True, gc=False):
    """The facts of a batch that was computed in this process; a `BatchFacts`."""

    number: int
    rows: int
    sent_at: float
    started_at: float
    compute_s: float
    reason: str
    replica: str = ""


class Flight:
    """One batch in a worker thread. `error` set beforehand means that it has failed once and needs isolation only."""

    __slots__ = (
        *("answered_rows", "compute_s", "error", "facts", "fatal", "parts", "reason", "rows", "sent_at"),
        *("started_at", "tickets"),
    )

    def __init__(self, tickets: list[Ticket], rows: int, reason: SendReason, sent_at: float) -> None:
        self.tickets = tickets
        self.rows = rows
        self.reason = reason
        self.sent_at = sent_at
        self.compute_s = 0.0
        self.started_at = 0.0
        self.facts: LocalBatch | None = None
        self.answered_rows = 0
        """Rows whose callers were still there when the answer came."""
        self.parts: list[Part] = []
        self.error: Exception | None = None
        self.fatal: BaseException | None = None

    def run(self, compute: Compute, clock: Callable[[], float], isolation_calls: int) -> None:
        """Compute the batch, bisecting when it raises. Blocks; runs on any thread."""
        try:
            if self.error is None:
                self.started_at = started = clock()
                try:
                    result = compute([ticket.payload for ticket in self.tickets], self.rows)
                except Exception as error:  # noqa: BLE001 - a model may raise anything; it is handed to its tickets
                    self.error = error
                else:
                    self.parts = [Part(self.tickets, result)]
                self.compute_s = clock() - started
            if self.error is not None:
                self.parts = isolate(compute, self.tickets, self.error, calls=isolation_calls, is_wanted=_is_wanted)
        except BaseException as fatal:  # noqa: BLE001 - crosses a thread: the pool raises it on the loop
            self.fatal = fatal

    def waited_s(self) -> float:
        """How long its oldest ticket waited before it left."""
        return self.sent_at - min(ticket.arrived for ticket in self.tickets)

    def answer(self, tickets: Sequence[Ticket], result: object) -> int:
        """Give tickets their rows of `result`; returns how many still waited. HOT."""
        if self.facts is None:
            self.facts = LocalBatch(
                next(_numbers), self.rows, self.sent_at, self.started_at, self.compute_s, self.reason
            )
        answered, rows = resolve_answers(tickets, result, self.facts)
        self.answered_rows += rows
        return answered

    def resolve(self, model: str) -> tuple[int, Sequence[Ticket]]:
        """Give every ticket that still waits its answer or error; returns answers given and the tickets that failed."""
        answered = 0
        failed: list[Ticket] = []
        for part in self.parts:
            if part.error is None:
                answered += self.answer(part.tickets, part.result)
            else:
                failed += _fail(model, part.tickets, part.error)
        rest = self.fatal or self.error or RuntimeError("a ticket of the batch is in no part: this is a bug in slipway")
        failed += _fail(model, self.tickets, rest)  # nobody, unless compute raised something fatal
        return answered, failed

    def waiting(self) -> int:
        """How many of its tickets have not been counted as answered, failed, expired or cancelled yet."""
        count = 0
        for ticket in self.tickets:
            future = cast("asyncio.Future[Answer]", ticket.future)
            count += not future.done() or (future.cancelled() and not ticket.cancelled)
        return count


class WarmUp:
    """A round of measurements at sizes 1, 2, 4, … while nothing else runs."""

    def __init__(self, payload: bytes, rows: int, max_rows: int) -> None:
        self._payload = payload
        self._rows = rows
        copies = [1 << power for power in range(max_rows.bit_length()) if (rows << power) <= max_rows]
        if copies and rows * copies[-1] < max_rows:
            copies.append(max_rows // rows)
        self._copies = copies
        self.samples: list[tuple[int, float]] = []
        self.error: BaseException | None = None

    def run(self, compute: Compute, clock: Callable[[], float], budget_s: float, repeats: int = 3) -> None:
        """Measure each size `repeats` times after one run that is not counted, while the budget lasts. Blocks."""
        ends = clock() + budget_s
        try:
            for copies in self._copies:
                payloads = [self._payload] * copies
                for turn in range(repeats + 1):
                    started = clock()
                    compute(payloads, copies * self._rows)
                    stopped = clock()
                    if turn:
                        self.samples.append((copies * self._rows, stopped - started))
                    if self.samples and stopped + (stopped - started) > ends:
                        return
        except BaseException as error:  # noqa: BLE001 - crosses a thread: the pool raises it to who asked for the warm-up
            self.error = error

    def teach(self, lanes: LaneChooser) -> None:
        """Seed the cost tables with what was measured."""
        for rows, seconds in self.samples:
            lanes.warmed(rows, seconds)


def resolve_answers(tickets: Sequence[Ticket], result: object, facts: LocalBatch) -> tuple[int, int]:
    """Give each ticket that still waits its rows of `result`; returns how many waited, and their rows. HOT."""
    answered = rows = start = 0
    for ticket in tickets:
        stop = start + ticket.rows
        future: asyncio.Future[Answer] = ticket.future  # type: ignore[assignment]  # a cast costs 50 ns a request
        if not future.done():
            future.set_result(Answer(result, start, stop, facts))
            answered += 1
            rows += ticket.rows
        start = stop
    return answered, rows


def _fail(model: str, tickets: Sequence[Ticket], error: BaseException) -> list[Ticket]:
    failed: list[Ticket] = []
    for ticket in tickets:
        future = cast("asyncio.Future[Answer]", ticket.future)
        if not future.done():
            future.set_exception(ModelFailed(model, error))
            failed.append(ticket)
    return failed


def _is_wanted(ticket: Ticket) -> bool:
    return not cast("asyncio.Future[Answer]", ticket.future).done()
