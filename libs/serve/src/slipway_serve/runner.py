"""A runner process: `python -m slipway_serve.runner OPTIONS`, started by the supervisor, never by hand.

Order of its life: load the models of its pool, check their golden examples, measure them, join the dispatcher, compute
batches until told to leave. It imports the service and the libraries of its models, and no web framework.
"""

import gc
import logging
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from slipway_bundle import BundleView, SlipwayError, Store, load_service, open_any
from slipway_runtime.control import WorkerControl, generation_from_environment, slot_fd_from_environment
from slipway_runtime.flight import WarmUp
from slipway_runtime.runner import RunnerLimits, run_runner
from slipway_runtime.wire.frames import Join, Sample
from slipway_serve.computation import Computation
from slipway_serve.engine import example_row, service_of
from slipway_serve.lanes import check_examples
from slipway_serve.options import GC_ALLOCATIONS, RunnerOptions
from slipway_serve.pools import MEBIBYTE, PlannedPool, ceiling_of, pools_of, spec_of
from slipway_serve.service import Model, Service
from slipway_signals import ServiceMetrics, Slots
from slipway_signals.logs import configure_logging

logger = logging.getLogger(__name__)

WARM_UP_S: Final = 2.0


def run(options: RunnerOptions, control: WorkerControl | None, slots: Slots | None) -> int:
    """Load, join, compute until told to leave; returns the exit status.

    Raises:
        SlipwayError: a model cannot be loaded, or does not answer as its bundle promises.
    """
    started = time.monotonic()
    if options.cpus is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, options.cpus)
    view = open_any(options.target, Store.open(Path(options.store)))
    service = service_of(load_service(view))
    pool = _pool_of(options, view, service)
    computations: dict[str, Computation] = {}
    samples: list[Sample] = []
    metrics = _metrics(options, view, service, slots)
    for name in pool.models:
        model = service.models[name]
        loading = time.monotonic()
        if metrics is not None:
            metrics.model_ready(name, is_ready=False)
        computations[name] = computation = Computation(
            model, view.models[name], threads=options.threads, device=options.device
        )
        check_examples(view, model, computation)
        samples += _measured(view, model, computation, _max_rows(options, name))
        if metrics is not None:
            metrics.model_loaded(name, view.digest or "", time.monotonic() - loading)
    join = Join(
        name=options.name,
        pid=os.getpid(),
        pool=spec_of(
            pool,
            options.runtime,
            generation_from_environment(os.environ),
            options.pools.devices.get(pool.label, ""),
        ),
        slab_bytes=options.runtime.server.slab_mb * MEBIBYTE,
        load_s=time.monotonic() - started,
        samples=samples,
    )
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)
    limits = RunnerLimits(memory_bytes=ceiling_of(pool), age_s=pool.config.max_age_s)
    return run_runner(options.pools.path, join, computations, control=control, limits=limits)


def _pool_of(options: RunnerOptions, view: BundleView, service: Service) -> PlannedPool:
    for pool in pools_of(options.runtime, view.name, service.models):
        if pool.name == options.pool:
            return pool
    raise SlipwayError(f"this is a bug in slipway: no model of {view.name!r} is in pool {options.pool!r}")


def _max_rows(options: RunnerOptions, model: str) -> int:
    runtime = options.runtime.models[model]
    return runtime.max_rows if runtime.batching else 1


def _measured(view: BundleView, model: Model[Any, Any], computation: Computation, max_rows: int) -> list[Sample]:
    """Seconds of batches of 1, 2, 4, … copies of an example row: the dispatcher's first cost table.

    Raises:
        SlipwayError: the model does not compute its own example.
    """
    key, payload = computation.inputs.pack_keyed(example_row(view, model))
    warm_up = WarmUp(bytes(payload), 1, max_rows)
    warm_up.run(partial(computation.compute, key), time.monotonic, WARM_UP_S)
    if warm_up.error is not None:
        raise SlipwayError(f"model {model.name!r} does not compute its own example: {warm_up.error}") from warm_up.error
    return [Sample(model.name, key, rows, seconds) for rows, seconds in warm_up.samples]


def _metrics(options: RunnerOptions, view: BundleView, service: Service, slots: Slots | None) -> ServiceMetrics | None:
    if slots is None:
        return None
    return ServiceMetrics(
        slots,
        service=service.name,
        version=view.version,
        digest=view.digest or "",
        slipway_version=options.slipway_version,
        models=service.models,
    )


def main(arguments: Sequence[str]) -> int:
    """Entry of the process; returns its exit status."""
    sys.dont_write_bytecode = True  # a bundle's unpacked code is read-only, also for root
    options = msgspec.json.decode(arguments[0], type=RunnerOptions)
    log = configure_logging(options.name, options.runtime.logging)
    control = WorkerControl.from_environment(os.environ)
    slot_fd = slot_fd_from_environment(os.environ)
    try:
        slots = None if slot_fd is None else Slots.attach(slot_fd)
        if slots is not None:
            log.count_drops(slots, "runner")
        return run(options, control, slots)
    except SlipwayError as error:
        logger.critical("runner cannot start: %s", error)
        if control is not None:
            control.failed(error)
        return error.exit_status
    except Exception as error:  # the top of the process: say it once, and do not start again into the same wall
        logger.exception("runner failed")
        if control is not None:
            control.failed(SlipwayError(f"the runner ended with {type(error).__name__}: {error}"))
        return SlipwayError.exit_status
    finally:
        log.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
