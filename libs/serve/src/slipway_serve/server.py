"""`slipway serve`: the supervisor's side. Opens the sockets, starts the API workers, shows their metrics, stops them.

This process imports no model, no service and no web framework: it stays small, and nothing a model does can end it.

    status = serve(["churn:g1a2b3c4-5d6e7f809a1b"], store=Path("…/store"), environment=os.environ, flags={"workers": 2})
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from slipway_bundle import BundleView, Policy, Store, UsageError
from slipway_runtime.hardware import Device, Inventory
from slipway_runtime.inventory import read_inventory
from slipway_runtime.listeners import Listener, listen_tcp, listen_unix
from slipway_runtime.nvml import load_nvml, read_devices
from slipway_runtime.supervision import SupervisorEvent, SupervisorLimits, WorkerState
from slipway_runtime.supervisor import Supervisor
from slipway_serve.access.tls import server_tls
from slipway_serve.config import RuntimeConfig, ServerConfig, Setting, load_runtime
from slipway_serve.oip.ports import reserve_port
from slipway_serve.reload import Watcher
from slipway_serve.swap import Swapper
from slipway_serve.tree import API, Service, Tree
from slipway_serve.trusted import open_allowed
from slipway_signals import Slots, SupervisorMetrics
from slipway_signals.admin import Admin, start_admin
from slipway_signals.capture.label_state import LabelsCollector
from slipway_signals.collector import MergedCollector, make_registry
from slipway_signals.processes import DeviceCollector, ProcessCollector

Say = Callable[[str], None]
JSON: Final = "application/json"
DRAIN_MARGIN_S: Final = 5.0
"""How much longer than a worker's own drain the supervisor waits before it kills."""


class Plan(Struct, frozen=True):
    """What will be served, decided before anything is opened or started."""

    targets: tuple[str, ...]
    """Folders, and bundles by digest: a reference that moves later changes nothing that runs."""
    views: tuple[BundleView, ...]
    runtimes: tuple[RuntimeConfig, ...]
    settings: tuple[Setting, ...]
    """Server and limit settings with their origins, for `--print-config`."""
    policy: Policy = Policy()
    """What may be served, now and by a swap."""

    @property
    def services(self) -> tuple[Service, ...]:
        """The targets, each with what it is and how it runs."""
        return tuple(map(Service, self.targets, self.views, self.runtimes))

    @property
    def server(self) -> ServerConfig:
        """Addresses and processes: the first target's, under environment and flags."""
        return self.runtimes[0].server

    def pins(self, store: Store) -> list[AbstractContextManager[None]]:
        """Contexts that keep the served bundles from garbage collection."""
        exact = zip(self.targets, self.views, strict=True)
        return [store.pin(store.find(target).descriptor) for target, view in exact if view.digest is not None]


def plan(
    targets: Sequence[str],
    *,
    store: Path,
    environment: Mapping[str, str],
    flags: Mapping[str, object],
    policy: Policy = Policy(),  # noqa: B008 - frozen
) -> Plan:
    """Find the targets and decode their configuration.

    Args:
        targets: bundle references or service folders; several are served under their names.
        store: root of the local store.
        environment: where `SLIPWAY_*` is looked up.
        flags: keys of `[runtime.server]` given on the command line; None means not given.
        policy: what may be served; each target is judged before anything of it is opened.

    Raises:
        PolicyRefusedError: a target that `policy` refuses.
        SlipwayError: a target does not exist, or a configuration is wrong.
    """
    if not targets:
        raise UsageError("nothing to serve", hint="give a bundle reference or a service folder")
    opened = Store.open(store)
    views = tuple(open_allowed(target, opened, policy) for target in targets)
    loaded = [load_runtime(view.runtime, environment, flags) for view in views]
    exact = tuple(
        target if view.digest is None else f"{view.name}@{view.digest}"
        for target, view in zip(targets, views, strict=True)
    )
    return Plan(exact, views, tuple(runtime for runtime, _ in loaded), loaded[0][1], policy)


def serve(
    targets: Sequence[str],
    *,
    store: Path,
    environment: Mapping[str, str],
    flags: Mapping[str, object],
    reload: bool = False,
    policy: Policy = Policy(),  # noqa: B008 - frozen
    say: Say | None = None,
) -> int:
    """Serve until SIGTERM or Ctrl-C, then drain. Blocks; main thread only.

    Args:
        targets: as in `plan`.
        store: root of the local store.
        environment: the workers' environment too.
        flags: as in `plan`.
        reload: watch service folders and replace the workers when a file changes.
        policy: as in `plan`.
        say: told one line for each thing a person wants to know.

    Returns:
        The exit status: 0 after a clean drain, 130 after Ctrl-C, or why no worker could start.

    Raises:
        SlipwayError: nothing could be started: a target, the configuration, a port.
    """
    planned = plan(targets, store=store, environment=environment, flags=flags, policy=policy)
    with ExitStack() as pins:
        for pin in planned.pins(Store.open(store)):
            pins.enter_context(pin)
        return _run(planned, store, environment, reload=reload, say=say or (lambda _: None))


def _run(planned: Plan, store: Path, environment: Mapping[str, str], *, reload: bool, say: Say) -> int:
    """Open, start, supervise, close."""
    server = planned.server
    server_tls(server)  # what is wrong with it is said before anything is opened
    inventory = read_inventory(allowed_devices=environment.get("CUDA_VISIBLE_DEVICES"))
    with ExitStack() as opened:
        listener = listen_unix(Path(server.uds)) if server.uds is not None else listen_tcp(server.host, server.port)
        opened.callback(listener.close)
        grpc_port: int | None = None
        if server.grpc:
            reserved = reserve_port(server.host, server.grpc_port)
            opened.callback(reserved.close)
            grpc_port = reserved.port
        tree = Tree(
            store=store,
            environment=environment,
            server=server,
            listener=listener,
            grpc_port=grpc_port,
            inventory=inventory,
        )
        opened.callback(tree.close)
        specs = tree.specs(planned.services)
        collector = MergedCollector()
        metrics = _supervisor_metrics(collector)
        events = _Events(metrics, listener, say)
        supervisor = Supervisor(
            specs,
            on_event=events,
            limits=SupervisorLimits(
                start_timeout_s=server.start_s, drain_timeout_s=server.drain_s + server.stop_s + DRAIN_MARGIN_S
            ),
            slots=collector,
        )
        events.supervisor = supervisor
        swapper = Swapper(supervisor, tree, planned.services, store, environment, planned.policy)
        opened.callback(swapper.close)
        events.listeners += [swapper.on_event, lambda _: metrics.costs(_cost_of(swapper.services))]
        admin = start_admin(
            make_registry(collector, *_system(supervisor, inventory), LabelsCollector(lambda: _captures(swapper))),
            server.admin_port,
            server.admin_host,
            pages={**_pages(supervisor), "/debug/rollout": swapper.page},
            actions={"/swap": swapper.swap},
        )
        opened.callback(admin.close)
        events.greeting = _greeting(planned, listener, admin, grpc_port)
        for warning in (*inventory.warnings, *tree.placed(planned.services).warnings):
            say(f"warning: {warning}")
        if reload:
            folders = [Path(target) for target in planned.targets if Path(target).is_dir()]
            watcher = Watcher(folders, lambda _: supervisor.reload())
            watcher.start()
            opened.callback(watcher.close)
        return supervisor.run()


class _Events:
    """Turns the supervisor's events into metrics and into lines for people."""

    def __init__(self, metrics: SupervisorMetrics, listener: Listener, say: Say) -> None:
        self._metrics = metrics
        self._listener = listener
        self._say = say
        self.greeting: list[str] = []
        self.supervisor: Supervisor | None = None
        self._looping: set[str] = set()
        self.listeners: list[Callable[[SupervisorEvent], None]] = []

    def __call__(self, event: SupervisorEvent) -> None:
        for listener in self.listeners:
            listener(event)
        if self.supervisor is not None:
            now = self.supervisor.statistics()
            self._metrics.ready(is_ready=now.is_ready)
            looping = {worker.name for worker in now.workers if worker.is_crash_looping}
            for name in self._looping | looping:  # a successor by the same name begins without its deaths
                self._metrics.crash_looping(name, is_looping=name in looping)
            self._looping = looping
            counts: Mapping[WorkerState, int] = now.counts()
            self._metrics.states({str(state): count for state, count in counts.items()})
        worker = event.worker or "workers"
        match event.kind:
            case "ready" if self.greeting and worker.startswith(API):
                for line in self.greeting:
                    self._say(line)
                self.greeting = []
            case "started":
                self._metrics.known(worker)
            case "backing_off":
                self._metrics.restarted(worker)
                self._say(f"{worker} died; {event.message}")
            case "crash_loop":
                self._say(f"{worker} keeps dying: {event.message}")
            case "broken" | "late" | "stuck" | "reload_failed" | "swap_failed" | "recycling" | "recycle_failed":
                self._say(f"{worker}: {event.message}")
            case "reloaded" | "reloading" | "swapping" | "swapped":
                self._say(event.kind)
            case "stopping":
                self._listener.announce_last_call()
                self._listener.close()  # the workers hold it too: with the last of them nothing waits in its queue
                self._say("stopping: finishing what was accepted")
            case _:
                pass


class _DeviceReading(NamedTuple):
    """A device as `/metrics` shows it."""

    name: str
    used_bytes: int
    total_bytes: int
    utilisation: float | None


def _system(supervisor: Supervisor, inventory: Inventory) -> "list[ProcessCollector | DeviceCollector]":
    """What the system knows of the workers, and of the devices if there are any."""

    def pids() -> dict[str, int]:
        return {worker.name: worker.pid for worker in supervisor.statistics().workers if worker.pid is not None}

    def devices() -> list[_DeviceReading]:
        found, _ = read_devices(load_nvml())
        return [_reading(device) for device in found if device.uuid in mine]

    mine = {device.uuid for device in inventory.devices}
    return [ProcessCollector(pids), *([DeviceCollector(devices)] if mine else [])]


def _cost_of(services: Sequence[Service]) -> float:
    return sum(service.runtime.cost.usd_per_hour for service in services)


def _captures(swapper: Swapper) -> list[Path]:
    """The capture folders of what serves now: `slipway labels ingest` writes what labels said beside what they name."""
    captures = [service.runtime.capture for service in swapper.services if service.runtime.capture.enabled]
    return [Path(folder) for folder in sorted({capture.folder or "" for capture in captures})]


def _reading(device: Device) -> _DeviceReading:
    name = device.uuid if device.is_mig else f"gpu:{device.index}"
    return _DeviceReading(name, device.memory_bytes - device.free_bytes, device.memory_bytes, device.utilisation)


def _supervisor_metrics(collector: MergedCollector) -> SupervisorMetrics:
    fd = collector.open("supervisor")
    try:
        return SupervisorMetrics(Slots.attach(fd))
    finally:
        os.close(fd)


def _pages(supervisor: Supervisor) -> dict[str, Callable[[], tuple[int, bytes, str]]]:
    def readyz() -> tuple[int, bytes, str]:
        is_ready = supervisor.statistics().is_ready
        return (200 if is_ready else 503), msgspec.json.encode({"ready": is_ready}), JSON

    return {
        "/livez": lambda: (200, b'{"alive":true}', JSON),
        "/readyz": readyz,
        "/debug/workers": lambda: (200, msgspec.json.encode(supervisor.statistics()), JSON),
    }


def _greeting(planned: Plan, listener: Listener, admin: Admin, grpc_port: int | None) -> list[str]:
    served = [f"{view.name} {view.version}" + (f" ({view.digest})" if view.digest else "") for view in planned.views]
    address = listener.address
    if planned.server.tls_cert is not None:
        address = address.replace("http://", "https://")
    lines = [f"serving {', '.join(served)}", f"  at       {address}"]
    if grpc_port is not None:
        lines.append(f"  grpc     {planned.server.host}:{grpc_port}")
    for pool in (pool for service in planned.services for pool in service.pools):
        count = f"{pool.config.replicas} runner" + ("s" if pool.config.replicas > 1 else "")
        count += f" and {pool.config.standby} standby" if pool.config.standby else ""
        lines.append(f"  pool     {pool.label}: {count} for {', '.join(pool.models)}")
    return [*lines, f"  metrics  {admin.url}/metrics"]
