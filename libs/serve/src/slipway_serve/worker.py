"""One API worker process: `python -m slipway_serve.worker OPTIONS`, started by the supervisor, never by hand.

Order of its life: load and prove the services, listen on the inherited sockets, say ready, serve, drain on SIGTERM,
stop (`draining`).
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import uvicorn
import uvloop
from msgspec.structs import replace
from uvicorn.server import HANDLED_SIGNALS

from slipway_bundle import BundleView, SlipwayError, Store, load_service, open_any
from slipway_bundle.requirements import check_environment
from slipway_runtime.control import WorkerControl, generation_from_environment, slot_fd_from_environment
from slipway_serve.access.tls import ServerTls, server_tls
from slipway_serve.app import Application, create_app
from slipway_serve.call import upstream_observer
from slipway_serve.connections import Connection, protocol_for
from slipway_serve.draining import DrainingServer
from slipway_serve.engine import Engine, PoolMembership, service_of
from slipway_serve.options import GC_ALLOCATIONS, WorkerOptions
from slipway_serve.routes import ServerState
from slipway_serve.watching import naming_of
from slipway_signals import ServiceMetrics, Slots
from slipway_signals.instruments import LoopLag
from slipway_signals.logs import RequestLog, configure_logging
from slipway_signals.traces_pipe import Origin, TraceWriter
from slipway_signals.tracing import Tracer, resolve_tracing

if TYPE_CHECKING:
    from slipway_serve.access.entrance import Entrance
    from slipway_serve.oip.server import GrpcServer

logger = logging.getLogger(__name__)

BACKLOG: Final = 2048


async def serve(options: WorkerOptions, control: WorkerControl, slots: Slots, log: RequestLog | None = None) -> None:
    """Load, serve until told to stop, drain, stop.

    Raises:
        SlipwayError: a target cannot be loaded or does not prove itself.
    """
    engines, metrics = _load(options, slots)
    tracer = _tracer_of(options, engines, slots)
    naming = naming_of(options.runtimes, options.server)
    slow_s = _slow_s(engines) if tracer is not None else _never
    tls = server_tls(options.server)
    entrance = _entrance_of(options, engines, slots, tls)
    state = ServerState(options.limits, metrics, naming, tracer=tracer, log=log, slow_s=slow_s, entrance=entrance)
    upstream_observer.set(metrics)
    try:
        for engine in engines:
            await engine.start()
            if tracer is not None:
                for load in engine.loads:
                    tracer.loaded(*load, digest=engine.view.digest or "")
        if entrance is not None:
            await entrance.start()
        app = create_app(engines, state, pages=options.server.page)
        metrics.announce(app.templates)
        metrics.expect(app.served)
        grpc = await _start_grpc(options, engines, state, metrics, tls)
        connection = protocol_for(options.limits)
        config = _config_of(app, connection, options, tls)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_ALLOCATIONS)
        server = DrainingServer(config, connection, state, options.server.drain_s, control.ready, LoopLag(slots))
        if grpc is not None:
            server.on_drain = grpc.leave
        server.on_second = [engine.watching.flush for engine in engines if engine.watching is not None]
        server.on_second += _read_again(entrance, tls)
        listening = [socket.socket(fileno=fd) for fd in options.listen_fds]
        leave_s = options.server.drain_s + options.server.stop_s
        control.watch(asyncio.get_running_loop(), partial(server.leave_for_good, listening), leave_s)
        await server.serve(listening)
        if grpc is not None:
            await grpc.drain(options.server.stop_s)
    finally:
        if entrance is not None:
            await entrance.stop()
        for engine in engines:
            await engine.drain(options.server.stop_s)
            await engine.stop()


def _config_of(
    app: Application, connection: type[Connection], options: WorkerOptions, tls: ServerTls | None
) -> uvicorn.Config:
    """uvicorn's part: it accepts and parses; everything it could log, add or decide itself is off."""
    return uvicorn.Config(
        app,
        http=connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=int(options.limits.idle_s),
        timeout_graceful_shutdown=max(1, round(options.server.stop_s)),
        ssl_context_factory=None if tls is None else lambda *_: tls.context,
    )


def _tracer_of(options: WorkerOptions, engines: Sequence[Engine], slots: Slots) -> Tracer | None:
    """What chooses traces and hands them to the exporter; None when traces are off."""
    resolved = resolve_tracing(options.runtimes[0].tracing, os.environ)
    if options.traces_fd is None or resolved is None:
        return None
    origin = Origin(
        ",".join(engine.service.name for engine in engines),
        ",".join(engine.view.version for engine in engines),
        f"{socket.gethostname()}/{options.name}",
    )
    return Tracer(resolved, TraceWriter(options.traces_fd, origin), slots)


def _entrance_of(
    options: WorkerOptions, engines: Sequence[Engine], slots: Slots, tls: ServerTls | None
) -> "Entrance | None":
    """Who may call; None: everybody, and nothing of it is imported."""
    has_certificates = tls is not None and tls.asks_clients
    if not any(engine.config.access.is_on(has_certificates=has_certificates) for engine in engines):
        return None
    from slipway_serve.access.entrance import Entrance

    is_grpc = options.grpc_port is not None
    return Entrance(engines, slots, tls=tls, usage_fd=options.usage_fd, is_grpc=is_grpc)


def _read_again(entrance: "Entrance | None", tls: ServerTls | None) -> list[Callable[[], None]]:
    """What looks, once a second, whether keys or certificates have changed."""
    if entrance is not None:
        return [entrance.tick]
    return [] if tls is None else [tls.files.look]


async def _start_grpc(
    options: WorkerOptions,
    engines: Sequence[Engine],
    state: ServerState,
    metrics: ServiceMetrics,
    tls: ServerTls | None,
) -> "GrpcServer | None":
    """The gRPC server of this worker, when it is asked for: gRPC's libraries are imported by nobody else."""
    if options.grpc_port is None:
        return None
    from slipway_serve.oip.server import TEMPLATES, start_grpc

    metrics.announce(TEMPLATES)
    if state.entrance is not None:
        state.entrance.check(TEMPLATES, is_grpc=True)
    host, port = options.server.host, options.grpc_port
    credentials = None if tls is None else tls.grpc_credentials()
    return await start_grpc(engines, state, host=host, port=port, limits=options.limits, credentials=credentials)


def _load(options: WorkerOptions, slots: Slots) -> tuple[list[Engine], ServiceMetrics]:
    store = Store.open(Path(options.store))
    views = [_identified(open_any(target, store), options.server.bundle) for target in options.targets]
    for view in views:
        _warn_about_environment(view)
    services = [service_of(load_service(view)) for view in views]
    metrics = ServiceMetrics(
        slots,
        service=",".join(service.name for service in services),
        version=",".join(view.version for view in views),
        digest=",".join(view.digest or "" for view in views),
        slipway_version=options.slipway_version,
        models=[name for service in services for name in (*service.models, *service.streams)],
        thresholds_s=[threshold for view in views for threshold in _thresholds(view)],
    )
    membership = None
    if options.pools is not None:
        membership = PoolMembership(options.pools, generation_from_environment(os.environ), options.name)
    parts = zip(services, views, options.runtimes, strict=True)
    return [Engine(service, view, runtime, metrics, membership, slots) for service, view, runtime in parts], metrics


def _identified(view: BundleView, told: str | None) -> BundleView:
    """A running image with the digest that it was deployed by; a bundle has its own, and a folder none."""
    is_image = view.digest is None and view.manifest is not None
    return replace(view, digest=told) if is_image else view


def _thresholds(view: BundleView) -> tuple[float, ...]:
    """Latencies that objectives name: each is a bucket's bound, so that a rule can ask for it exactly."""
    if view.objectives is None:
        return ()
    from slipway_signals.slo.openslo import thresholds_of

    return thresholds_of(view.objectives, f"slo.yaml of {view.name}")


def _slow_s(engines: Sequence[Engine]) -> Callable[[str], float | None]:
    """When an answer of a route breaks its latency objective, as traces ask it."""
    views = [engine.view for engine in engines]
    if all(view.objectives is None for view in views):
        return _never
    from slipway_signals.slo.latencies import slow_s
    from slipway_signals.slo.openslo import slos_of

    objectives = [slos_of(view.objectives, f"slo.yaml of {view.name}") for view in views if view.objectives is not None]
    return partial(slow_s, objectives)


def _never(_: str) -> None:
    """No objective."""


def _warn_about_environment(view: BundleView) -> None:
    """A bundle answers as it was tested only beside the libraries it was tested with."""
    for difference in check_environment(view.environment_lock or ""):
        logger.warning("bundle %s expects another environment: %s", view.name, difference)


def main(arguments: Sequence[str]) -> int:
    """Entry of the worker process; returns its exit status."""
    for number in HANDLED_SIGNALS:  # until the server listens to them, a signal ends the process at once
        signal.signal(number, signal.SIG_DFL)
    sys.dont_write_bytecode = True  # a bundle's unpacked code is read-only, also for root
    options = msgspec.json.decode(arguments[0], type=WorkerOptions)
    log = configure_logging(options.name, options.runtimes[0].logging)
    control = WorkerControl.from_environment(os.environ)
    slot_fd = slot_fd_from_environment(os.environ)
    if control is None or slot_fd is None:
        sys.stderr.write("a worker is started by `slipway serve`, not by hand\n")
        return 2
    try:
        slots = Slots.attach(slot_fd)
        log.count_drops(slots, "api")
        uvloop.run(serve(options, control, slots, log.requests()))
    except SlipwayError as error:
        control.failed(error)
        return error.exit_status
    except Exception as error:  # the top of the process: say it once, and do not start again into the same wall
        logger.exception("worker failed")
        control.failed(SlipwayError(f"the worker ended with {type(error).__name__}: {error}"))
        return SlipwayError.exit_status
    finally:
        log.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
