"""One published model as the Open Inference Protocol sees it, whichever transport asks: tensors in, tensors out.

REST (inference.py) and gRPC (oip/server.py) translate their messages to and from the words used here, so that both
check the same things, say the same sentences and wait in the same queue. It knows neither JSON nor protobuf nor HTTP.
"""

import itertools
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from slipway_bundle import Arrays, RowError
from slipway_serve.config import LimitsConfig
from slipway_serve.engine import Engine
from slipway_serve.problems import Problem
from slipway_serve.protocol import EXTENSIONS, OutputParameters, RequestOutput
from slipway_serve.service import Model
from slipway_serve.tensor_data import refusal
from slipway_serve.tensors import Given, TensorReader, Wanted, shown
from slipway_signals.traces_record import current_trace


class TensorModel:
    """Answers inference requests for one model.

    Args:
        engine: where the model's lane is.
        model: its declaration.
        version: of the service.
        limits: rows of one request, and the longest deadline.
    """

    def __init__(self, engine: Engine, model: Model[Any, Any], version: str, limits: LimitsConfig) -> None:
        self._lane = engine.lane(model.name)
        self.name: Final = model.name
        self.version: Final = version
        self.deadline_s: Final = engine.config.deadline_s(model.slo)
        """Length of the model's deadline class, for requests that name no deadline."""
        self._limits = limits
        self._reader = TensorReader(self._lane.input_specs, limits.rows)
        self._ranks = {spec.name: len(spec.shape) for spec in self._lane.input_specs}
        self._outputs = {spec.name: spec for spec in self._lane.output_specs}

    async def infer(self, tensors: Iterable[Given], deadline: float) -> Arrays:
        """Read the tensors, queue their rows, wait for the answer: output name → array.

        Of more tensors than the model has, one too many is looked at; the others cost nothing.

        Raises:
            Problem: 400, the tensors are not this model's; 422, a value breaks the schema, with its path.
            Refused, DeadlineExceeded, ModelFailed: as the lane raises them.
        """
        given = list(itertools.islice(tensors, len(self._ranks) + 1))
        arrays, rows = self._reader.read(given)
        trace = current_trace.get()
        if trace is not None:
            trace.decoded = time.monotonic()
        try:
            answer = await self._lane.batch(arrays, rows, deadline)
        except RowError as error:
            raise self._located(error, given) from error
        if trace is not None:
            trace.encoding = time.monotonic()
        return answer

    def wanted(self, outputs: Sequence[RequestOutput] | None, *, is_binary: bool) -> list[Wanted]:
        """The outputs to answer, in their order.

        Args:
            outputs: as the client asked; None or empty: all.
            is_binary: the form of those for which the client names none.

        Raises:
            Problem: 400; an output is unknown, doubled, or asked for in a way that is not served.
        """
        if not outputs:
            return [Wanted(spec, is_binary) for spec in self._outputs.values()]
        wanted: dict[str, Wanted] = {}
        for index, output in enumerate(outputs):
            path = f"$.outputs[{index}]"
            spec = self._outputs.get(output.name)
            if spec is None:
                raise refusal("tensor_unknown", f"{path}.name", repr(output.name[:200]), shown(self._outputs))
            if output.name in wanted:
                raise refusal("tensor_doubled", f"{path}.name", f"{output.name!r} a second time", "each output once")
            parameters = output.parameters or OutputParameters()
            if parameters.classification is not None:
                raise _not_served(f"{path}.parameters.classification", "classification")
            if parameters.shared_memory_region is not None:
                raise _not_served(f"{path}.parameters.shared_memory_region", "system_shared_memory")
            binary = is_binary if parameters.binary_data is None else parameters.binary_data
            wanted[output.name] = Wanted(spec, binary)
        return list(wanted.values())

    def deadline(self, timeout_us: int | None, deadline: float, *, is_asked: bool) -> float:
        """The earlier of the transport's deadline and the protocol's `timeout`; the deadline class without either.

        Args:
            timeout_us: parameter `timeout`, in microseconds.
            deadline: of the transport, on `time.monotonic()`.
            is_asked: the client named `deadline`; it is not the deadline class.

        Raises:
            Problem: 400; the timeout is not above 0.
        """
        if timeout_us is None:
            return deadline
        if timeout_us <= 0:
            raise refusal("timeout_invalid", "$.parameters.timeout", f"{timeout_us}", "microseconds > 0")
        asked = time.monotonic() + min(timeout_us / 1_000_000, self._limits.deadline_ms / 1_000)
        return min(asked, deadline) if is_asked else asked

    def _located(self, error: RowError, tensors: Sequence[Given]) -> RowError | Problem:
        """A bad value of an input, with its path in the request instead of in the row."""
        for given in tensors:
            row_path = f"$.{given.name}"
            rank = 1 + self._ranks[given.name]
            if error.path.startswith(row_path) and re.fullmatch(rf"(\[\d+\]){{{rank}}}", error.path[len(row_path) :]):
                path = f"{given.data_path}{error.path[len(row_path) :]}"
                detail = error.message.replace(f"`{error.path}`", f"`{path}`", 1)
                return Problem(422, error.code, detail, path=path, hint=error.hint)
        return error


def _not_served(path: str, extension: str) -> Problem:
    return Problem(
        400,
        "extension_unknown",
        f"`{path}` asks for the extension `{extension}`, which is not served",
        path=path,
        hint=f"served extensions: {', '.join(EXTENSIONS)}",
    )
