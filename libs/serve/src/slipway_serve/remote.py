"""A model in another server, called through the Open Inference Protocol: what a remote lane has instead of weights.

    remote = "grpc://triton:8001/churn"      or http://…, grpcs://…, https://…

If the far end is slipway, the whole step runs there: its outputs are the answer's fields. At any other server (Triton,
MLServer) its outputs are what weights give, and `compute` runs here. One batch is one call, in the caller's thread; it
is bounded by a deadline and never repeated: a pool decides what is worth a second try. Calls of any number of threads
share connections.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from slipway_bundle import Arrays, ModelLike, RowCodec, TensorSpec
from slipway_bundle.row_fields import DTYPES
from slipway_serve.far_end import (
    ANSWER_BYTES,
    NO_HEADERS,
    OUTPUTS,
    Address,
    FarEnd,
    RemoteFailed,
    RemoteUnavailable,
    Sent,
    parse_remote,
)
from slipway_serve.far_model import READABLE, compare_tensors, specs_of
from slipway_serve.problems import Problem
from slipway_serve.protocol import SERVER_NAME
from slipway_serve.tensors import TensorReader, shown

TIMEOUT_S: Final = 30.0
"""Of a call outside `with_deadline`."""
CONNECT_S: Final = 10.0


class RemoteModel:
    """Weights that are somewhere else; made by `connect`. Thread-safe: a deadline is its own thread's."""

    def __init__(
        self,
        address: Address,
        far: FarEnd,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        is_whole_step: bool,
    ) -> None:
        self.address: Final = address
        self.outputs: tuple[str, ...] = tuple(spec.name for spec in outputs)
        """Names of the far model's outputs."""
        self.is_whole_step: Final = is_whole_step
        """The outputs are the answer's fields: the model's `compute` has run there."""
        self._far = far
        self._inputs = {spec.name: spec for spec in inputs}
        self._outputs = tuple(outputs)
        self._own = threading.local()

    def __call__(self, batch: Arrays) -> Arrays:
        """One call to the far end: input name → array to output name → array; the leading axis counts rows.

        Blocks up to the deadline, or 30 s without one.

        Raises:
            RemoteFailed: the arrays are not what the far model takes, it refused them, or its answer is something else.
            RemoteUnavailable: it cannot be reached, is overloaded, or did not answer in time.
        """
        deadline: float | None = getattr(self._own, "deadline", None)
        timeout_s = TIMEOUT_S if deadline is None else deadline - time.monotonic()
        if timeout_s <= 0:
            raise RemoteUnavailable(f"there was no time left to call {self.address.url}")
        sent = self._sent(batch)
        rows = len(sent[0].array) if sent else 0
        try:
            headers: Mapping[str, str] = getattr(self._own, "headers", NO_HEADERS)
            given = self._far.infer(sent, self.outputs, timeout_s, headers)
            arrays, answered = TensorReader(self._outputs, max(rows, 1), OUTPUTS).read(given)
        except Problem as problem:
            raise RemoteFailed(f"{self.address.url} answered something else: {problem.detail}") from problem
        if answered != rows:
            raise RemoteFailed(f"{self.address.url} answered {answered} rows, expected {rows}")
        return arrays

    @contextmanager
    def with_deadline(self, seconds: float, headers: Mapping[str, str] = NO_HEADERS) -> Iterator[None]:
        """Bound the calls that this thread makes inside the block: all of them together may take `seconds`.

        `headers` say on whose behalf they are made: the trace that they belong to.
        """
        before: float | None = getattr(self._own, "deadline", None)
        before_headers: Mapping[str, str] = getattr(self._own, "headers", NO_HEADERS)
        self._own.deadline, self._own.headers = time.monotonic() + seconds, headers
        try:
            yield
        finally:
            self._own.deadline, self._own.headers = before, before_headers

    def close(self) -> None:
        """Close the connections; calls that run fail."""
        self._far.close()

    def _sent(self, batch: Arrays) -> list[Sent]:
        if batch.keys() != self._inputs.keys():
            got = f"{shown(batch) or 'no tensors'}, expected {shown(self._inputs)}"
            hint = "`compute` calls `weights` with the far model's own inputs"
            raise RemoteFailed(f"{self.address.url} was to be called with {got}", hint=hint)
        sent: list[Sent] = []
        for name, spec in self._inputs.items():
            array = np.asarray(batch[name])
            is_text = array.dtype.kind in "OSU"
            if is_text != (spec.datatype == "BYTES") or not (
                is_text or np.can_cast(array.dtype, DTYPES[spec.datatype], "same_kind")
            ):
                raise RemoteFailed(f"{self.address.url} takes {spec.datatype} for {name!r}, got {array.dtype}")
            if len(spec.shape) == 1 and array.ndim == 1:
                array = array.reshape(-1, 1)  # a scalar field that is a column there
            sent.append(Sent(spec, array))
        return sent


def connect(
    url: str, model: ModelLike, inputs: RowCodec[Any], outputs: RowCodec[Any], *, timeout_s: float = CONNECT_S
) -> RemoteModel:
    """Connect a declared model to the server that computes it, and compare their tensors; blocks up to `timeout_s`.

    Args:
        url: `grpc://host:port/model`, or grpcs, http, https.
        model: the declaration. With a `compute` of its own, its rows are not what a server other than slipway takes:
            then its tensors are compared when `compute` calls.
        inputs: codec of its rows.
        outputs: codec of its answers.
        timeout_s: of all questions together, in seconds.

    Raises:
        ConfigError: the URL has another form.
        RemoteMismatch: a tensor is missing there, or has another datatype or shape; it is named.
        RemoteUnavailable, RemoteFailed: the far end did not answer, or has no such model.
    """
    address = parse_remote(url)
    far = _far_end(address)
    deadline = time.monotonic() + timeout_s
    try:
        is_whole = far.server_name(timeout_s) == SERVER_NAME
        described = far.describe(max(0.001, deadline - time.monotonic()))
        if is_whole or model.function is None:
            compare_tensors(address, "input", inputs.specs, described.inputs)
        wanted = [tensor for tensor in described.outputs if tensor.datatype in READABLE]
        if is_whole:
            compare_tensors(address, "output", outputs.specs, described.outputs)
            fields = {spec.name for spec in outputs.specs}
            wanted = [tensor for tensor in wanted if tensor.name in fields]
        taken = specs_of(address, described.inputs, inputs.specs)
        given = specs_of(address, wanted, outputs.specs)
    except BaseException:
        far.close()
        raise
    return RemoteModel(address, far, taken, given, is_whole_step=is_whole)


def _far_end(address: Address) -> FarEnd:
    """Imported late: a service that calls REST only needs no gRPC."""
    if address.scheme.startswith("grpc"):
        from slipway_serve.oip.client import GrpcEnd

        return GrpcEnd(address, ANSWER_BYTES)
    from slipway_serve.remote_rest import RestEnd

    return RestEnd(address, ANSWER_BYTES)
