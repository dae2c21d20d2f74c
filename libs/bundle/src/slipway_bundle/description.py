"""What a service says about itself, and the shape by which the bundle room sees a service object.

It imports no service: `describe.py` does, in a child process. The invariant: a `ServiceDescription` is data only, so it
can cross a process border, be stored in a bundle, and be compared. Source: `docs/service-api.md`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from slipway_bundle.config import Format
from slipway_bundle.rows import RowCodec
from slipway_bundle.schema import Arrays, ModelSchema
from slipway_bundle.weights import Weights, adapter_for

__all__ = ["EndpointDescription", "ModelLike", "ServiceDescription", "ServiceLike", "codecs", "model_schema"]


class EndpointDescription(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One HTTP route of a service."""

    path: str
    method: str = "POST"
    request: dict[str, object] = {}
    """JSON Schema of the request body; empty when there is none."""

    response: dict[str, object] = {}
    """JSON Schema of the response body."""


class ServiceDescription(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A service as data: its name, the tensors of its models, its routes."""

    name: str
    models: dict[str, ModelSchema] = {}
    endpoints: tuple[EndpointDescription, ...] = ()


class ModelLike(Protocol):
    """A model as the bundle room sees it; `slipway_serve.Model` satisfies it by shape."""

    @property
    def name(self) -> str:
        """Key in `slipway.toml`."""

    @property
    def row(self) -> type[Struct]:
        """The Struct of one input row."""

    @property
    def answer(self) -> type[Struct]:
        """The Struct of one answer."""

    @property
    def function(self) -> Callable[[Weights, Arrays], Arrays] | None:
        """The service's own `compute`, or None for the weights' outputs as they are."""


class ServiceLike(Protocol):
    """A service as the bundle room sees it; `slipway_serve.Service` satisfies it by shape."""

    @property
    def name(self) -> str:
        """The service's name."""

    @property
    def models(self) -> Mapping[str, ModelLike]:
        """Name -> model."""

    def describe(self) -> ServiceDescription:
        """The service as data."""


def codecs(model: ModelLike, format: Format) -> tuple[RowCodec[Any], RowCodec[Any]]:  # noqa: A002 - the field's word
    """The codecs of a model's rows and answers; the weights' format decides the width of floats.

    Raises:
        SchemaError: The Structs cannot be rows, or need a missing value that the format cannot take.
    """
    adapter = adapter_for(format)
    takes_missing = adapter.TAKES_MISSING or model.function is not None
    inputs: RowCodec[Any] = RowCodec(model.row, floats=adapter.FLOATS, missing=takes_missing)
    outputs: RowCodec[Any] = RowCodec(model.answer, floats="FP64", missing=False)
    return inputs, outputs


def model_schema(model: ModelLike, format: Format) -> ModelSchema:  # noqa: A002 - the field's word
    """The tensors of one model. Raises SchemaError as `codecs` does."""
    inputs, outputs = codecs(model, format)
    return ModelSchema(inputs=inputs.specs, outputs=outputs.specs)
