"""A service in a test, without a server: `with local(service, folder=FOLDER) as app: app.call(predict, row)`.

The engine, the lanes and the batching are the real ones; only HTTP is absent. Values are re-validated on the way in,
because constructing a Struct checks nothing.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from slipway_bundle import ConfigError, open_folder
from slipway_runtime import SilentObserver
from slipway_serve.config import load_runtime
from slipway_serve.engine import Engine
from slipway_serve.local_pools import pooled, running_pools, unplaced
from slipway_serve.service import Declared, Endpoint, Model, Service, StreamEndpoint, StreamModel

TIMEOUT_S: Final = 30.0

Request = TypeVar("Request")
Row = TypeVar("Row", bound=Struct)
Answer = TypeVar("Answer", bound=Struct)


class Unobserved(SilentObserver):
    """Hears nothing: tests look at answers, not at metrics."""

    def invalid(self, model: str, rows: int) -> None:
        """Keep nothing."""

    def model_loaded(self, model: str, digest: str, seconds: float) -> None:
        """Keep nothing."""

    def model_ready(self, model: str, *, is_ready: bool) -> None:
        """Keep nothing."""


class Local:
    """A running service; made by `local`."""

    def __init__(self, engine: Engine, runner: asyncio.Runner, timeout_s: float) -> None:
        self._engine = engine
        self._runner = runner
        self._timeout_s = timeout_s

    def call(self, target: Declared, request: Any) -> Any:
        """What a client would get from this target, of a stream all items; blocks for at most the timeout.

        Raises:
            msgspec.ValidationError: the request breaks its own type's constraints.
            SlipwayError: as the handler or the lane raises it.
        """
        return self._runner.run(self._answer(target, request))

    def map(self, model: "Model[Row, Answer]", rows: list[Row]) -> list[Answer]:
        """The model's answers to many rows, batched."""
        return self._runner.run(self._answers(model, rows))

    async def _answer(self, target: Declared, request: object) -> object:
        call = self._engine.call(time.monotonic() + self._timeout_s, [])
        if isinstance(target, Endpoint):
            call.produces = target.produces[0]
        if isinstance(target, Endpoint | StreamEndpoint):  # as a client would have sent it; lanes re-validate
            request = msgspec.json.decode(msgspec.json.encode(request), type=target.takes)
        if isinstance(target, StreamModel | StreamEndpoint):
            async with asyncio.timeout(self._timeout_s):
                return [item async for item in target(request)]
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
        lane: where models run: in this process, or each in runner processes, whatever `[runtime]` says.
        timeout_s: deadline of each call, in seconds.

    Raises:
        ConfigError: the configuration is wrong, or there is no such lane.
        LocalPoolError: a runner cannot start.
    """
    if lane not in {"in_process", "pool"}:
        raise ConfigError(f"lane is {lane!r}, expected 'in_process' or 'pool'")
    view = open_folder(folder)
    config, _ = load_runtime(view.runtime, {}, {})
    with ExitStack() as opened:
        membership = None
        if lane == "pool":
            config = pooled(config, service.models)
            membership = opened.enter_context(running_pools(folder, view, config))
        else:
            config = unplaced(config)
        runner = opened.enter_context(asyncio.Runner())
        engine = Engine(service, view, config, Unobserved(), membership)
        try:
            runner.run(engine.start())
            yield Local(engine, runner, timeout_s)
        finally:
            runner.run(engine.stop())
