"""What a supervisor tells the processes it starts: one value each, which crosses the process border as JSON."""

from typing import Final

from msgspec import Struct

from slipway_serve.config import LimitsConfig, RuntimeConfig, ServerConfig
from slipway_signals.capture.config import CaptureConfig
from slipway_signals.logs import LoggingConfig
from slipway_signals.tracing import TracingConfig

GC_ALLOCATIONS: Final = 50_000
"""Young objects between two collections. What was loaded before is frozen: a full collection of it held up every
request in flight for 30 ms, once or twice a second (p99 at 64 connections: 35 ms with, 4 ms without)."""


class PoolAccess(Struct, frozen=True, kw_only=True):
    """How a process reaches the dispatcher, and which pools share a device."""

    path: str
    """Of the dispatcher's Unix socket."""
    devices: dict[str, str] = {}
    """Label of a pool → the device that all its replicas share with other pools."""


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """An API worker's."""

    name: str = "api"
    targets: tuple[str, ...]
    """Bundles (references into the store) or service folders."""
    runtimes: tuple[RuntimeConfig, ...]
    """One decoded `[runtime]` table per target, in their order."""
    store: str
    server: ServerConfig
    limits: LimitsConfig
    listen_fds: tuple[int, ...]
    grpc_port: int | None = None
    """None: no gRPC."""
    pools: PoolAccess | None = None
    """None: no model runs in a runner."""
    traces_fd: int | None = None
    """Writing end of the pipe to the exporter; None: no traces."""
    usage_fd: int | None = None
    """Table of what clients have used; None: nobody is limited."""
    slipway_version: str


class RunnerOptions(Struct, frozen=True, kw_only=True):
    """A runner's."""

    name: str
    target: str
    runtime: RuntimeConfig
    store: str
    pool: str
    """Its name in the configuration."""
    pools: PoolAccess
    threads: int
    device: str
    """`cpu` or `cuda`."""
    cpus: tuple[int, ...] | None = None
    """Processors to stay on; None = all."""
    slipway_version: str


class CompactorOptions(Struct, frozen=True, kw_only=True):
    """A compactor's."""

    capture: CaptureConfig
    logging: LoggingConfig = LoggingConfig()


class ExporterOptions(Struct, frozen=True, kw_only=True):
    """The exporter's, of traces."""

    traces_fd: int
    """Reading end of the pipe."""
    tracing: TracingConfig
    """As `resolve_tracing` gave it: with an endpoint."""
    logging: LoggingConfig = LoggingConfig()


class DispatcherOptions(Struct, frozen=True, kw_only=True):
    """The dispatcher's."""

    listen_fd: int
    logging: LoggingConfig = LoggingConfig()
