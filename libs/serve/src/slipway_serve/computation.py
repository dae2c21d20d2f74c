"""One model's weights and its `compute`, in whichever process has them: an API worker or a runner.

It batches nothing and knows no queue. The invariant: a batch that leaves here has one array for every field of the
answer, each with as many rows as the batch, whatever the user's `compute` returned.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from slipway_bundle import (
    Arrays,
    LoadedModel,
    ModelLike,
    RowCodec,
    SlipwayError,
    TensorSpec,
    Weights,
    adapter_for,
    predict,
)
from slipway_bundle.columns import encode_columns
from slipway_bundle.description import codecs
from slipway_bundle.weights import NamedWeights, WeightsError, WeightsFormatError, bind_outputs

Payload = bytes | memoryview


class ComputeError(SlipwayError):
    """A `compute` function or the weights gave arrays that do not fit the answer's schema."""

    code = "compute_invalid"


class Computation:
    """Loads a model's weights and computes batches with them. Thread-safe as far as the weights are.

    Args:
        model: the declaration.
        loaded: its weights' file and configuration, out of a bundle or folder.
        threads: of the model's own library.
        device: `cpu` or `cuda`.
        weights: already there (a remote model); loaded from the file when None.
        is_whole: the weights give the answer's fields themselves: no `compute` runs here.

    Raises:
        WeightsError, WeightsFormatError: the file does not fit the model; the message names the model.
    """

    def __init__(
        self,
        model: ModelLike,
        loaded: LoadedModel,
        *,
        threads: int,
        device: str = "cpu",
        weights: NamedWeights | None = None,
        is_whole: bool = False,
    ) -> None:
        started = time.monotonic()
        self.name: Final = model.name
        inputs, outputs = codecs(model, loaded.config.format)
        self.inputs: Final[RowCodec[Any]] = inputs
        self.outputs: Final[RowCodec[Any]] = outputs
        if weights is None:
            specs = inputs.specs if model.function is None else ()
            weights = load_weights(model.name, loaded, specs, threads=threads, device=device)
        self.weights: Final = weights
        fields = [spec.name for spec in outputs.specs]
        function: Callable[[Weights, Arrays], Arrays]
        if is_whole:
            function = partial(_default, {})
        elif model.function is not None:
            function = model.function
        else:
            function = partial(_default, bind_outputs(loaded.config.outputs, self.weights.outputs, fields))
        self._function: Final = function
        self.load_s: Final = time.monotonic() - started

    def compute(self, key: bytes, payloads: Sequence[Payload], rows: int) -> Arrays:
        """The answers to one batch of rows with this key: field → array `[rows, …]`."""
        arrays = self._function(self.weights, self.inputs.batch(payloads, key))
        for spec in self.outputs.specs:
            array = arrays.get(spec.name)
            if array is None:
                raise ComputeError(
                    f"model {self.name!r} answered without {spec.name!r}, got {sorted(arrays)}",
                    hint="`compute` returns one array per field of the answer",
                )
            if len(array) != rows:
                raise ComputeError(f"model {self.name!r} answered {len(array)} rows of {spec.name!r}, expected {rows}")
        return arrays

    def encode(self, result: object, start: int, stop: int) -> bytes:
        """Rows `[start, stop)` of what `compute` returned, for another process."""
        if not isinstance(result, Mapping):
            raise TypeError(f"this is a bug in slipway: a computation gave {type(result)!r}")
        return encode_columns({spec.name: result[spec.name] for spec in self.outputs.specs}, start, stop)


def load_weights(
    model: str, loaded: LoadedModel, specs: tuple[TensorSpec, ...], *, threads: int, device: str = "cpu"
) -> NamedWeights:
    """The weights of a model, for rows with these tensors.

    Raises:
        WeightsError, WeightsFormatError: they do not fit; the message names the model.
    """
    adapter = adapter_for(loaded.config.format)
    try:
        return adapter.load(loaded.file, loaded.config, specs, threads=threads, device=device)
    except (WeightsError, WeightsFormatError) as error:
        raise type(error)(f"model {model!r} cannot be loaded: {error.message}", hint=error.hint) from error


def _default(bound: Mapping[str, str], weights: Weights, batch: Arrays) -> Arrays:
    return predict(weights, bound, batch)
