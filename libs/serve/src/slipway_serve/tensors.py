"""The tensors of one request of the Open Inference Protocol, whichever way it came: what is given, checked, read.

It checks the form (names, datatypes, shapes) and says where it is wrong as a path into the request; tensor_data.py
reads the elements, and the values are checked by the row codec that takes the arrays. REST (inference.py) and gRPC
(oip) say what they were given in the words of `Given`; so a request is judged in one place.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from numpy.typing import NDArray

from slipway_bundle import TensorSpec
from slipway_serve.protocol import BinarySize, RequestInput, ResponseOutput
from slipway_serve.tensor_data import BinaryData, JsonData, refusal, to_binary, to_json

INPUTS: Final = "$.inputs"
NAMES_SHOWN: Final = 12


class TensorData(Protocol):
    """The elements of one tensor, in whichever form they came."""

    def array(self, spec: TensorSpec, shape: tuple[int, ...]) -> NDArray[Any]:
        """The elements as `shape`; raises Problem 400 when they do not fit."""


class Given(NamedTuple):
    """One input as the client gave it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: TensorData
    path: str
    """Of the tensor in the request, e.g. `$.inputs[0]`."""
    data_path: str
    """Of its elements, e.g. `$.inputs[0].data`."""
    is_shared: bool = False
    """The data is said to be in a shared memory region."""


class Wanted(NamedTuple):
    """One output to answer."""

    spec: TensorSpec
    is_binary: bool


class TensorReader:
    """Reads the inputs of requests for one model, or the outputs of a remote one.

    Args:
        specs: the tensors that are expected, without the batch axis.
        max_rows: rows in one message at most.
        at: path of the tensors in the message.
    """

    def __init__(self, specs: Sequence[TensorSpec], max_rows: int, at: str = INPUTS) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._max_rows = max_rows
        self._at = at

    def read(self, tensors: Iterable[Given]) -> tuple[dict[str, NDArray[Any]], int]:
        """Name → array `[rows, *shape]`, and the number of rows.

        Raises:
            Problem: 400; a tensor is missing, unknown or doubled, or its datatype, shape or data do not fit.
        """
        arrays: dict[str, NDArray[Any]] = {}
        rows = 0
        for given in tensors:
            spec = self._spec(given, arrays)
            shape = self._shape(given, spec, rows)
            rows = shape[0]
            arrays[spec.name] = given.data.array(spec, shape)
        if len(arrays) < len(self._specs):
            missing = [name for name in self._specs if name not in arrays]
            raise refusal("tensor_missing", self._at, f"no tensor {shown(missing)}", f"{shown(self._specs)}")
        return arrays, rows

    def _spec(self, given: Given, arrays: Mapping[str, NDArray[Any]]) -> TensorSpec:
        path = given.path
        spec = self._specs.get(given.name)
        if spec is None:
            near = difflib.get_close_matches(given.name[:200], self._specs, 1)
            hint = f"did you mean {near[0]!r}?" if near else None
            raise refusal("tensor_unknown", f"{path}.name", repr(given.name[:200]), shown(self._specs), hint=hint)
        if given.name in arrays:
            raise refusal("tensor_doubled", f"{path}.name", f"{given.name!r} a second time", "each tensor once")
        if given.datatype != spec.datatype:
            got = repr(given.datatype[:40])
            raise refusal("datatype_mismatch", f"{path}.datatype", got, f"{spec.datatype} for {spec.name!r}")
        if given.is_shared:
            raise refusal(
                "shared_memory",
                f"{path}.parameters.shared_memory_region",
                "a shared memory region",
                "the data in the request",
                hint="the extension `system_shared_memory` is not served",
            )
        return spec

    def _shape(self, given: Given, spec: TensorSpec, rows: int) -> tuple[int, ...]:
        """The shape in full, `[rows, *spec.shape]`; a scalar field may also come as a column `[rows, 1]`."""
        path, shape = given.path, given.shape
        expected = (rows or -1, *spec.shape)
        if len(shape) == 2 and shape[1] == 1 and not spec.shape:
            shape = shape[:1]
        if len(shape) != len(expected):
            got = f"{len(given.shape)} dimensions ({_listed(given.shape)})"
            raise refusal("shape_mismatch", f"{path}.shape", got, f"{len(expected)} ({_listed(expected)})")
        if not 1 <= shape[0] <= self._max_rows:
            raise refusal("rows_exceeded", f"{path}.shape[0]", f"{shape[0]}", f"1 to {self._max_rows} rows")
        for axis, (length, size) in enumerate(zip(shape, expected, strict=True)):
            if length != size and (size != -1 or length < 1):
                said = f"{size}{', the rows of the first tensor' if axis == 0 else ''}" if size != -1 else "at least 1"
                raise refusal("shape_mismatch", f"{path}.shape[{axis}]", f"{length}", f"{said} ({_listed(expected)})")
        return shape


def given_tensors(members: Sequence[RequestInput], binary: memoryview, at: str = INPUTS) -> Iterator[Given]:
    """The inputs of a REST request, or the outputs of an answer, one by one.

    Args:
        members: of the JSON.
        binary: the bytes behind it, in their order.
        at: path of the members in the JSON.

    Raises:
        Problem: 400; `binary_data_size` does not fit the bytes that are there.
    """
    for index, given in enumerate(members):
        path = f"{at}[{index}]"
        data_path = f"{path}.data"
        size = None if given.parameters is None else given.parameters.binary_data_size
        data: TensorData
        if size is None:
            data = JsonData(given.data, given.shape, data_path)
        else:
            size_path = f"{path}.parameters.binary_data_size"
            if not 0 <= size <= len(binary):
                expected = f"0 to {len(binary)}, the bytes left behind the JSON"
                raise refusal("data_mismatch", size_path, f"{size}", expected)
            if memoryview(given.data):
                raise refusal("data_mismatch", data_path, "given beside `binary_data_size`", "one of the two")
            data = BinaryData(binary[:size], path, size_path)
            binary = binary[size:]
        is_shared = given.parameters is not None and given.parameters.shared_memory_region is not None
        yield Given(given.name, given.datatype, given.shape, data, path, data_path, is_shared)
    if binary:
        raise refusal("data_mismatch", at, f"{len(binary)} bytes behind the last tensor", "none")


def write_outputs(
    arrays: Mapping[str, NDArray[Any]], wanted: Iterable[Wanted]
) -> tuple[tuple[ResponseOutput, ...], list[bytes]]:
    """The answer's tensors as members of a REST answer, and the binary data that follows the JSON, in the same order.

    Args:
        arrays: name → array; the leading axis counts rows.
        wanted: what to answer, in this order.

    Raises:
        Problem: 400; bytes that are not text were asked for as JSON.
    """
    outputs: list[ResponseOutput] = []
    binary: list[bytes] = []
    for spec, is_binary in wanted:
        array = arrays[spec.name]
        size = None
        data = None
        if is_binary:
            binary.append(to_binary(array, spec))
            size = BinarySize(len(binary[-1]))
        else:
            data = to_json(array, spec)
        shape = shape_of(array, spec)
        outputs.append(ResponseOutput(name=spec.name, datatype=spec.datatype, shape=shape, parameters=size, data=data))
    return tuple(outputs), binary


def shape_of(array: NDArray[Any], spec: TensorSpec) -> tuple[int, ...]:
    """The shape that is answered: a column `[rows, 1]` of a scalar field is answered as `[rows]`."""
    return array.shape[:1] if array.ndim == 2 and not spec.shape else array.shape


def shown(names: Iterable[str]) -> str:
    """Names for a message; of very many, the first ones."""
    listed = list(names)
    rest = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(map(repr, listed[:NAMES_SHOWN])) + rest


def _listed(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape[:8]))}{', …' if len(shape) > 8 else ''}]"
