"""A service brought to life: declarations bound to weights, lanes, resources; ready when it has proved itself.

Method order is the order of a process's life: load, start (warm up, open, prove), serve, drain, stop. It knows no HTTP:
the server wraps it, `local` wraps it for tests, runners will wrap it in their own process.
"""

import logging
import time
from contextlib import AsyncExitStack
from typing import Any, Final, Protocol

import msgspec

from slipway_bundle import BundleView, ConfigError, ServiceLike
from slipway_bundle.array_json import decode_array
from slipway_serve.call import Call, current_call
from slipway_serve.concurrency import Offloader
from slipway_serve.config import ModelRuntime, RuntimeConfig
from slipway_serve.examples import example_of
from slipway_serve.lane import Lane, LaneObserver
from slipway_serve.service import Resource, Service

logger = logging.getLogger(__name__)

OFFLOAD_THREADS: Final = 8
OFFLOAD_BACKLOG: Final = 64
PROOF_TIMEOUT_S: Final = 30.0


class EngineObserver(LaneObserver, Protocol):
    """What an engine reports beside the events of its lanes."""

    def model_loaded(self, model: str, digest: str, seconds: float) -> None:
        """A model's weights are in memory."""


class Engine:
    """One service in one process.

    Args:
        service: the declarations.
        view: the bundle or folder that holds their weights.
        config: the decoded `[runtime]` table.
        observer: hears of loads, batches, refusals and failures.
    """

    def __init__(self, service: Service, view: BundleView, config: RuntimeConfig, observer: EngineObserver) -> None:
        self.service: Final = service
        self.view: Final = view
        self.config: Final = config
        self.offloader: Final = Offloader(OFFLOAD_THREADS, OFFLOAD_BACKLOG)
        self.is_ready = False
        self.is_draining = False
        self._observer = observer
        self._lanes: dict[str, Lane] = {}
        self._opened: dict[str, object] = {}
        self._stack = AsyncExitStack()
        self.examples: dict[str, Any] = {}
        """Model name → one row as JSON builtins: the first golden example, or one made from the schema."""

    async def start(self) -> None:
        """Load the weights, open the resources, warm up, and answer one row per model. Then, and only then, ready.

        Raises:
            ConfigError: the service and its configuration do not match.
            SlipwayError: weights cannot be loaded, or a model cannot answer.
        """
        self._check_declared()
        for name, model in self.service.models.items():
            runtime = self.config.models.get(name, ModelRuntime())
            self._lanes[name] = Lane(model, self.view.models[name], runtime, self._observer)
            self.examples[name] = self._example(name, model.row)
        for name, resource in self.service.resources.items():
            self._opened[name] = await self._stack.enter_async_context(self._opener(name, resource))
        for name, lane in self._lanes.items():
            started = time.monotonic()
            await self._prove(name)
            self._observer.model_loaded(name, self.view.digest or "", lane.load_s + time.monotonic() - started)
        self.is_ready = True

    def lane(self, model: str) -> Lane:
        """The lane of a declared model."""
        return self._lanes[model]

    def resource(self, name: str) -> object:
        """What the opener of a declared resource yielded."""
        return self._opened[name]

    def call(self, deadline: float, headers: list[tuple[bytes, bytes]]) -> Call:
        """Begin answering a request in this task: handlers below see this engine and deadline."""
        call = Call(self, deadline, headers)
        current_call.set(call)
        return call

    async def drain(self, timeout_s: float) -> None:
        """Refuse new rows, finish those in the queues; blocks up to `timeout_s`."""
        self.is_draining = True
        deadline = time.monotonic() + timeout_s
        for lane in self._lanes.values():
            await lane.pool.drain(max(0.0, deadline - time.monotonic()))

    async def stop(self) -> None:
        """Close the resources in reverse order and let the threads go. Errors of one do not keep the others open."""
        self.is_ready = False
        try:
            await self._stack.aclose()
        finally:
            self.offloader.close()
            for lane in self._lanes.values():
                await lane.pool.drain(0.0)

    def _check_declared(self) -> None:
        declared, present = set(self.service.models), set(self.view.models)
        if declared != present:
            raise ConfigError(
                f"service {self.service.name!r} and slipway.toml do not name the same models: "
                f"declared {sorted(declared)}, [bundle.models] has {sorted(present)}",
                hint="the name given to `service.model(...)` is the key in slipway.toml",
            )
        unknown = {**self.config.models, **dict.fromkeys(self.config.publish)}.keys() - declared
        if unknown:
            raise ConfigError(f"[runtime] names model {min(unknown)!r}, expected one of {sorted(declared)}")
        unused = self.config.resources.keys() - self.service.resources.keys()
        if unused:
            raise ConfigError(f"[runtime.resources] has {min(unused)!r}, which the service does not declare")

    def _example(self, name: str, row: type[Any]) -> object:
        golden = next((golden for golden in self.view.golden if golden.model == name), None)
        return example_of(row) if golden is None else msgspec.json.decode(golden.input)

    def _opener(self, name: str, resource: Resource[Any]) -> Any:  # a context manager of the user's own type
        if resource.settings is None:
            return resource.opener()
        try:
            settings: object = msgspec.convert(self.config.resources.get(name, {}), resource.settings)
        except msgspec.ValidationError as error:
            raise ConfigError(f"`[runtime.resources.{name}]` cannot be used: {error}") from error
        return resource.opener(settings)

    async def _prove(self, name: str) -> None:
        """Warm the lane up, and answer one row through the whole of it: readiness is this, not a constant."""
        lane = self._lanes[name]
        row = msgspec.convert(self.examples[name], self.service.models[name].row, dec_hook=decode_array)
        await lane.pool.warm(lane.inputs.pack(row))
        await lane.one(row, time.monotonic() + PROOF_TIMEOUT_S)


def service_of(candidate: ServiceLike) -> Service:
    """The loaded entry, as a `Service`.

    Raises:
        ConfigError: the entry names something else.
    """
    if not isinstance(candidate, Service):
        raise ConfigError(f"entry is a {type(candidate).__name__}, expected a slipway_serve.Service")
    return candidate
