"""A service brought to life: declarations bound to weights, lanes, resources; ready when it has proved itself.

Method order is the order of a process's life: load, start (warm up, open, prove), serve, drain, stop. It knows no HTTP:
the server wraps it, `local` wraps it for tests, runners will wrap it in their own process.
"""

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec
from msgspec import Struct

from slipway_bundle import BundleView, ConfigError, ServiceLike
from slipway_bundle.array_json import decode_array
from slipway_runtime import Pool
from slipway_runtime.dispatch.spec import PoolSpec
from slipway_runtime.keyed_pool import KeyedPool
from slipway_runtime.pool_client import PoolClient
from slipway_serve.call import Call, current_call
from slipway_serve.concurrency import Offloader
from slipway_serve.config import ModelRuntime, RuntimeConfig
from slipway_serve.examples import example_of
from slipway_serve.lane import Lane, LaneObserver
from slipway_serve.lanes import lane_here, lane_in_pool, lane_remote, stream_here
from slipway_serve.options import PoolAccess
from slipway_serve.pools import pools_of, spec_of
from slipway_serve.service import Model, Resource, Service, StreamModel
from slipway_serve.streams import StreamLane
from slipway_serve.watching import Watching
from slipway_signals.slots import Slots

logger = logging.getLogger(__name__)

OFFLOAD_THREADS: Final = 8
OFFLOAD_BACKLOG: Final = 64
PROOF_TIMEOUT_S: Final = 30.0
WATCHING_CLOSE_S: Final = 5.0
MEBIBYTE: Final = 1024 * 1024


class PoolMembership(NamedTuple):
    """How an engine's process takes part in runner pools."""

    access: PoolAccess
    generation: int
    name: str
    """Of the process, for the dispatcher's words."""


class ModelLoad(NamedTuple):
    """One model's weights came into memory and made their first prediction; on `time.monotonic()`."""

    model: str
    started: float
    ended: float


class EngineObserver(LaneObserver, Protocol):
    """What an engine reports beside the events of its lanes."""

    def model_loaded(self, model: str, digest: str, seconds: float) -> None:
        """A model's weights are in memory."""

    def model_ready(self, model: str, *, is_ready: bool) -> None:
        """Loading begins: until it is over the model cannot answer here."""


class Engine:
    """One service in one process.

    Args:
        service: the declarations.
        view: the bundle or folder that holds their weights.
        config: the decoded `[runtime]` table.
        observer: hears of loads, batches, refusals and failures.
        membership: how runner pools are reached; None: what is placed in a pool runs in this process.
        slots: where watchers of rows count; None: nobody watches.
    """

    def __init__(
        self,
        service: Service,
        view: BundleView,
        config: RuntimeConfig,
        observer: EngineObserver,
        membership: PoolMembership | None = None,
        slots: Slots | None = None,
    ) -> None:
        self.service: Final = service
        self.view: Final = view
        self.config: Final = config
        self.offloader: Final = Offloader(OFFLOAD_THREADS, OFFLOAD_BACKLOG)
        self.is_ready = False
        self.is_draining = False
        self._observer = observer
        self._membership = membership
        self._slots = slots
        self.watching: Watching | None = None
        self.loads: list[ModelLoad] = []
        """Weights that this process has loaded, and proved."""
        self._client: PoolClient | None = None
        self._lanes: dict[str, Lane] = {}
        self._streams: dict[str, StreamLane] = {}
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
        pooled = await self._join_pools()
        for name, model in self.service.models.items():
            self._lanes[name] = self._make_lane(model, pooled.get(name))
            self.examples[name] = example_builtins(self.view, model)
        for name, stream in self.service.streams.items():
            started = time.monotonic()
            self._observer.model_ready(name, is_ready=False)
            runtime = self.config.models.get(name, ModelRuntime())
            self._streams[name] = stream_here(stream, self.view.models[name], runtime, self._observer)
            await self._streams[name].prove(example_row(self.view, stream), PROOF_TIMEOUT_S)
            self._loaded(name, started)
        for name, resource in self.service.resources.items():
            self._opened[name] = await self._stack.enter_async_context(self._opener(name, resource))
        for name, lane in self._lanes.items():
            started = time.monotonic()
            await self._prove(name)
            if lane.load_s is not None:
                self._loaded(name, started - lane.load_s)
        if self._slots is not None:
            self.watching = Watching(self.view, self.service.models, self.config, self._slots)
            for lane in self._lanes.values():  # from now on: the rows above were ours
                lane.watch = self.watching.of(lane)
        self.is_ready = True

    def _loaded(self, model: str, started: float) -> None:
        ended = time.monotonic()
        self.loads.append(ModelLoad(model, started, ended))
        self._observer.model_loaded(model, self.view.digest or "", ended - started)

    def lane(self, model: str) -> Lane:
        """The lane of a declared model."""
        return self._lanes[model]

    def stream_lane(self, model: str) -> StreamLane:
        """The source of a declared stream model."""
        return self._streams[model]

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
        for stream in self._streams.values():
            await stream.drain(max(0.0, deadline - time.monotonic()))
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
                lane.close()
            for stream in self._streams.values():
                await stream.drain(0.0)
            if self._client is not None:
                await self._client.close()
            if self.watching is not None:
                await asyncio.to_thread(self.watching.close, WATCHING_CLOSE_S)

    async def _join_pools(self) -> dict[str, PoolSpec]:
        """Connect to the dispatcher when a model is in a pool: model → its pool."""
        membership = self._membership
        planned = pools_of(self.config, self.view.name, self.service.models)
        if membership is None or not planned:
            return {}
        devices = membership.access.devices
        specs = [spec_of(pool, self.config, membership.generation, devices.get(pool.label, "")) for pool in planned]
        self._client = PoolClient(
            membership.access.path,
            name=membership.name,
            pools=specs,
            slab_bytes=self.config.server.slab_mb * MEBIBYTE,
        )
        await self._client.connect(self.config.server.start_s)
        return {model.name: spec for spec in specs for model in spec.models}

    def _make_lane(self, model: Model[Any, Any], pool: PoolSpec | None) -> Lane:
        runtime = self.config.models.get(model.name, ModelRuntime())
        if runtime.remote is not None:
            return lane_remote(model, self.view.models[model.name], runtime, self._observer)
        if pool is not None and self._client is not None:
            return lane_in_pool(model, self.view.models[model.name], runtime, self._observer, self._client, pool)
        self._observer.model_ready(model.name, is_ready=False)
        return lane_here(model, self.view, runtime, self._observer)

    def _check_declared(self) -> None:
        declared, present = {*self.service.models, *self.service.streams}, set(self.view.models)
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
        key, payload = lane.inputs.pack_keyed(row)
        timeout_s = PROOF_TIMEOUT_S
        match lane.pool:
            case Pool():
                await lane.pool.warm(cast("bytes", payload))
            case KeyedPool():
                await lane.pool.warm(payload, key=key)
            case _:  # runners warm themselves up; the first of them may still be loading
                timeout_s = self.config.server.start_s
        await lane.one(row, time.monotonic() + timeout_s)


def example_builtins(view: BundleView, model: Model[Any, Any] | StreamModel[Any, Any]) -> object:
    """One row of a model as JSON builtins: the first golden example, or one made from the schema."""
    golden = next((golden for golden in view.golden if golden.model == model.name), None)
    return example_of(model.row) if golden is None else msgspec.json.decode(golden.input)


def example_row(view: BundleView, model: Model[Any, Any] | StreamModel[Any, Any]) -> Struct:
    """The same as a row of the model."""
    row: Struct = msgspec.convert(example_builtins(view, model), model.row, dec_hook=decode_array)
    return row


def service_of(candidate: ServiceLike) -> Service:
    """The loaded entry, as a `Service`.

    Raises:
        ConfigError: the entry names something else.
    """
    if not isinstance(candidate, Service):
        raise ConfigError(f"entry is a {type(candidate).__name__}, expected a slipway_serve.Service")
    return candidate
