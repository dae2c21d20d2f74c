"""Packs processes onto devices: a depth-first search whose first guess is best fit decreasing. Pure.

It knows no settings and no machine. The invariants: a bin never holds more memory or share than it has; the same
question has the same answer; the search is bounded (`MOST_STEPS`), so that it ends quickly where nothing fits. Within
the bound it is complete: None means that there is no way.
Source of the first guess: Johnson, "Near-optimal bin packing algorithms" (1973), best fit decreasing.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

__all__ = ["SHARE_STEPS", "Bin", "Item", "pack"]

SHARE_STEPS: Final = 1000
"""A whole device. Shares are whole numbers of these: as floats, 0.1 + 0.2 + 0.7 could be more than 1."""
MOST_STEPS: Final = 3_000
"""Tries of each search before it gives up; tens of milliseconds."""


class Item(NamedTuple):
    """One process."""

    pool: str
    share: int
    """Thousandths of a device; 0 for a process that waits."""
    memory_bytes: int


class Bin:
    """What is left of one device."""

    __slots__ = ("counts", "free_bytes", "free_share")

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        self.free_share = SHARE_STEPS
        self.counts: dict[str, int] = {}
        """Pool → its processes here."""

    def fits(self, item: Item) -> bool:
        """Whether there is room for it."""
        return item.memory_bytes <= self.free_bytes and item.share <= self.free_share

    def put(self, item: Item, times: int = 1) -> None:
        """It is here from now on; `times=-1` undoes it."""
        self.free_bytes -= times * item.memory_bytes
        self.free_share -= times * item.share
        self.counts[item.pool] = self.counts.get(item.pool, 0) + times


ItemOrder = Callable[[Item], tuple[int, ...]]
BinOrder = Callable[[Bin, Item], tuple[int, ...]]


def pack(items: Sequence[Item], bins: Sequence[Bin]) -> list[int] | None:
    """The number of the bin of each item, or None when they do not fit; `bins` are left as they were."""
    for larger, better in ((_by_share, _apart), (_by_share, _tight), (_by_memory, _tight)):
        order = sorted(range(len(items)), key=lambda n: (*larger(items[n]), items[n].pool, n))
        found = _Search([items[n] for n in order], bins, better).run()
        if found is not None:
            return [number for _, number in sorted(zip(order, found, strict=True))]
    return None


def _by_share(item: Item) -> tuple[int, ...]:
    return -item.share, -item.memory_bytes


def _by_memory(item: Item) -> tuple[int, ...]:
    return -item.memory_bytes, -item.share


def _apart(bin_: Bin, item: Item) -> tuple[int, ...]:
    """Away from its own pool first, so that one device's loss costs least.

    Then where it fits best; what waits goes where most share is free, because it may have to compute there.
    """
    here = bin_.counts.get(item.pool, 0)
    return (here, *_tight(bin_, item)) if item.share else (here, -bin_.free_share, bin_.free_bytes)


def _tight(bin_: Bin, item: Item) -> tuple[int, ...]:
    """Where least is left over: of the share, then of the memory."""
    return bin_.free_share - item.share, bin_.free_bytes - item.memory_bytes


class _Search:
    """One depth-first search."""

    def __init__(self, items: Sequence[Item], bins: Sequence[Bin], better: BinOrder) -> None:
        self._items = items
        self._bins = bins
        self._better = better
        self._steps = MOST_STEPS
        self._chosen: list[int] = []
        self._hopeless: set[tuple[tuple[int, int], ...]] = set()
        """What was left of the bins, sorted, where the rest did not fit; the length of the rest follows from it."""

    def run(self) -> list[int] | None:
        """Where each item goes; the bins are as before."""
        found = self._descend()
        for number, item in zip(self._chosen, self._items, strict=False):
            self._bins[number].put(item, -1)
        return self._chosen if found else None

    def _descend(self) -> bool:
        if len(self._chosen) == len(self._items):
            return True
        left = (len(self._chosen), 0), *sorted((bin_.free_share, bin_.free_bytes) for bin_ in self._bins)
        if left in self._hopeless:
            return False
        item = self._items[len(self._chosen)]
        for number in self._candidates(item):
            self._steps -= 1
            if self._steps < 0:
                return False
            self._bins[number].put(item)
            self._chosen.append(number)
            if self._descend():
                return True
            self._chosen.pop()
            self._bins[number].put(item, -1)
        self._hopeless.add(left)
        return False

    def _candidates(self, item: Item) -> Iterator[int]:
        """Bins with room for it, best first; of bins with equally much left only the best."""
        seen = set()
        roomy = [number for number, bin_ in enumerate(self._bins) if bin_.fits(item)]
        for number in sorted(roomy, key=lambda n: (*self._better(self._bins[n], item), n)):
            left = self._bins[number].free_share, self._bins[number].free_bytes
            if left not in seen:
                seen.add(left)
                yield number
