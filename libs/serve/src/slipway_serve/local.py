"""A service in a test, without a server: `with local(service, folder=FOLDER) as app: app.call(predict, row)`.

The engine, the lanes and the batching are the real ones; only HTTP is absent. Values are re-validated on the way in,
because constructing a Struct checks nothing.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from slipway_bundle import ConfigError, open_folder
from slipway_runtime import SilentObserver
from slipway_serve.config import load_runtime
from slipway_serve.engine import Engine
from slipway_serve.service import Endpoint, Model, Service

TIMEOUT_S: Final = 30.0

Request = TypeVar("Request")
Response = TypeVar("Response")
Row = TypeVar("Row", bound=Struct)
Answer = TypeVar("Answer", bound=Struct)


class Unobserved(SilentObserver):
    """Hears nothing: tests look at answers, not at metrics."""

    def invalid(self, model: str, rows: int) -> None:
        """Keep nothing."""

    def model_loaded(self, model: str, digest: str, seconds: float) -> None:
        """Keep nothing."""


class Local:
    """A running service; made by `local`."""

    def __init__(self, engine: Engine, runner: asyncio.Runner, timeout_s: float) -> None:
        self._engine = engine
        self._runner = runner
        self._timeout_s = timeout_s

    def call(self, target: "Endpoint[Any, Response] | Model[Any, Any]", request: Any) -> Any:
        """What a client would get from this endpoint or model for `request`; blocks for at most the timeout.

        Raises:
            msgspec.ValidationError: the request breaks its own type's constraints.
            SlipwayError: as the handler or the lane raises it.
        """
        return self._runner.run(self._answer(target, request))

    def map(self, model: "Model[Row, Answer]", rows: list[Row]) -> list[Answer]:
        """The model's answers to many rows, batched."""
        return self._runner.run(self._answers(model, rows))

    async def _answer(self, target: "Endpoint[Any, Any] | Model[Any, Any]", request: object) -> object:
        self._engine.call(time.monotonic() + self._timeout_s, [])
        if isinstance(target, Endpoint):  # what a client would have sent; a model's lane re-validates by itself
            request = msgspec.json.decode(msgspec.json.encode(request), type=target.takes)
        return await target(request)

    async def _answers(self, model: "Model[Row, Answer]", rows: list[Row]) -> list[Answer]:
        self._engine.call(time.monotonic() + self._timeout_s, [])
        return await model.map(rows)


@contextmanager
def local(
    service: Service,
    *,
    folder: Path,
    lane: Literal["in_process", "pool"] = "in_process",
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Local]:
    """Run a service out of its folder for the length of a `with` block.

    Args:
        service: the declarations, imported by the test.
        folder: where its `slipway.toml` is.
        lane: where models run; `pool` arrives with runner pools.
        timeout_s: deadline of each call, in seconds.

    Raises:
        ConfigError: lane `pool` is asked for, or the configuration is wrong.
    """
    if lane != "in_process":
        raise ConfigError(f"lane {lane!r} is not there yet, expected 'in_process'")
    view = open_folder(folder)
    config, _ = load_runtime(view.runtime, {}, {})
    with asyncio.Runner() as runner:
        engine = Engine(service, view, config, Unobserved())
        try:
            runner.run(engine.start())
            yield Local(engine, runner, timeout_s)
        finally:
            runner.run(engine.stop())
