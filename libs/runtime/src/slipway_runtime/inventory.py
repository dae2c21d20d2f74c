"""Reads what this process may use of the machine: processors, memory, NUMA nodes, GPUs.

It decides nothing (`placement.py` does) and changes nothing. The invariant: it never raises for what a machine lacks;
what is not there is not in the inventory, and what fails is a warning in it. Read it once, before the runners start:
afterwards their own memory counts as used.
"""

import os
from collections.abc import Collection
from pathlib import Path

from slipway_runtime.cgroups import read_limits
from slipway_runtime.hardware import Device, Inventory, NumaNode, decode_inventory, describe, visible_devices
from slipway_runtime.nvml import Nvml, load_nvml, read_devices

__all__ = ["Device", "Inventory", "NumaNode", "decode_inventory", "describe", "read_inventory"]


def read_inventory(
    *,
    root: Path = Path("/"),
    affinity: Collection[int] | None = None,
    nvml: Nvml | None = None,
    allowed_devices: str | None = None,
) -> Inventory:
    """What this process may use now; blocks for tens of milliseconds where a GPU driver is loaded.

    Args:
        root: where `proc` and `sys` are; another folder for a recorded machine.
        affinity: processors this process may run on; by default the kernel's answer, which heeds cpusets.
        nvml: the module `pynvml`; by default the installed one, if any.
        allowed_devices: the server's own `CUDA_VISIBLE_DEVICES`; GPUs it hides are left out.
    """
    cpus = tuple(sorted(_affinity() if affinity is None else affinity))
    limits = read_limits(root)
    devices, warnings = read_devices(load_nvml() if nvml is None else nvml, root=root)
    return Inventory(
        cpus=cpus,
        cpu_limit=min(float(len(cpus)), limits.cpus),
        memory_bytes=int(min(_machine_memory_bytes(root), limits.memory_bytes)),
        numa_nodes=_numa_nodes(root, frozenset(cpus)),
        devices=visible_devices(devices, allowed_devices),
        warnings=warnings,
    )


def _affinity() -> Collection[int]:
    """Linux intersects it with the cpuset of the cgroup: sched_setaffinity(2), cpuset(7)."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _machine_memory_bytes(root: Path) -> int:
    try:
        for line in (root / "proc" / "meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemTotal":
                return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _numa_nodes(root: Path, usable: frozenset[int]) -> tuple[NumaNode, ...]:
    """Nodes with usable processors, ascending; one node with all of them where the machine does not say."""
    nodes = []
    for folder in (root / "sys" / "devices" / "system" / "node").glob("node[0-9]*"):
        try:
            cpus = usable & _cpu_list((folder / "cpulist").read_text())
        except (OSError, ValueError):
            continue
        if cpus:
            nodes.append(NumaNode(number=int(folder.name.removeprefix("node")), cpus=tuple(sorted(cpus))))
    nodes.sort(key=lambda node: node.number)
    return tuple(nodes) or (NumaNode(number=0, cpus=tuple(sorted(usable))),)


def _cpu_list(text: str) -> frozenset[int]:
    """`0-3,8` as numbers: the kernel's format of a set of processors."""
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)
