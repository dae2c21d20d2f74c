"""Which runner pools a service has: out of its configuration, before anything runs.

Pure: it places nothing (`slipway_runtime.placement`) and starts nothing (`server`). The invariant: every model is in at
most one pool, and every pool that is named exists; the supervisor, the API workers and the runners derive the same
pools from the same configuration.
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from slipway_bundle import ConfigError
from slipway_runtime.dispatch.spec import ModelSpec, PoolSpec
from slipway_runtime.placement import Demand
from slipway_serve.config import ModelRuntime, PoolConfig, RuntimeConfig

MEBIBYTE: Final = 1024 * 1024


class PlannedPool(Struct, frozen=True):
    """One pool of one service."""

    service: str
    name: str
    """Its name in the configuration: a key of `[runtime.pools]`, or the model's for a pool of its own."""
    config: PoolConfig
    models: tuple[str, ...]

    @property
    def label(self) -> str:
        """Unique in a server, and safe in process names and metric labels."""
        return f"{self.service}-{self.name}"


def pools_of(config: RuntimeConfig, service: str, models: Iterable[str]) -> tuple[PlannedPool, ...]:
    """The pools of a service, in the order of its models.

    Raises:
        ConfigError: a model names a pool that is not there, or both a pool and a remote server.
    """
    members: dict[str, list[str]] = {}
    configs: dict[str, PoolConfig] = {}
    for model in models:
        runtime = config.models.get(model, ModelRuntime())
        if runtime.pool is not None and runtime.remote is not None:
            raise ConfigError(
                f"`runtime.models.{model}` has both `pool` and `remote`, expected one",
                hint="a model runs in runner processes here, or in another server",
            )
        match runtime.pool:
            case None:
                continue
            case str() as name:
                configs[name] = _named(config, model, name)
            case own:
                name = model
                if name in config.pools:
                    raise ConfigError(
                        f"`runtime.models.{model}.pool` is a table, and there is a `[runtime.pools.{name}]` too",
                        hint=f'write `pool = "{name}"`, or rename the shared pool',
                    )
                configs[name] = own
        members.setdefault(name, []).append(model)
    unused = config.pools.keys() - members.keys()
    if unused:
        raise ConfigError(
            f"`[runtime.pools.{min(unused)}]` is used by no model",
            hint=f'write `pool = "{min(unused)}"` in the table of a model, or remove the pool',
        )
    return tuple(PlannedPool(service, name, configs[name], tuple(members[name])) for name in members)


def spec_of(pool: PlannedPool, config: RuntimeConfig, generation: int, device: str = "") -> PoolSpec:
    """The pool as the dispatcher knows it.

    Args:
        pool: as planned.
        config: the `[runtime]` table that it was planned from.
        generation: of the process that asks; pools of different generations are different pools.
        device: the device that its replicas share with other pools; empty = none.
    """
    return PoolSpec(
        name=f"{pool.service}/{pool.name}@{generation}",
        models=tuple(_model_spec(name, config.models[name]) for name in pool.models),
        replicas=pool.config.replicas,
        in_flight=pool.config.in_flight,
        device=device,
        device_concurrency=pool.config.concurrency,
        hang_s=pool.config.hang_ms / 1_000,
        memory_bytes=ceiling_of(pool),
    )


def ceiling_of(pool: PlannedPool) -> int:
    """Bytes of the host's memory that a replica may use; 0 = no ceiling. A GPU's memory is reserved, not watched."""
    return pool.config.memory_mb * MEBIBYTE if pool.config.device == "cpu" else 0


def demands_of(pools: Sequence[PlannedPool]) -> list[Demand]:
    """What the pools ask of the machine."""
    return [
        Demand(
            pool=pool.label,
            device=pool.config.device,
            replicas=pool.config.replicas,
            standby=pool.config.standby,
            share=pool.config.share,
            memory_bytes=pool.config.memory_mb * MEBIBYTE,
            threads=pool.config.threads,
        )
        for pool in pools
    ]


def _model_spec(name: str, runtime: ModelRuntime) -> ModelSpec:
    return ModelSpec(
        name=name,
        max_rows=runtime.max_rows if runtime.batching else 1,
        max_queued_rows=runtime.queue_rows,
        gather_s=runtime.gather_ms / 1_000 if runtime.batching else 0.0,
        weight=runtime.weight,
    )


def _named(config: RuntimeConfig, model: str, name: str) -> PoolConfig:
    pool = config.pools.get(name)
    if pool is None:
        near = difflib.get_close_matches(name, config.pools, 1)
        known = ", ".join(config.pools) or "those of [runtime.pools], which is empty"
        raise ConfigError(
            f"`runtime.models.{model}.pool` is {name!r}, expected one of {known}",
            hint=f"did you mean {near[0]!r}?" if near else f"declare [runtime.pools.{name}]",
        )
    return pool
