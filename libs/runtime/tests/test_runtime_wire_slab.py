"""Shared memory: places never overlap, what is freed can be used again, and nobody reads outside."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slipway_runtime.wire.frames import Place, WireError
from slipway_runtime.wire.slab import FirstFit, Slab, SlabView

CAPACITY = 4096


class FirstFitMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.allocator = FirstFit(CAPACITY)
        self.used: dict[int, int] = {}

    @rule(size=st.integers(1, CAPACITY // 3))
    def allocate(self, size: int) -> None:
        offset = self.allocator.allocate(size)

        if offset is None:
            assert all(end - start < size for start, end in self.allocator.holes)
        else:
            assert offset % 64 == 0
            self.used[offset] = size

    @precondition(lambda self: self.used)
    @rule(pick=st.randoms())
    def free(self, pick: random.Random) -> None:
        offset = pick.choice(sorted(self.used))
        del self.used[offset]

        self.allocator.free(offset)

        with pytest.raises(WireError, match="freed twice"):
            self.allocator.free(offset)

    @invariant()
    def every_byte_is_in_one_place_or_one_hole(self) -> None:
        taken = sorted([(at, at + -(-size // 64) * 64) for at, size in self.used.items()] + list(self.allocator.holes))

        assert [start for start, _ in taken] == [0, *(end for _, end in taken)][:-1]
        assert taken[-1][1] == CAPACITY

    @invariant()
    def neighbouring_holes_are_one(self) -> None:
        holes = self.allocator.holes
        assert all(before[1] < after[0] for before, after in pairwise(holes))

    @invariant()
    def counts_are_true(self) -> None:
        assert self.allocator.places == len(self.used)
        assert self.allocator.used_bytes == sum(-(-size // 64) * 64 for size in self.used.values())


TestFirstFit = FirstFitMachine.TestCase


@pytest.fixture(params=["memfd", "file"])
def slab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slab]:
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    slab = Slab(1 << 16)
    yield slab
    slab.close()


def view_of(slab: Slab) -> SlabView:
    return SlabView(os.dup(slab.fileno()), slab.capacity)


def test_a_view_reads_what_was_written(slab: Slab) -> None:
    view = view_of(slab)
    first, second = slab.write(b"hello"), slab.write(memoryview(b"world!"))
    assert first is not None
    assert second is not None

    assert bytes(view.read(first)) == b"hello"
    assert bytes(view.read(second)) == b"world!"
    assert view.read(first).readonly


def test_another_process_reads_what_was_written(slab: Slab) -> None:
    place = slab.write(b"across")
    assert place is not None
    code = (
        "import sys; from slipway_runtime.wire import Place, SlabView;"
        "fd, capacity, offset, size = map(int, sys.argv[1:]);"
        "sys.stdout.write(bytes(SlabView(fd, capacity).read(Place(offset, size))).decode())"
    )
    numbers = [str(number) for number in (slab.fileno(), slab.capacity, place.offset, place.size)]

    told = subprocess.run(
        [sys.executable, "-c", code, *numbers], pass_fds=[slab.fileno()], capture_output=True, check=True, text=True
    )

    assert told.stdout == "across"


def test_a_full_slab_says_so_and_has_room_again_when_something_is_freed(slab: Slab) -> None:
    places = [slab.write(b"x" * 1024) for _ in range(64)]
    assert slab.write(b"x") is None
    middle = places[7]
    assert middle is not None

    slab.free(middle.offset)

    assert slab.write(b"y" * 1024) == middle
    assert slab.places == 64
    assert slab.used_bytes == slab.capacity


def test_what_a_view_has_read_outlives_the_view_and_the_writer(slab: Slab) -> None:
    place = slab.write(b"kept")
    assert place is not None
    memory = view_of(slab).read(place)

    slab.close()
    slab.close()

    assert bytes(memory) == b"kept"


@pytest.mark.parametrize(("offset", "size"), [(-1, 4), (1 << 16, 1), ((1 << 16) - 1, 2), (0, -1), (0, (1 << 16) + 1)])
def test_a_place_outside_the_slab_is_not_read(slab: Slab, offset: int, size: int) -> None:
    with pytest.raises(WireError, match="outside its slab"):
        view_of(slab).read(Place(offset, size))


def test_a_slab_that_is_smaller_than_announced_is_refused_and_its_descriptor_closed(slab: Slab) -> None:
    fd = os.dup(slab.fileno())

    with pytest.raises(WireError, match="smaller than announced"):
        SlabView(fd, slab.capacity + 1)

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only a memfd can be sealed")
def test_no_process_can_shrink_a_slab_under_its_readers() -> None:
    slab = Slab(1 << 16)

    with pytest.raises(PermissionError):
        os.ftruncate(slab.fileno(), 0)
    slab.close()


def test_a_slab_costs_nothing_until_it_is_used(slab: Slab) -> None:
    large = Slab(1 << 40)

    assert os.fstat(large.fileno()).st_blocks == 0
    large.close()


def test_memory_that_cannot_be_had_is_an_error_with_its_size() -> None:
    with pytest.raises(WireError, match=f"{1 << 62} bytes cannot be had"):
        Slab(1 << 62)
