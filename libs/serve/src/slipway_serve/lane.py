"""One model as its callers see it: rows in, answers out, through a pool that batches them.

`Lane` is the only place where rows, payloads and arrays meet. It knows no HTTP and no weights. Where the weights run
(in this process, in a runner, at a remote server) is the pool's business; a lane's callers see no difference.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, cast

import numpy as np
from msgspec import Struct

from slipway_bundle import Arrays, RowCodec, RowError, SlipwayError, TensorSpec
from slipway_bundle.columns import decode_columns
from slipway_runtime import Answer, Limits, Observer
from slipway_runtime.tally import DrainReport
from slipway_signals.traces_record import RequestTrace, Step, current_trace

if TYPE_CHECKING:
    import asyncio

    from slipway_serve.watching import RowWatch

Payload: TypeAlias = bytes | memoryview
Place: TypeAlias = Literal["in_process", "pool", "remote"]


class LaneObserver(Observer, Protocol):
    """What a lane reports beside the runtime's events."""

    def invalid(self, model: str, rows: int) -> None:
        """Rows were refused because they do not fit the model's schema."""


class LanePool(Protocol):
    """What batches a lane's rows: `Pool`, `KeyedPool`, `PooledLane`, `ConcurrentPool`."""

    @property
    def limits(self) -> Limits:
        """Bounds of the pool."""

    def submit_nowait(self, payload: bytes, rows: int, deadline: float) -> "asyncio.Future[Answer]":
        """Admit packed rows; a pool of a keyed model takes their key as the fourth argument."""

    async def drain(self, timeout_s: float) -> DrainReport:
        """Refuse what comes, finish what waits."""


_SubmitKeyed: TypeAlias = "Callable[[Payload, int, float, bytes], asyncio.Future[Answer]]"
_Part: TypeAlias = tuple[Payload, int, bytes]
"""Packed rows, how many, and their key."""


class AnswerError(SlipwayError):
    """The model's answer to this row is not finite or breaks the answer's schema: our fault, not the client's."""

    code = "answer_invalid"


class Outputs:
    """The answer to one batch: arrays, and the rows made of them, once, when the first row is asked for."""

    __slots__ = ("_codec", "_rows", "arrays")

    def __init__(self, arrays: Arrays, codec: RowCodec[Any]) -> None:
        self.arrays = arrays
        self._codec = codec
        self._rows: list[Struct | RowError] | None = None

    def row(self, index: int) -> Struct:
        """One answer.

        Raises:
            AnswerError: this row's answer is not finite, or breaks a constraint of the schema; its mates are fine.
        """
        rows = self._rows
        if rows is None:
            rows = self._rows = self._codec.rows(self.arrays)
        row = rows[index]
        if isinstance(row, RowError):
            raise AnswerError(f"the model's answer breaks its schema: {row.message}", hint=row.hint) from row
        return row


class Lane:
    """Rows in, answers out, for one model.

    Args:
        name: the model's.
        inputs: packs its rows.
        outputs: makes its answers.
        pool: batches and computes.
        observer: hears of rows that were refused.
        load_s: seconds that loading the weights took, if they are in this process.
        place: where they are, as traces say it.
        close: lets go of what the pool computes with.
    """

    def __init__(
        self,
        name: str,
        inputs: RowCodec[Any],
        outputs: RowCodec[Any],
        pool: LanePool,
        observer: LaneObserver,
        load_s: float | None = None,
        place: Place = "in_process",
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name: Final = name
        self.inputs: Final = inputs
        self.outputs: Final = outputs
        self.pool: Final = pool
        self.load_s: Final = load_s
        """None: the weights are elsewhere."""
        self.close: Final = close
        self._place = place
        self.watch: RowWatch | None = None
        """Who remembers its rows; set when it has proved itself."""
        self._observer = observer
        self._submit_keyed = cast("_SubmitKeyed", pool.submit_nowait)

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """The model's input tensors, without the batch axis."""
        return self.inputs.specs

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """The model's output tensors, without the batch axis."""
        return self.outputs.specs

    def submit(self, payload: Payload, rows: int, deadline: float, key: bytes) -> "asyncio.Future[Answer]":
        """Queue packed rows of one key."""
        if self.inputs.is_keyed:
            return self._submit_keyed(payload, rows, deadline, key)
        return self.pool.submit_nowait(cast("bytes", payload), rows, deadline)

    async def one(self, row: Struct, deadline: float) -> Struct:
        """The answer to one row; see `Model.__call__` for what it raises."""
        with self._counting(1):
            self.inputs.check(row)
            key, payload = self.inputs.pack_keyed(row)
        return await self.answer(row, payload, key, self.submit(payload, 1, deadline, key))

    async def answer(self, row: Struct, payload: Payload, key: bytes, submitted: "asyncio.Future[Answer]") -> Struct:
        """The answer to a submitted row, seen by whoever watches."""
        try:
            answer = await self._followed(submitted)
            outputs = outputs_of(answer)
            result = outputs.row(answer.start)
        except Exception as error:
            self.missed(row, error)
            raise
        self.seen(row, result, payload, key, answer, outputs)
        return result

    def seen(self, row: Struct, result: Struct, payload: Payload, key: bytes, answer: Answer, outputs: Outputs) -> None:
        """A row was answered: tell whoever watches. HOT."""
        if self.watch is not None:
            self.watch.answered(payload, 1, key, answer, outputs)
            self.watch.kept(row, result)

    def missed(self, row: Struct, error: Exception) -> None:
        """A row got no answer: tell whoever watches."""
        if self.watch is not None:
            self.watch.failed((row,), error)

    def followed(self, trace: RequestTrace | None, queued: float, answer: Answer | None) -> None:
        """Rows that were queued then are answered, or never will be: a step of the trace, if there is one. HOT."""
        if trace is not None:
            batch = None if answer is None else answer.batch
            trace.step(Step(self.name, queued, time.monotonic(), batch, self._place))

    async def _followed(self, submitted: "asyncio.Future[Answer]") -> Answer:
        """An answer, as a step of the trace of whoever awaits it."""
        trace = current_trace.get()
        if trace is None:
            return await submitted
        queued, answer = time.monotonic(), None
        try:
            answer = await submitted
            return answer
        finally:
            self.followed(trace, queued, answer)

    async def many(self, rows: Sequence[Struct], deadline: float) -> list[Struct]:
        """The answers to many rows, in order; all wait in the queue at once, in tickets of one key."""
        with self._counting(len(rows)):
            for row in rows:
                self.inputs.check(row)
            packed = [self.inputs.pack_keyed(row) for row in rows]
        places: dict[bytes, list[int]] = {}
        for place, (key, _) in enumerate(packed):
            places.setdefault(key, []).append(place)
        size = self.pool.limits.max_rows
        chunks = [
            (key, found[start : start + size]) for key, found in places.items() for start in range(0, len(found), size)
        ]
        parts = [(_joined([packed[place][1] for place in chunk]), len(chunk), key) for key, chunk in chunks]
        answered: list[Struct | None] = [None] * len(rows)
        try:
            for answer, (_, chunk) in zip(await self._answers(parts, deadline), chunks, strict=True):
                for index, place in enumerate(chunk, start=answer.start):
                    answered[place] = outputs_of(answer).row(index)
        except Exception as error:
            if self.watch is not None:
                self.watch.failed(rows, error)
            raise
        results = cast("list[Struct]", answered)
        if self.watch is not None:
            for row, result in zip(rows, results, strict=True):
                self.watch.kept(row, result)
        return results

    async def batch(self, arrays: Arrays, rows: int, deadline: float) -> Arrays:
        """Columns in, columns out: what the Open Inference Protocol carries.

        Raises:
            RowError: a tensor has the wrong type or shape, or a value breaks a constraint.
            AnswerError: an answer does.
        """
        size = self.pool.limits.max_rows
        with self._counting(rows):
            key, payload = self.inputs.pack_arrays_keyed(arrays)  # as a whole first: an error names its own row
            parts: list[_Part] = [(payload, rows, key)]
        if rows > size:
            parts = []
            for start in range(0, rows, size):
                stop = min(start + size, rows)
                key, payload = self.inputs.pack_arrays_keyed(
                    {name: array[start:stop] for name, array in arrays.items()}
                )
                parts.append((payload, stop - start, key))
        try:
            answers = await self._answers(parts, deadline)
            results = [
                outputs_of(answer).row(index) for answer in answers for index in range(answer.start, answer.stop)
            ]
        except Exception as error:
            if self.watch is not None:
                self.watch.failed_columns(self.inputs, arrays, rows, error)
            raise
        if self.watch is not None:
            self.watch.kept_columns(self.inputs, arrays, results)
        return {
            spec.name: np.concatenate([outputs_of(a).arrays[spec.name][a.start : a.stop] for a in answers])
            for spec in self.outputs.specs
        }

    def count_invalid(self, rows: int) -> None:
        """Rows that never became a ticket, because they do not fit the schema."""
        self._observer.invalid(self.name, rows)

    @contextmanager
    def _counting(self, rows: int) -> Iterator[None]:
        try:
            yield
        except RowError:
            self.count_invalid(rows)
            raise

    async def _answers(self, parts: Sequence[_Part], deadline: float) -> list[Answer]:
        """All parts wait in the queue at once; when one is refused or fails, the others are taken out again."""
        tickets: list[asyncio.Future[Answer]] = []
        try:
            for payload, rows, key in parts:
                tickets.append(self.submit(payload, rows, deadline, key))
            answers = [await self._followed(ticket) for ticket in tickets]
        finally:
            for ticket in tickets:
                ticket.cancel()
        if self.watch is not None:
            for answer, (payload, rows, key) in zip(answers, parts, strict=True):
                self.watch.answered(payload, rows, key, answer, outputs_of(answer))
        return answers


def outputs_from(codec: RowCodec[Any]) -> Callable[[bytes], Outputs]:
    """Makes the outputs of a batch that was computed in another process out of its bytes (`Computation.encode`)."""

    def decode(data: bytes) -> Outputs:
        return Outputs(decode_columns(data), codec)

    return decode


def outputs_of(answer: Answer) -> Outputs:
    """The batch's outputs behind an answer; a lane's pool never returns anything else."""
    result = answer.result
    if not isinstance(result, Outputs):
        raise TypeError(f"this is a bug in slipway: a lane answered {type(result)!r}")
    return result


def _joined(payloads: Sequence[Payload]) -> Payload:
    return payloads[0] if len(payloads) == 1 else b"".join(payloads)
