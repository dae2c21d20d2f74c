"""ONNX graphs through onnxruntime, on the CPU or a GPU: inputs and outputs by the graph's own names.

The graph decides datatypes; a row's floats travel as FP32 and are widened where it asks for more. The invariant: a
tensor of the row goes to the graph's input of the same name, or, when the graph has one matrix `[n, k]`, to the column
that `columns` says; a graph with its batch axis fixed, or with tensors in other files, is refused at load.
Source: onnxruntime Python API.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from slipway_bundle.adapters.onnx_feeds import make_feeds
from slipway_bundle.adapters.onnx_scan import check_model, looks_like_model
from slipway_bundle.config import ModelConfig
from slipway_bundle.schema import Arrays, Floats, TensorSpec
from slipway_bundle.weights import (
    DeviceError,
    MissingLibraryError,
    PredictError,
    WeightsError,
    WeightsFile,
    WeightsFormatError,
    refuse_missing,
)

FORMAT = "onnx"
FLOATS: Floats = "FP32"
TAKES_MISSING = False

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_CUDA_OPTIONS = {
    "arena_extend_strategy": "kSameAsRequested",  # several models share a GPU: none doubles what it holds
    "cudnn_conv_algo_search": "HEURISTIC",  # the default tries every algorithm for each new shape: keyed rows have many
}
"""https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html."""


def save(model: Any, path: Path) -> None:
    """Writes an `onnx.ModelProto`, or the bytes of one; equal graphs, equal bytes.

    Raises:
        WeightsError: It is neither.
        WeightsFormatError: It is malformed or keeps tensors in other files.
    """
    if not isinstance(model, bytes):
        if not hasattr(model, "SerializeToString"):
            raise WeightsError(f"{type(model).__name__!r} is not an ONNX model, expected a ModelProto or bytes")
        model = model.SerializeToString(deterministic=True)
    check_model(model)
    path.write_bytes(model)


def sniff(head: bytes, name: str) -> bool:  # noqa: ARG001  # ONNX files carry any name
    """Whether this is an ONNX model: the protobuf has no magic, but its first fields are telling."""
    return looks_like_model(head)


def load(
    file: WeightsFile,
    config: ModelConfig,
    inputs: tuple[TensorSpec, ...],
    *,
    threads: int = 1,
    device: str = "cpu",
) -> "OnnxWeights":
    """Loads a graph for rows with these tensors. See `weights.Adapter.load`."""
    refuse_missing(inputs, "onnx")
    check_model(file.view())
    runtime = _runtime()
    providers = _providers(runtime, device)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        with file.opened() as source:  # a path: onnxruntime keeps the bytes that it was given beside its own copy
            session = runtime.InferenceSession(source, options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no class but Exception
        raise WeightsFormatError(f"onnxruntime does not load {config.file!r}: {error}") from error
    if device == "cuda" and _CUDA not in session.get_providers():
        raise DeviceError(  # onnxruntime itself would go on with the CPU, a hundred times slower, without a word
            f"onnxruntime could not open the device 'cuda': got the providers {', '.join(session.get_providers())}",
            hint="check the driver (`nvidia-smi`), and the CUDA and cuDNN libraries that onnxruntime-gpu was built for",
        )
    return OnnxWeights(session, config, inputs)


class OnnxWeights:
    """A loaded graph: `weights(batch)` runs it once and gives every output."""

    outputs: tuple[str, ...]

    def __init__(self, session: Any, config: ModelConfig, inputs: tuple[TensorSpec, ...]) -> None:
        self._session = session
        self.outputs = tuple(output.name for output in session.get_outputs() if output.type.startswith("tensor("))
        if not self.outputs:
            raise WeightsError(
                f"{config.file!r} gives no tensors, only sequences or maps",
                hint="export without ZipMap: `options={'zipmap': False}`",
            )
        self._feeds = make_feeds(session.get_inputs(), config, inputs)

    def __call__(self, batch: Arrays) -> Arrays:
        """The outputs of a batch. Raises RowError, PredictError."""
        feeds = {name: feed(batch) for name, feed in self._feeds.items()}
        try:
            found = self._session.run(self.outputs, feeds)
        except Exception as error:  # onnxruntime's exceptions share no class but Exception
            raise PredictError(f"onnxruntime refused the batch: {error}") from error
        return dict(zip(self.outputs, found, strict=True))


def _providers(runtime: ModuleType, device: str) -> list[str | tuple[str, dict[str, str]]]:
    """The execution providers of a device, the first one first.

    Raises:
        DeviceError: The device is unknown, or the installed onnxruntime was built without it.
    """
    if device == "cpu":
        return [_CPU]
    if device != "cuda":
        raise DeviceError(f"ONNX graphs do not run on the device {device!r}, expected 'cpu' or 'cuda'")
    available = runtime.get_available_providers()
    if _CUDA not in available:
        raise DeviceError(
            f"the installed onnxruntime cannot use the device 'cuda': got {', '.join(available)}, expected {_CUDA}",
            hint="install `onnxruntime-gpu` in the place of `onnxruntime`, they share one module",
        )
    return [(_CUDA, _CUDA_OPTIONS), _CPU]


def _runtime() -> ModuleType:
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        hint = "install the extra: `uv add 'slipway-bundle[onnx]'`"
        raise MissingLibraryError(f"onnxruntime is not installed: {error}", hint=hint) from error
    runtime.disable_telemetry_events()
    return runtime
