"""Stream models as the Open Inference Protocol sees them: tensors to a prompt, each item to tensors of one row.

It drives no generator (streams.py) and writes no response (calls.py, server.py). The invariants: prompts and items are
tensors by the same codecs as the rows of ordinary models, and a prompt goes the way that server-sent events go, from
`StreamModel.__call__` on. A stream model whose fields cannot be tensors is served over HTTP only; asking for it is
refused in the words that an ordinary model is refused with at start-up.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple, cast

import msgspec

from slipway_bundle import Arrays, BundleView, ConfigError, RowError, TensorSpec
from slipway_bundle.description import ModelLike, codecs
from slipway_serve.config import LimitsConfig, RuntimeConfig
from slipway_serve.engine import Engine
from slipway_serve.inference import Unpublished, metadata_of, published_models, version_of
from slipway_serve.lane import AnswerError
from slipway_serve.problems import Problem
from slipway_serve.service import Model, StreamModel
from slipway_serve.stream_reply import IDLE_S, Paced
from slipway_serve.tensor_model import TensorModel
from slipway_serve.tensors import Given


class StreamTensors(TensorModel):
    """Answers the requests for one stream model: a row of tensors in, rows of tensors out.

    Args:
        engine: where the model's stream lane is.
        model: its declaration.
        limits: the longest deadline.
        idle_s: seconds in which the next item must come.

    Raises:
        SchemaError: a field of the prompt or of the items cannot be a tensor.
    """

    def __init__(
        self, engine: Engine, model: StreamModel[Any, Any], limits: LimitsConfig, idle_s: float = IDLE_S
    ) -> None:
        prompts, items = codecs(cast("ModelLike", model), engine.view.models[model.name].config.format)
        asked = cast("Engine", _Tensors(engine.view, engine.config, prompts.specs, items.specs))
        like = cast("Model[Any, Any]", model)  # name and deadline class, which both kinds have
        super().__init__(asked, like, version_of(engine), msgspec.structs.replace(limits, rows=1))
        self.metadata: Final = metadata_of(asked, like)
        self._engine = engine
        self._model = model
        self._prompts = prompts
        self._items = items
        self._idle_s = idle_s

    async def infer(self, tensors: Iterable[Given], deadline: float) -> Arrays:  # noqa: ARG002  # of ordinary models
        """Refuses: one answer cannot hold a stream.

        Raises:
            Problem: 400, naming the call that answers.
        """
        path = self._model.path
        raise Problem(
            400,
            "stream_only",
            f"model {self.name!r} is a stream model, got `ModelInfer`, expected `ModelStreamInfer`",
            hint=None if path is None else f"over HTTP, POST {path} answers it as server-sent events",
        )

    async def items(self, tensors: Iterable[Given], deadline: float) -> AsyncIterator[Arrays]:
        """Open a stream: each item as name → array of one row. Closing this iterator closes the generator.

        Raises:
            Problem: 400, the tensors are not one prompt of this model; 504, no item came in time.
            RowError: a value breaks the schema; its path is that in the request.
            AnswerError: an item cannot be the tensors of its schema.
            Refused, DeadlineExceeded, ModelFailed: as the stream lane raises them.
        """
        prompt = self._prompt(list(tensors))
        self._engine.call(deadline, [])
        async with aclosing(cast("Any", self._model(prompt))) as opened:  # a generator, declared as an iterator
            async for item in Paced(opened, deadline, self._idle_s):
                yield self._row(item)

    def _prompt(self, given: Sequence[Given]) -> msgspec.Struct:
        arrays, _ = self._reader.read(given)
        try:
            key, payload = self._prompts.pack_arrays_keyed(arrays)
        except RowError as error:
            raise self._located(error, given) from error
        prompt = self._prompts.rows(self._prompts.batch([payload], key))[0]
        if isinstance(prompt, RowError):  # its own `__post_init__` refused it
            raise Problem(422, prompt.code, prompt.message.replace(" of the model's answer", ""), path=prompt.path)
        return cast("msgspec.Struct", prompt)

    def _row(self, item: msgspec.Struct) -> Arrays:
        try:
            key, payload = self._items.pack_keyed(item)
        except RowError as error:
            raise AnswerError(f"an item of stream model {self.name!r} is no row of tensors: {error.message}") from error
        return self._items.batch([payload], key)


class UnpublishedHere(Unpublished):
    """What to say about models and versions that are not there over gRPC, where stream models are.

    Args:
        engines: of the server.
        streams: as `published_streams` found them.
    """

    def __init__(self, engines: Sequence[Engine], streams: dict[str, tuple[Engine, StreamModel[Any, Any]]]) -> None:
        super().__init__(engines)
        self._versions |= {name: version_of(engine) for name, (engine, _) in streams.items()}
        self._inner |= {name for engine in engines for name in engine.service.streams} - set(streams)


def published_streams(engines: Sequence[Engine]) -> dict[str, tuple[Engine, StreamModel[Any, Any]]]:
    """Name → engine and declaration of every stream model with a path, or named by `[runtime] publish`.

    Raises:
        ConfigError: two services publish the same model.
    """
    published: dict[str, tuple[Engine, StreamModel[Any, Any]]] = {}
    owners = {name: engine for name, (engine, _) in published_models(engines).items()}
    for engine in engines:
        for name, stream in engine.service.streams.items():
            if stream.path is None and name not in engine.config.publish:
                continue
            if name in owners:
                raise ConfigError(
                    f"services {owners[name].service.name!r} and {engine.service.name!r} both publish a model "
                    f"{name!r} over gRPC, expected different names in one server",
                    hint="rename one, or serve them in two processes",
                )
            owners[name] = engine
            published[name] = (engine, stream)
    return published


class _Tensors(NamedTuple):
    """What tensors of a model are asked of its engine, for a model that has no lane of rows."""

    view: BundleView
    config: RuntimeConfig
    input_specs: tuple[TensorSpec, ...]
    output_specs: tuple[TensorSpec, ...]

    def lane(self, model: str) -> "_Tensors":  # noqa: ARG002  # of one model
        """The tensors."""
        return self
