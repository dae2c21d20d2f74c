"""Which processes a plan needs: API workers, for runner pools a dispatcher and the runners, each with its place, for
capture a compactor, for traces an exporter.

It starts none (`slipway_runtime.supervisor` does). The invariants: what is said to a process is decided here and
nowhere else; a plan whose pools do not fit this machine is refused before anything runs, with the arithmetic.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from slipway_bundle import BundleView
from slipway_runtime.hardware import Inventory
from slipway_runtime.listeners import PATH_BYTES, Listener, listen_unix
from slipway_runtime.placement import Placement, Slot, place
from slipway_runtime.supervision import WorkerSpec
from slipway_serve.access.config import AccessConfig
from slipway_serve.agreement import check_agreement
from slipway_serve.config import RuntimeConfig, ServerConfig
from slipway_serve.options import (
    CompactorOptions,
    DispatcherOptions,
    ExporterOptions,
    PoolAccess,
    RunnerOptions,
    WorkerOptions,
)
from slipway_serve.pools import PlannedPool, demands_of, pools_of
from slipway_signals.logs import LoggingConfig
from slipway_signals.traces_pipe import open_pipe
from slipway_signals.tracing import TracingConfig, resolve_tracing

ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""N workers whose libraries each take all cores would fight; `[runtime.models]` and the environment can say more."""
RUNNER_STAGE: Final = 1
"""All others drain after the API workers, which still need them, or leave them work."""
API: Final = "api-"
DISPATCHER: Final = "dispatcher"
EXPORTER: Final = "exporter"
SOCKET: Final = "dispatcher.sock"


class Service(Struct, frozen=True):
    """One target of a plan."""

    target: str
    view: BundleView
    runtime: RuntimeConfig

    @property
    def pools(self) -> tuple[PlannedPool, ...]:
        """Its runner pools."""
        return pools_of(self.runtime, self.view.name, self.view.models)


class Tree:
    """Makes the specifications of one server's processes, for its first plan and for each that replaces it.

    Args:
        store: root of the local store.
        environment: the processes' own, before what is added here.
        server: addresses and processes.
        listener: where clients connect; None: no API workers are made.
        grpc_port: reserved for all API workers; None when gRPC is off.
        inventory: what the machine has.
    """

    def __init__(
        self,
        *,
        store: Path,
        environment: Mapping[str, str],
        server: ServerConfig,
        listener: Listener | None,
        grpc_port: int | None,
        inventory: Inventory,
    ) -> None:
        self._store = store
        self._environment = environment
        self._server = server
        self._listener = listener
        self._grpc_port = grpc_port
        self._inventory = inventory
        self._switchboard: Listener | None = None
        self._folder: Path | None = None
        self._traces: tuple[int, int] | None = None
        self._usage: dict[str | None, int] = {}

    def placed(self, services: Iterable[Service]) -> Placement:
        """A slot for each runner.

        Raises:
            PlacementError: they do not fit this machine.
        """
        return place(self._inventory, demands_of([pool for service in services for pool in service.pools]))

    def specs(self, services: Sequence[Service]) -> list[WorkerSpec]:
        """Every process that these services need.

        Raises:
            ConfigError, PlacementError: the pools contradict each other, or do not fit this machine; a variable of
                traces cannot be followed; services differ in what they share.
        """
        check_agreement([(service.view.name, service.runtime) for service in services])
        placement = self.placed(services)
        names = [f"{API}{index}" for index in range(self._server.workers)] if self._listener is not None else []
        compactors = [self._compactor(service) for service in services if names and service.runtime.capture.enabled]
        tracing = resolve_tracing(services[0].runtime.tracing, self._environment) if names else None
        beside = compactors if tracing is None else [*compactors, self._exporter(tracing, services[0].runtime.logging)]
        if not placement.slots:
            return [*(self._worker(name, services, None, tracing) for name in names), *beside]
        folder, switchboard = self._open_switchboard()
        access = PoolAccess(path=str(folder / SOCKET), devices=shared_devices(services, placement))
        workers = [self._worker(name, services, access, tracing) for name in names]
        slots = {(slot.pool, slot.replica): slot for slot in placement.slots}
        runners = [
            self._runner(service, pool, slots[pool.label, index], access)
            for service in services
            for pool in service.pools
            for index in range(pool.config.replicas + pool.config.standby)
        ]
        return [*workers, self._dispatcher(switchboard, services[0].runtime.logging), *runners, *beside]

    @property
    def path(self) -> Path:
        """Of the dispatcher's socket, which is opened with the first pool."""
        return self._open_switchboard()[0] / SOCKET

    def close(self) -> None:
        """Remove the dispatcher's socket and its folder, close the pipe of traces and the table of limits."""
        traces, self._traces = self._traces, None
        for fd in (*(traces or ()), *self._usage.values()):
            os.close(fd)
        self._usage.clear()
        if self._switchboard is not None and self._folder is not None:
            self._switchboard.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _open_switchboard(self) -> tuple[Path, Listener]:
        """The socket where API workers and runners reach the dispatcher, in a folder that only this user may enter.

        It is the supervisor's, so that who connects while a dispatcher is being replaced waits and is not refused.
        """
        if self._switchboard is None or self._folder is None:
            folder = Path(tempfile.mkdtemp(prefix="slipway-"))
            if len(os.fsencode(folder / SOCKET)) > PATH_BYTES:
                folder.rmdir()
                folder = Path(tempfile.mkdtemp(prefix="slipway-", dir="/tmp"))  # mkdtemp makes it safe
            self._folder = folder
            self._switchboard = listen_unix(folder / SOCKET, mode=0o600)
        return self._folder, self._switchboard

    def _open_traces(self) -> tuple[int, int]:
        """The pipe from API workers to the exporter. It is the supervisor's, so that it outlives both."""
        if self._traces is None:
            self._traces = open_pipe()
        return self._traces

    def _open_usage(self, access: AccessConfig) -> int | None:
        """The table of what clients have used, if any are limited: the supervisor's, so that all workers share it."""
        if not access.has_limits:
            return None
        if access.state not in self._usage:
            from slipway_serve.access.usage import open_usage

            self._usage[access.state] = open_usage(None if access.state is None else Path(access.state))
        return self._usage[access.state]

    def _worker(
        self, name: str, services: Sequence[Service], access: PoolAccess | None, tracing: TracingConfig | None
    ) -> WorkerSpec:
        fds = () if self._listener is None else (self._listener.fd,)
        traces_fd = None if tracing is None else self._open_traces()[1]
        usage_fd = self._open_usage(services[0].runtime.access)
        options = WorkerOptions(
            name=name,
            targets=tuple(service.target for service in services),
            runtimes=tuple(service.runtime for service in services),
            store=str(self._store),
            server=self._server,
            limits=services[0].runtime.limits,
            listen_fds=fds,
            grpc_port=self._grpc_port,
            pools=access,
            traces_fd=traces_fd,
            usage_fd=usage_fd,
            slipway_version=version("slipway-serve"),
        )
        return WorkerSpec(
            name=name,
            argv=_argv("worker", options),
            env={**ONE_THREAD, **self._environment},
            pass_fds=(*fds, *(fd for fd in (traces_fd, usage_fd) if fd is not None)),
        )

    def _dispatcher(self, switchboard: Listener, logging: LoggingConfig) -> WorkerSpec:
        return WorkerSpec(
            name=DISPATCHER,
            argv=_argv("dispatch", DispatcherOptions(listen_fd=switchboard.fd, logging=logging)),
            env=self._environment,
            pass_fds=(switchboard.fd,),
            stage=RUNNER_STAGE,
            rolls=False,
        )

    def _exporter(self, tracing: TracingConfig, logging: LoggingConfig) -> WorkerSpec:
        """One for the server; it stays when services are swapped: two readers would tear lines apart."""
        reading = self._open_traces()[0]
        return WorkerSpec(
            name=EXPORTER,
            argv=_argv("exporter", ExporterOptions(traces_fd=reading, tracing=tracing, logging=logging)),
            env=self._environment,
            pass_fds=(reading,),
            stage=RUNNER_STAGE,
            rolls=False,
        )

    def _compactor(self, service: Service) -> WorkerSpec:
        return WorkerSpec(
            name=f"{service.view.name}-compactor",
            argv=_argv("compactor", CompactorOptions(capture=service.runtime.capture, logging=service.runtime.logging)),
            env={**ONE_THREAD, **self._environment},
            stage=RUNNER_STAGE,
        )

    def _runner(self, service: Service, pool: PlannedPool, slot: Slot, access: PoolAccess) -> WorkerSpec:
        name = f"{pool.label}-{slot.replica}"
        options = RunnerOptions(
            name=name,
            target=service.target,
            runtime=service.runtime,
            store=str(self._store),
            pool=pool.name,
            pools=access,
            threads=slot.threads,
            device="cuda" if slot.device else "cpu",
            cpus=slot.cpus,
            slipway_version=version("slipway-serve"),
        )
        return WorkerSpec(
            name=name,
            argv=_argv("runner", options),
            env={**self._environment, **slot.environment},
            stage=RUNNER_STAGE,
        )


def _argv(
    module: str, options: WorkerOptions | RunnerOptions | DispatcherOptions | CompactorOptions | ExporterOptions
) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", f"slipway_serve.{module}", msgspec.json.encode(options).decode())


def shared_devices(services: Sequence[Service], placement: Placement) -> dict[str, str]:
    """Label of a pool → the device that it takes turns on: its GPU, or the processors when it limits `concurrency`."""
    shared: dict[str, str] = {}
    for service in services:
        for pool in service.pools:
            devices = {slot.device for slot in placement.slots if slot.pool == pool.label}
            if len(devices) == 1 and (devices != {""} or pool.config.concurrency):
                shared[pool.label] = devices.pop() or "cpu"
    return shared
