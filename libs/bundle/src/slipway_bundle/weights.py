"""Weights: what an adapter loads, what it computes, and how its outputs become the fields of an answer.

It knows no format; `adapters/` has one module for each, imported only when a model of that format is loaded (importing
some of them costs seconds). The invariant: names are never guessed. An output is a name of the format's closed set,
and a field of the answer gets one by configuration, by having that name, or because there is only one of each.
Source: `docs/service-api.md`.
"""

import difflib
import importlib
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast, runtime_checkable

from msgspec import Struct
from numpy.typing import NDArray

from slipway_bundle.config import ModelConfig
from slipway_bundle.errors import HostError, IntegrityError, SlipwayError, UsageError
from slipway_bundle.schema import Arrays, Floats, TensorSpec

FORMATS: tuple[str, ...] = ("xgboost", "sklearn", "onnx", "safetensors")
"""Each is the name of a module under `slipway_bundle.adapters`."""


class WeightsError(UsageError):
    """The weights and the row do not fit each other: columns, missing values, outputs."""

    code = "weights_mismatch"


class WeightsFormatError(IntegrityError):
    """The weights file is not what its format says, or not one that is safe to load."""

    code = "weights_malformed"


class DeviceError(UsageError):
    """Weights of this format cannot run on the device that they are placed on."""

    code = "device_unsupported"


class PredictError(SlipwayError):
    """The weights refused a batch."""

    code = "predict_failed"
    exit_status = 1


class MissingLibraryError(HostError):
    """The library of a format is not installed, or cannot be loaded on this machine."""

    code = "library_missing"


_DESCRIPTORS: Final = Path("/proc/self/fd")
"""Where a process's open files have paths (proc(5))."""


@runtime_checkable
class Weights(Protocol):
    """Loaded weights: a batch of columns to the format's raw named outputs. The same in every lane."""

    def __call__(self, batch: Arrays) -> Arrays:
        """Computes the outputs of a batch; the leading axis counts rows."""
        ...


@runtime_checkable
class NamedWeights(Weights, Protocol):
    """What adapters return: weights that say what they can compute."""

    outputs: tuple[str, ...]
    """The closed set of this model's output names."""


class WeightsFile(Struct, frozen=True):
    """Where weights are: a plain file, or a byte range inside a layer blob (4096-aligned)."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """All bytes of the range.

        Raises:
            HostError: The file cannot be read.
            WeightsFormatError: The file is shorter than the range.
        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read(self.size)
        except OSError as error:
            raise HostError(f"{str(self.path)!r} cannot be read: {error}") from error
        if len(data) != self.size:
            raise WeightsFormatError(f"{str(self.path)!r} is truncated: expected {self.size} bytes, got {len(data)}")
        return data

    def view(self) -> memoryview:
        """The bytes of the range, mapped and read-only: read when used, and shared by all processes that map them.

        Raises:
            HostError: The file cannot be read.
            WeightsFormatError: The file is shorter than the range, or the range is empty.
        """
        try:
            with self.path.open("rb") as stream:
                mapped = mmap.mmap(stream.fileno(), self.offset + self.size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise HostError(f"{str(self.path)!r} cannot be read: {error}") from error
        except ValueError as error:
            raise WeightsFormatError(f"{str(self.path)!r} is truncated: {error}") from error
        return memoryview(mapped)[self.offset : self.offset + self.size]

    @contextmanager
    def opened(self) -> Iterator[str | bytes]:
        """A path for a library that reads one whole file; the bytes themselves where there is no such path.

        A range inside a larger file is copied into memory that goes away with the context, or with the process.
        """
        if self.offset == 0 and self.size == self.path.stat().st_size:
            yield str(self.path)
        elif not hasattr(os, "memfd_create") or not _DESCRIPTORS.is_dir():
            yield self.read()
        else:
            copy = os.memfd_create("weights", os.MFD_CLOEXEC)
            try:
                with self.path.open("rb") as stream:
                    at, end = self.offset, self.offset + self.size
                    while at < end and (sent := os.sendfile(copy, stream.fileno(), at, end - at)):
                        at += sent
                yield str(_DESCRIPTORS / str(copy))
            finally:
                os.close(copy)

    @classmethod
    def whole(cls, path: Path) -> "WeightsFile":
        """The range that is the whole of a plain file. Raises HostError when there is no such file."""
        try:
            return cls(path, 0, path.stat().st_size)
        except OSError as error:
            raise HostError(f"{str(path)!r} cannot be read: {error}") from error


class Adapter(Protocol):
    """One module under `adapters/`."""

    FORMAT: str
    FLOATS: Floats
    """How the rows' plain `float` fields travel to these weights."""

    TAKES_MISSING: bool
    """Whether a NaN is a missing value for these weights."""

    def save(self, model: Any, path: Path) -> None:
        """Writes a trained model; the same model gives the same bytes."""
        ...

    def sniff(self, head: bytes, name: str) -> bool:
        """Whether the first bytes (4096 are enough) and the name are this format's."""
        ...

    def load(
        self,
        file: WeightsFile,
        config: ModelConfig,
        inputs: tuple[TensorSpec, ...],
        *,
        threads: int = 1,
        device: str = "cpu",
    ) -> NamedWeights:
        """Loads weights for rows with these tensors.

        Args:
            file: Where the weights are.
            config: The model's table.
            inputs: The tensors of a row; empty when a `compute` function makes the arrays.
            threads: Of the format's own library.
            device: "cpu", or "cuda" for the first GPU that this process sees (ONNX only).

        Raises:
            WeightsError: Weights and row do not fit.
            DeviceError: The format does not run on `device`, or this machine's library does not.
            WeightsFormatError: The file is malformed, or not safe.
            MissingLibraryError: The format's library is not installed.
        """
        ...


def adapter_for(name: str) -> Adapter:
    """The adapter of a format. Raises UsageError for an unknown format; imports no heavy library by itself."""
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}, expected one of {', '.join(FORMATS)}", hint=nearest(name, FORMATS))
    return cast("Adapter", importlib.import_module(f"slipway_bundle.adapters.{name}"))


def bind_outputs(outputs: Mapping[str, str], available: Sequence[str], fields: Sequence[str]) -> dict[str, str]:
    """Which output answers each field: what `predict` takes as its mapping.

    Args:
        outputs: `outputs` of the model's table, field -> output.
        available: The closed set of the loaded weights.
        fields: The tensor names of the answer.

    Raises:
        WeightsError: A field has no output, or a name in the mapping is unknown.
    """
    for field, output in outputs.items():
        if field not in fields:
            raise WeightsError(
                f"`outputs` names the field {field!r}, expected one of {', '.join(fields)}", hint=nearest(field, fields)
            )
        if output not in available:
            raise WeightsError(
                f"`outputs.{field}` is {output!r}, expected one of {', '.join(available)}",
                hint=nearest(output, available),
            )
    bound = dict(outputs)
    for field in fields:
        if field in bound:
            continue
        if field in available:
            bound[field] = field
        elif len(fields) == len(available) == 1:
            bound[field] = available[0]
        else:
            raise WeightsError(
                f"no output answers the field {field!r}: the weights give {', '.join(available) or 'none'}",
                hint=f'write `outputs = {{ {field} = "{available[0] if available else "…"}" }}` in the model\'s table '
                "of slipway.toml, or define `compute`",
            )
    return bound


def predict(weights: Weights, outputs: Mapping[str, str], batch: Arrays) -> Arrays:
    """The default compute: calls the weights and renames. An empty mapping keeps the names."""
    found = weights(batch)
    return {field: found[output] for field, output in outputs.items()} if outputs else found


class LazyOutputs(Mapping[str, "NDArray[Any]"]):
    """Outputs that are computed when read, once each: a service that reads a probability pays for no margin."""

    __slots__ = ("_found", "_make")

    def __init__(self, make: Mapping[str, Callable[[], NDArray[Any]]]) -> None:
        self._make = make
        self._found: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self._make[name]()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)


def nearest(name: str, known: Sequence[str]) -> str | None:
    """A hint with the nearest known name, or None."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else None


def refuse_device(device: str, name: str) -> None:
    """Raises DeviceError when weights of a format that runs on the CPU alone are placed elsewhere."""
    if device != "cpu":
        raise DeviceError(
            f"weights of the format {name!r} run on the CPU alone, got the device {device!r}, expected 'cpu'",
            hint='set `device = "cpu"` in the pool of the model, or export the model to ONNX',
        )


def refuse_missing(inputs: Sequence[TensorSpec], name: Literal["sklearn", "onnx", "safetensors"]) -> None:
    """Raises WeightsError when a field may be missing but the format does not take NaN."""
    nullable = [spec.name for spec in inputs if spec.nullable]
    if nullable:
        raise WeightsError(
            f"the format {name!r} takes no missing values, but {', '.join(map(repr, nullable))} may be missing",
            hint="declare the fields `float` and impute before the request, or use xgboost",
        )
