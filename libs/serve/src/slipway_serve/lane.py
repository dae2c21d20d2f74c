"""One model, loaded: row codecs around the weights, and the pool that batches them.

`Lane` is the only place where rows, payloads and arrays meet. It knows no HTTP. Where the weights run (here, in a
runner process, at a remote server) is the pool's business; a lane's callers see no difference.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from msgspec import Struct

from slipway_bundle import (
    Arrays,
    LoadedModel,
    ModelLike,
    RowCodec,
    RowError,
    SlipwayError,
    TensorSpec,
    Weights,
    adapter_for,
    predict,
)
from slipway_bundle.description import codecs
from slipway_bundle.weights import WeightsError, WeightsFormatError, bind_outputs
from slipway_runtime import Answer, Limits, Observer, Pool
from slipway_serve.config import ModelRuntime

if TYPE_CHECKING:
    import asyncio


class LaneObserver(Observer, Protocol):
    """What a lane reports beside the runtime's events."""

    def invalid(self, model: str, rows: int) -> None:
        """Rows were refused because they do not fit the model's schema."""


class ComputeError(SlipwayError):
    """A `compute` function or the weights gave arrays that do not fit the answer's schema."""

    code = "compute_invalid"


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
    """Rows in, answers out, for one model in this process.

    Args:
        model: the declaration, `slipway_serve.Model`.
        loaded: its weights' file and configuration, out of a bundle or folder.
        runtime: its `[runtime.models.NAME]` table.
        observer: hears of batches, refusals and failures.
    """

    def __init__(self, model: ModelLike, loaded: LoadedModel, runtime: ModelRuntime, observer: LaneObserver) -> None:
        started = time.monotonic()
        self._observer = observer
        self.name: Final = model.name
        inputs, outputs = codecs(model, loaded.config.format)
        self.inputs: Final[RowCodec[Any]] = inputs
        self.outputs: Final[RowCodec[Any]] = outputs
        specs = inputs.specs if model.function is None else ()
        try:
            weights = adapter_for(loaded.config.format).load(loaded.file, loaded.config, specs, threads=runtime.threads)
        except (WeightsError, WeightsFormatError) as error:
            raise type(error)(f"model {model.name!r} cannot be loaded: {error.message}", hint=error.hint) from error
        fields = [spec.name for spec in outputs.specs]
        self._compute: Final[Callable[[Weights, Arrays], Arrays]] = model.function or partial(
            _default, bind_outputs(loaded.config.outputs, weights.outputs, fields)
        )
        self._weights: Final[Weights] = weights
        self.load_s: Final = time.monotonic() - started
        self.pool: Final = Pool(
            model.name,
            self.compute,
            limits=Limits(
                max_rows=runtime.max_rows if runtime.batching else 1,
                max_queued_rows=runtime.queue_rows,
                gather_s=runtime.gather_ms / 1_000 if runtime.batching else 0.0,
                inline_s=runtime.inline_ms / 1_000,
            ),
            observer=observer,
        )

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """The model's input tensors, without the batch axis."""
        return self.inputs.specs

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """The model's output tensors, without the batch axis."""
        return self.outputs.specs

    def compute(self, payloads: Sequence[bytes], rows: int) -> Outputs:
        """One batch; called by the pool, on the loop or in its thread."""
        batch = self.inputs.batch(payloads)
        arrays = self._compute(self._weights, batch)
        self._check(arrays, rows)
        return Outputs(arrays, self.outputs)

    async def one(self, row: Struct, deadline: float) -> Struct:
        """The answer to one row; see `Model.__call__` for what it raises."""
        with self._counting(1):
            self.inputs.check(row)
            payload = self.inputs.pack(row)
        answer = await self.pool.submit_nowait(payload, 1, deadline)
        return outputs_of(answer).row(answer.start)

    async def many(self, rows: Sequence[Struct], deadline: float) -> list[Struct]:
        """The answers to many rows, in order; all wait in the queue at once, in tickets of at most a batch."""
        with self._counting(len(rows)):
            for row in rows:
                self.inputs.check(row)
            payloads = [self.inputs.pack(row) for row in rows]
        size = self.pool.limits.max_rows
        chunks = [payloads[start : start + size] for start in range(0, len(payloads), size)]
        answers = await self._answers([(b"".join(chunk), len(chunk)) for chunk in chunks], deadline)
        return [outputs_of(answer).row(index) for answer in answers for index in range(answer.start, answer.stop)]

    async def batch(self, arrays: Arrays, rows: int, deadline: float) -> Arrays:
        """Columns in, columns out: what the Open Inference Protocol carries.

        Raises:
            RowError: a tensor has the wrong type or shape, or a value breaks a constraint.
            AnswerError: an answer does.
        """
        size = self.pool.limits.max_rows
        with self._counting(rows):
            parts = [(self.inputs.pack_arrays(arrays), rows)]  # as a whole first, so that an error names its own row
        if rows > size:
            cuts = [(start, min(start + size, rows)) for start in range(0, rows, size)]
            parts = [
                (self.inputs.pack_arrays({name: array[start:stop] for name, array in arrays.items()}), stop - start)
                for start, stop in cuts
            ]
        answers = await self._answers(parts, deadline)
        for answer in answers:
            for index in range(answer.start, answer.stop):
                outputs_of(answer).row(index)
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

    async def _answers(self, parts: Sequence[tuple[bytes, int]], deadline: float) -> list[Answer]:
        """All parts wait in the queue at once; when one is refused or fails, the others are taken out again."""
        tickets: list[asyncio.Future[Answer]] = []
        try:
            for payload, rows in parts:
                tickets.append(self.pool.submit_nowait(payload, rows, deadline))
            return [await ticket for ticket in tickets]
        finally:
            for ticket in tickets:
                ticket.cancel()

    def _check(self, arrays: Arrays, rows: int) -> None:
        for spec in self.outputs.specs:
            array = arrays.get(spec.name)
            if array is None:
                raise ComputeError(
                    f"model {self.name!r} answered without {spec.name!r}, got {sorted(arrays)}",
                    hint="`compute` returns one array per field of the answer",
                )
            if len(array) != rows:
                raise ComputeError(f"model {self.name!r} answered {len(array)} rows of {spec.name!r}, expected {rows}")


def _default(bound: Mapping[str, str], weights: Weights, batch: Arrays) -> Arrays:
    return predict(weights, bound, batch)


def outputs_of(answer: Answer) -> Outputs:
    """The batch's outputs behind an answer; a lane's pool never returns anything else."""
    result = answer.result
    if not isinstance(result, Outputs):
        raise TypeError(f"this is a bug in slipway: a lane answered {type(result)!r}")
    return result
