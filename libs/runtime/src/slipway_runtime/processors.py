"""Divides processors among the processes of pools: how many threads each has, which NUMA node it is bound to. Pure.

It knows no GPU but the node it is attached to. The invariants: every process has at least one thread; a number that
somebody wrote is kept, with a warning where it is more than can compute at once.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from slipway_runtime.hardware import Inventory, NumaNode

__all__ = ["GPU_THREADS", "Binding", "Claim", "divide_threads"]

GPU_THREADS: Final = 2
"""Of a process whose arithmetic is on a GPU: one feeds the device, one prepares."""


class Claim(NamedTuple):
    """What one pool asks of the processors."""

    pool: str
    replicas: int
    """Processes that compute; those that wait use no processor."""
    threads: int
    """Of each; 0 = whatever is right."""
    is_gpu: bool


def divide_threads(usable: int, claims: Sequence[Claim]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Pool → threads of each process, and a warning when replicas ask for more than `usable` threads.

    What the pools with a number leave over is divided among the others; processes on GPUs get 2 threads where that
    leaves a thread for everyone else, otherwise 1, and are not counted against the processors.
    """
    given = sum(claim.threads * claim.replicas for claim in claims if not claim.is_gpu)
    sharers = sum(claim.replicas for claim in claims if not claim.is_gpu and not claim.threads)
    feeders = sum(claim.replicas for claim in claims if claim.is_gpu)
    derived = max(1, (usable - given) // sharers) if sharers else max(1, usable)
    feeding = GPU_THREADS if usable >= GPU_THREADS * feeders + given + sharers else 1
    threads = {claim.pool: claim.threads or (feeding if claim.is_gpu else derived) for claim in claims}
    asked = [(claim.pool, claim.replicas, threads[claim.pool]) for claim in claims if not claim.is_gpu]
    total = sum(replicas * count for _, replicas, count in asked)
    if total <= usable:
        return threads, ()
    terms = " + ".join(f"{pool!r} {replicas} x {count}" for pool, replicas, count in asked)
    machine = f"{usable} processor{'' if usable == 1 else 's'}"
    return threads, (f"replicas compute with {total} threads ({terms}) on {machine}: they will slow each other down",)


class Binding:
    """Chooses the processors of a process, on machines with several NUMA nodes; elsewhere it binds nothing.

    Under a cgroup's quota it binds nothing either: the quota counts time, on whichever processors there are.
    """

    def __init__(self, inventory: Inventory, bound: Iterable[tuple[tuple[int, ...] | None, int]]) -> None:
        """`bound`: (processors, threads) of the processes that are placed already."""
        is_divided = len(inventory.numa_nodes) > 1 and inventory.cpu_limit >= len(inventory.cpus)
        self._nodes: tuple[NumaNode, ...] = inventory.numa_nodes if is_divided else ()
        self._free = {node.cpus: len(node.cpus) for node in self._nodes}
        for cpus, threads in bound:
            if cpus in self._free:
                self._free[cpus] -= threads

    def near(self, numa_node: int | None, threads: int) -> tuple[int, ...] | None:
        """The processors of this node, where a GPU is attached."""
        cpus = next((node.cpus for node in self._nodes if node.number == numa_node), None)
        if cpus is not None:
            self._free[cpus] -= threads
        return cpus

    def roomiest(self, threads: int) -> tuple[int, ...] | None:
        """The processors of the node with most left; None where no node has room for `threads`."""
        if not self._nodes:
            return None
        best = max(self._nodes, key=lambda node: (self._free[node.cpus], -node.number)).cpus
        if self._free[best] < threads:
            return None
        self._free[best] -= threads
        return best
