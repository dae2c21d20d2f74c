"""What a machine has, as values: processors, memory, GPUs. Placement decides on these; `inventory.py` reads them.

Nothing here reads the machine. The invariants: a device is something that one process can be given by its UUID, so a
GPU that is cut into MIG slices is not a device and each of its slices is; memory is what may be used, in bytes.
Source of the names of slices: NVIDIA, "MIG User Guide", Device Names.
"""

import math

import msgspec

__all__ = ["Device", "Inventory", "NumaNode", "decode_inventory", "describe", "gib_text", "visible_devices"]

GIB = 1024**3


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU, or a MIG slice of one. A stored format: new fields get defaults."""

    uuid: str
    """`GPU-…` or `MIG-…`: what `CUDA_VISIBLE_DEVICES` takes, stable over reboots."""
    name: str
    index: int
    """Of the physical GPU, in the order of the PCI bus; slices of one GPU share it."""
    memory_bytes: int
    free_bytes: int
    """Of `memory_bytes`, when it was read; what runs already has the rest."""
    numa_node: int | None = None
    """The node that it is attached to; None when the machine does not say."""
    is_mig: bool = False
    parent: str = ""
    """UUID of the GPU that a slice is cut from; empty for a whole GPU."""
    compute_ratio: float = 1.0
    """Compute of this device as a part of its physical GPU: 3/7 for `3g.20gb`."""
    utilisation: float | None = None
    """Share of the last moments in which it computed anything, 0 to 1, when it was read; None: it does not say."""


class NumaNode(msgspec.Struct, frozen=True, kw_only=True):
    """Processors that share a memory controller."""

    number: int
    cpus: tuple[int, ...]
    """Those that this process may use, ascending."""


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What this process may use. A stored format: new fields get defaults."""

    cpus: tuple[int, ...]
    """Numbers of the logical processors that it may run on, ascending."""
    cpu_limit: float
    """Processors' worth of time it may use: `len(cpus)`, or less under a cgroup's quota."""
    memory_bytes: int
    """Of the machine, or less under a cgroup's limit."""
    numa_nodes: tuple[NumaNode, ...] = ()
    devices: tuple[Device, ...] = ()
    warnings: tuple[str, ...] = ()
    """Sentences about what could not be read, such as a driver that fails."""

    @property
    def threads(self) -> int:
        """Whole threads that can compute at once; at least 1."""
        return max(1, math.floor(self.cpu_limit))


_decoder = msgspec.json.Decoder(Inventory)


def decode_inventory(document: bytes | str) -> Inventory:
    """The inventory out of its JSON, as `msgspec.json.encode` writes it; unknown fields are ignored.

    Raises:
        msgspec.ValidationError: it is JSON of something else.
        msgspec.DecodeError: it is not JSON.
    """
    return _decoder.decode(document)


def visible_devices(devices: tuple[Device, ...], allowed: str | None) -> tuple[Device, ...]:
    """Those of `devices` that a `CUDA_VISIBLE_DEVICES` of `allowed` lets a process use, in the order of `devices`.

    None allows all; an entry is an index or the beginning of a UUID, and as in CUDA everything from the first entry
    that names no device is ignored. NVML does not apply this variable; without it placement would use hidden GPUs.
    """
    if allowed is None:
        return devices
    chosen: set[str] = set()
    for entry in (part.strip() for part in allowed.split(",")):
        named = {d.uuid for d in devices if entry and (d.uuid.startswith(entry) or str(d.index) == entry)}
        if not named:
            break
        chosen |= named
    return tuple(device for device in devices if device.uuid in chosen)


def describe(inventory: Inventory) -> list[str]:
    """The inventory as lines for people, most important first; warnings are not among them."""
    count = len(inventory.cpus)
    processors = f"{count} processor{'' if count == 1 else 's'}"
    if inventory.cpu_limit < count:
        processors += f", {inventory.cpu_limit:g} of them at a time by the cgroup's quota"
    if len(inventory.numa_nodes) > 1:
        processors += f", on {len(inventory.numa_nodes)} NUMA nodes"
    lines = [processors, f"{gib_text(inventory.memory_bytes)} of memory"]
    lines += [_device_line(device) for device in inventory.devices]
    return lines if inventory.devices else [*lines, "no GPU"]


def gib_text(count_bytes: float) -> str:
    """A size in binary gigabytes, as GPU memory is given: `15.8 GiB`."""
    return f"{count_bytes / GIB:.1f} GiB"


def _device_line(device: Device) -> str:
    kind = f"slice of GPU {device.index}" if device.is_mig else f"GPU {device.index}"
    room = f"{gib_text(device.free_bytes)} of {gib_text(device.memory_bytes)} free"
    node = "" if device.numa_node is None else f", NUMA node {device.numa_node}"
    return f"{kind}: {device.name}, {room}{node}, {device.uuid}"
