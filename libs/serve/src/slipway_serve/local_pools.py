"""Runner pools for a test: a real dispatcher and real runners beside the process that asks, without a server.

It restarts nothing (a supervisor would). The invariant: at the end of the `with` block, or of the asking process
however it ends, none of its processes is left.
"""

import os
import select
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from slipway_bundle import BundleView, SlipwayError
from slipway_runtime.control import ControlError, Failed, Ready
from slipway_runtime.inventory import read_inventory
from slipway_runtime.processes import WorkerProcess
from slipway_runtime.supervision import WorkerSpec
from slipway_serve.config import ModelRuntime, PoolConfig, RuntimeConfig
from slipway_serve.engine import PoolMembership
from slipway_serve.options import PoolAccess
from slipway_serve.tree import Service, Tree, shared_devices

START_S: Final = 60.0
STOP_S: Final = 10.0


class LocalPoolError(SlipwayError):
    """A process of a pool could not start."""

    code = "pool_start_failed"


def pooled(config: RuntimeConfig, models: Mapping[str, object]) -> RuntimeConfig:
    """The configuration with every model in a runner pool: its own, where it is in none."""
    placed = {}
    for name in models:
        runtime = config.models.get(name, ModelRuntime())
        pool = PoolConfig() if runtime.pool is None else runtime.pool
        placed[name] = msgspec.structs.replace(runtime, pool=pool, remote=None)
    return msgspec.structs.replace(config, models=placed)


def unplaced(config: RuntimeConfig) -> RuntimeConfig:
    """The configuration with every model in the process that asks."""
    here = {name: msgspec.structs.replace(m, pool=None, remote=None) for name, m in config.models.items()}
    return msgspec.structs.replace(config, models=here, pools={})


@contextmanager
def running_pools(target: Path, view: BundleView, config: RuntimeConfig) -> Iterator[PoolMembership]:
    """A dispatcher and the runners of every pool of one service, for the length of a `with` block.

    Args:
        target: the service's folder.
        view: the same, opened.
        config: with pools; see `pooled`.

    Raises:
        LocalPoolError: a runner cannot start; the message is its own.
    """
    service = Service(str(target.resolve()), view, config)
    with ExitStack() as opened:
        tree = Tree(
            store=target,
            environment=os.environ,
            server=config.server,
            listener=None,
            grpc_port=None,
            inventory=read_inventory(allowed_devices=os.environ.get("CUDA_VISIBLE_DEVICES")),
        )
        opened.callback(tree.close)
        processes: list[WorkerProcess] = []
        opened.callback(_stop, processes)
        processes.extend(_started(spec) for spec in tree.specs([service]))
        for process in processes:
            _wait_ready(process)
        devices = shared_devices([service], tree.placed([service]))
        yield PoolMembership(PoolAccess(path=str(tree.path), devices=devices), 0, "local")


def _started(spec: WorkerSpec) -> WorkerProcess:
    return WorkerProcess(spec, 0, spec.name, None, now=time.monotonic(), start_timeout_s=START_S)


def _wait_ready(process: WorkerProcess) -> None:
    while True:
        left_s = (process.deadline or 0.0) - time.monotonic()
        if not process.is_open or left_s <= 0:
            raise LocalPoolError(f"{process.name} did not start: exit status {process.reap()}")
        if not select.select([process], (), (), left_s)[0]:
            continue
        try:
            messages = process.hear()
        except ControlError as error:
            raise LocalPoolError(f"{process.name} did not start: {error}") from error
        for message in messages:
            if isinstance(message, Ready):
                return
            if isinstance(message, Failed):
                raise LocalPoolError(f"{process.name} cannot start: {message.message}")


def _stop(processes: list[WorkerProcess]) -> None:
    """Ask all, dispatcher and runners, then end whoever stays."""
    for process in processes:
        process.terminate()
    ends = time.monotonic() + STOP_S
    for process in processes:
        while process.reap() is None and time.monotonic() < ends and process.is_open:
            select.select([process], (), (), max(0.0, ends - time.monotonic()))
            process.hear()
        process.reap_after_kill(STOP_S)
        process.close()
