"""Decides which process of which pool gets which device, processors and threads. Pure: reads and starts nothing.

It does not divide a GPU: shares are promises between pools, MIG slices are taken as found. The invariants: no device
is promised beyond its free memory or beyond one whole share; every process that is asked for gets exactly one slot, or
nothing is placed and `PlacementError` says what is missing; the order of the demands does not matter; what was placed
and is not lost never moves. Source: `docs/placement.md`.

    placement = place(read_inventory(), [Demand(pool="gpu0", device="gpu", replicas=2, share=0.5)])
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal

import msgspec

from slipway_bundle.errors import UsageError
from slipway_runtime.hardware import Device, Inventory, gib_text
from slipway_runtime.packing import SHARE_STEPS, Bin, Item, pack
from slipway_runtime.processors import Binding, Claim, divide_threads

__all__ = ["Demand", "DeviceKind", "Placement", "PlacementError", "Slot", "place", "replace"]

DeviceKind = Literal["cpu", "gpu", "auto"]
Key = tuple[str, int]
"""Pool and replica."""

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What numerical libraries read when they are loaded, before any code of ours could tell them."""
MOST_SHARERS: Final = 16
"""A hint proposes shares down to one over this."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What one pool asks for; sizes are of each process."""

    pool: str
    """Unique among the demands."""
    device: DeviceKind = "cpu"
    """`auto`: a GPU if the machine has one, else processors."""
    replicas: int = 1
    """Processes that compute."""
    standby: int = 0
    """Processes that are loaded and wait for a replica to die; they reserve memory, no share and no processor."""
    share: float = 1.0
    """Of a GPU, for each replica; in (0, 1], in whole thousandths. Without meaning on processors."""
    memory_bytes: int = 0
    """Ceiling, of the GPU's memory or the machine's; 0 = unknown, so nothing is reserved."""
    threads: int = 0
    """0 = derived from the processors and the other pools."""


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """Where one process runs and what it is told."""

    pool: str
    replica: int
    """0 … replicas + standby - 1; those that wait come last."""
    device: str
    """UUID of the GPU or slice; empty on processors."""
    threads: int
    """For libraries that are told by code, such as ONNX Runtime; the others read `environment`."""
    cpus: tuple[int, ...] | None
    """Processors to bind the process to; None = do not bind it."""
    environment: dict[str, str]
    """To add to the environment of the process."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """A slot for each process, pools in the order of the demands."""

    slots: tuple[Slot, ...]
    demands: tuple[Demand, ...]
    """What was asked, which `replace` needs."""
    warnings: tuple[str, ...] = ()


class PlacementError(UsageError):
    """The pools ask for more than the machine has; nothing was placed."""

    code = "placement_impossible"


def place(inventory: Inventory, demands: Sequence[Demand]) -> Placement:
    """A slot for each process of each pool; milliseconds for dozens of processes, up to a second to refuse them.

    Raises:
        PlacementError: the pools ask for more memory, or more of a GPU, than there is; or for a GPU where none is.
    """
    return _place(inventory, tuple(demands), {})


def replace(
    placement: Placement,
    inventory: Inventory,
    *,
    lost_devices: Collection[str] = (),
    lost_replicas: Collection[Key] = (),
) -> Placement:
    """New slots for what was lost; all other slots stay as they are.

    Args:
        placement: what `place` or `replace` gave.
        inventory: the one it was made with: its free memory is that before the runners started. A device that it no
            longer has counts as lost.
        lost_devices: UUIDs that must not be used any more.
        lost_replicas: (pool, replica) pairs to place anew.

    Raises:
        PlacementError: what was lost fits nowhere beside what stays.
    """
    left = tuple(device for device in inventory.devices if device.uuid not in lost_devices)
    usable = {"", *(device.uuid for device in left)}
    kept = {
        (slot.pool, slot.replica): slot
        for slot in placement.slots
        if slot.device in usable and (slot.pool, slot.replica) not in lost_replicas
    }
    return _place(msgspec.structs.replace(inventory, devices=left), placement.demands, kept)


def _place(inventory: Inventory, demands: tuple[Demand, ...], kept: Mapping[Key, Slot]) -> Placement:
    pools = [demand.pool for demand in demands]
    if twice := {pool for pool in pools if pools.count(pool) > 1}:
        raise PlacementError(f"pool {min(twice)!r} is asked for more than once, expected each pool once")
    gpu_pools = {d.pool for d in demands if d.device == "gpu" or (d.device == "auto" and inventory.devices)}
    _check_memory(inventory, [demand for demand in demands if demand.pool not in gpu_pools])
    devices = _Gpus(inventory, demands, kept).place([demand for demand in demands if demand.pool in gpu_pools])
    claims = [Claim(d.pool, d.replicas, d.threads, d.pool in gpu_pools) for d in demands]
    threads, warnings = divide_threads(inventory.threads, claims)
    binding = Binding(inventory, [(slot.cpus, slot.threads) for slot in kept.values()])
    slots = dict(kept)
    for key in sorted((demand.pool, replica) for demand in demands for replica in range(_processes(demand))):
        if key not in slots:
            slots[key] = _slot(key, devices.get(key), threads, binding)
    ordered = (slots[demand.pool, replica] for demand in demands for replica in range(_processes(demand)))
    return Placement(slots=tuple(ordered), demands=demands, warnings=warnings)


def _slot(key: Key, device: Device | None, threads: Mapping[str, int], binding: Binding) -> Slot:
    """`CUDA_VISIBLE_DEVICES` is empty without a device: a process on processors must never grab a GPU."""
    pool, replica = key
    count = threads[pool]
    uuid = "" if device is None else device.uuid
    cpus = binding.roomiest(count) if device is None else binding.near(device.numa_node, count)
    environment = {"CUDA_VISIBLE_DEVICES": uuid} | dict.fromkeys(THREAD_VARIABLES, str(count))
    return Slot(pool=pool, replica=replica, device=uuid, threads=count, cpus=cpus, environment=environment)


class _Gpus:
    """The devices with what is kept on them; answers what else fits."""

    def __init__(self, inventory: Inventory, demands: Sequence[Demand], kept: Mapping[Key, Slot]) -> None:
        self._inventory = inventory
        self._kept = kept
        self._bins = [Bin(device.free_bytes) for device in inventory.devices]
        number = {device.uuid: i for i, device in enumerate(inventory.devices)}
        of_pool = {demand.pool: demand for demand in demands}
        for (pool, replica), slot in kept.items():
            if slot.device:
                self._bins[number[slot.device]].put(_item(of_pool[pool], replica))

    def place(self, demands: Sequence[Demand]) -> dict[Key, Device]:
        """A device for each process that is not kept."""
        if demands and not self._bins:
            reason = f" ({self._inventory.warnings[0]})" if self._inventory.warnings else ""
            raise PlacementError(
                f"pool {demands[0].pool!r} needs a GPU, got a machine without one that can be used{reason}",
                hint='`device = "cpu"` runs it on processors, `device = "auto"` wherever it can',
                pool=demands[0].pool,
            )
        chosen = self._fit(demands)
        if chosen is None:
            raise self._refusal(demands)
        return {key: self._inventory.devices[number] for key, number in chosen.items()}

    def _fit(self, demands: Sequence[Demand]) -> dict[Key, int] | None:
        """The number of the device for each process that is not kept; None when they do not fit."""
        new = {(d.pool, r): _item(d, r) for d in demands for r in range(_processes(d)) if (d.pool, r) not in self._kept}
        found = pack(list(new.values()), self._bins)
        return None if found is None else dict(zip(new, found, strict=True))

    def _refusal(self, demands: Sequence[Demand]) -> PlacementError:
        """The arithmetic of the first pool that does not fit beside those before it, largest first."""
        before: list[Demand] = []
        for demand in sorted(demands, key=lambda d: (-d.share, -d.memory_bytes, d.pool)):
            if self._fit([*before, demand]) is None:
                break
            before.append(demand)
        else:
            raise RuntimeError(f"pools fit one after another but not together; this is a bug in slipway: {demands!r}")
        hint = self._what_fits(before, demand)
        for (pool, replica), number in (self._fit(before) or {}).items():
            self._bins[number].put(_item(next(d for d in before if d.pool == pool), replica))
        others = sorted({pool for bin_ in self._bins for pool in bin_.counts} - {demand.pool})
        beside = f" beside {', '.join(map(repr, others))}" if others else ""
        free = ", ".join(
            f"{device.uuid[:8]} has {bin_.free_share / SHARE_STEPS:.3g} and {gib_text(bin_.free_bytes)} free"
            for device, bin_ in zip(self._inventory.devices, self._bins, strict=True)
        )
        count = f"{len(self._bins)} device{'' if len(self._bins) == 1 else 's'}"
        return PlacementError(
            f"pool {demand.pool!r} needs {_needs(demand)}; {count}{beside}: {free}", hint=hint, pool=demand.pool
        )

    def _what_fits(self, before: Sequence[Demand], demand: Demand) -> str:
        """Smaller questions that have an answer."""

        def fits(**changes: float) -> bool:
            return self._fit([*before, msgspec.structs.replace(demand, **changes)]) is not None

        shares = (SHARE_STEPS // sharers / SHARE_STEPS for sharers in range(2, MOST_SHARERS + 1))
        ways = [f"`share = {share:g}`" for share in shares if share < demand.share and fits(share=share)][:1]
        if demand.standby and fits(standby=0):
            ways.append("`standby = 0`")
        else:
            fewer = (n for n in range(demand.replicas - 1, 0, -1) if fits(replicas=n, standby=0))
            ways += [f"`replicas = {n}`{' and `standby = 0`' if demand.standby else ''}" for n in fewer][:1]
        if ways:
            return f"{' or '.join(ways)} fits"
        return 'not one process of it fits: give the others less, take a larger GPU, or run it with `device = "cpu"`'


def _needs(demand: Demand) -> str:
    """`3 x 0.5 = 1.5 of a GPU and 3 x 9.0 GiB`."""
    share = f"{demand.replicas} x {demand.share:g} = {demand.replicas * demand.share:g} of a GPU"
    return f"{share} and {_processes(demand)} x {gib_text(demand.memory_bytes)}" if demand.memory_bytes else share


def _check_memory(inventory: Inventory, demands: Sequence[Demand]) -> None:
    """Pools on processors share the memory of the machine, or of its cgroup."""
    needed = {demand: _processes(demand) * demand.memory_bytes for demand in demands}
    total = sum(needed.values())
    if total <= inventory.memory_bytes:
        return
    terms = [f"{d.pool!r} {_processes(d)} x {gib_text(d.memory_bytes)}" for d in demands if d.memory_bytes]
    largest = max(demands, key=lambda demand: (needed[demand], demand.pool))
    fitting = max(0, inventory.memory_bytes - total + needed[largest]) // largest.memory_bytes
    raise PlacementError(
        f"pools on processors need {gib_text(total)} of memory ({', '.join(terms)}), "
        f"{gib_text(inventory.memory_bytes)} may be used",
        hint=f"{fitting} of the {_processes(largest)} processes of pool {largest.pool!r} would fit"
        if fitting
        else "lower `memory_mb`, if it is more than a process uses, or take a larger machine",
        pool=largest.pool,
    )


def _item(demand: Demand, replica: int) -> Item:
    """A process that waits needs no share."""
    share = int(demand.share * SHARE_STEPS + 1e-6) if replica < demand.replicas else 0
    return Item(demand.pool, share, demand.memory_bytes)


def _processes(demand: Demand) -> int:
    return demand.replicas + demand.standby
