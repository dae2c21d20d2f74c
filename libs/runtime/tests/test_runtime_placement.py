import itertools
import re
from collections import Counter
from collections.abc import Sequence
from random import Random

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from runtime_machines import GIB, machine, recorded

from slipway_runtime.hardware import Inventory
from slipway_runtime.placement import Demand, DeviceKind, Placement, PlacementError, place, replace

SHARES = (0.1, 0.2, 0.25, 0.333, 0.5, 0.7, 1.0)
MEMORIES = (0, 3, 5, 8, 13)


@st.composite
def demands(draw: st.DrawFn, device: DeviceKind | None = None) -> list[Demand]:
    kinds: tuple[DeviceKind, ...] = (device,) if device else ("gpu", "cpu", "auto")
    return [
        Demand(
            pool=f"pool{number}",
            device=draw(st.sampled_from(kinds)),
            replicas=draw(st.integers(1, 3)),
            standby=draw(st.integers(0, 1)),
            share=draw(st.sampled_from(SHARES)),
            memory_bytes=draw(st.sampled_from(MEMORIES)) * GIB,
            threads=draw(st.sampled_from((0, 0, 1, 3))),
        )
        for number in range(draw(st.integers(1, 3)))
    ]


machines = st.lists(st.sampled_from((0.5, 7.9, 16.0, 24.0)), max_size=4).map(lambda free: machine(*free))


def tried(inventory: Inventory, asked: Sequence[Demand]) -> Placement | None:
    try:
        return place(inventory, asked)
    except PlacementError:
        return None


@given(machines, demands())
def test_no_device_is_promised_beyond_its_memory_or_its_share(inventory: Inventory, asked: list[Demand]) -> None:
    placed = tried(inventory, asked)

    of_pool = {demand.pool: demand for demand in asked}
    slots = placed.slots if placed else ()
    for device in inventory.devices:
        here = [(of_pool[slot.pool], slot.replica) for slot in slots if slot.device == device.uuid]
        assert sum(demand.memory_bytes for demand, _ in here) <= device.free_bytes
        assert sum(demand.share for demand, replica in here if replica < demand.replicas) <= 1.001
    on_cpu = [of_pool[slot.pool].memory_bytes for slot in slots if not slot.device]
    assert sum(on_cpu) <= inventory.memory_bytes


@given(machines, demands())
def test_every_process_has_one_slot_or_nothing_is_placed(inventory: Inventory, asked: list[Demand]) -> None:
    placed = tried(inventory, asked)

    wanted = [(d.pool, replica) for d in asked for replica in range(d.replicas + d.standby)]
    assert placed is None or [(slot.pool, slot.replica) for slot in placed.slots] == wanted


@given(machines, demands(), st.randoms(use_true_random=False))
def test_the_order_in_which_pools_are_named_does_not_matter(
    inventory: Inventory, asked: list[Demand], random: Random
) -> None:
    other = list(asked)
    random.shuffle(other)

    first, second = tried(inventory, asked), tried(inventory, other)

    def by_process(placed: Placement | None) -> object:
        return placed and {(slot.pool, slot.replica): slot for slot in placed.slots}

    assert by_process(first) == by_process(second)


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_equal_pools_get_the_same_places_in_either_order(device: DeviceKind) -> None:
    one, two = (Demand(pool=pool, device=device, threads=8) for pool in ("one", "two"))

    first, second = (place(recorded("eight-gpus"), asked) for asked in ([one, two], [two, one]))

    assert first.slots == second.slots[::-1]
    assert first.slots[0].cpus != first.slots[1].cpus or device == "gpu"


def fits_somehow(items: Sequence[tuple[int, int]], bins: Sequence[int]) -> bool:
    """By trying everything: items are (thousandths, bytes), bins the free bytes of devices."""
    for where in itertools.product(range(len(bins)), repeat=len(items)):
        shares, sizes = Counter[int](), Counter[int]()
        for number, (share, size) in zip(where, items, strict=True):
            shares[number] += share
            sizes[number] += size
        if all(shares[n] <= 1000 and sizes[n] <= free for n, free in enumerate(bins)):
            return True
    return False


items = st.lists(
    st.tuples(st.sampled_from((200, 250, 333, 500, 700, 1000)), st.sampled_from((0, 3, 5, 8, 13))), max_size=6
)


@given(items, st.lists(st.sampled_from((4, 8, 16)), min_size=1, max_size=3))
@example([(250, 3), (333, 5), (700, 8), (500, 3)], [8, 16])
@example([(500, 5), (200, 8), (500, 3), (333, 0), (700, 5), (500, 3)], [16, 8, 8])
def test_nothing_that_fits_is_refused(sizes: list[tuple[int, int]], free: list[int]) -> None:
    """So no placement needs more devices than the best one does."""
    asked = [
        Demand(pool=f"pool{i}", device="gpu", share=share / 1000, memory_bytes=size * GIB)
        for i, (share, size) in enumerate(sizes)
    ]

    placed = tried(machine(*free), asked)

    assert (placed is not None) == fits_somehow(sizes, free)


@given(demands("gpu"), st.data())
def test_after_a_loss_everything_else_stays_where_it_is(asked: list[Demand], data: st.DataObject) -> None:
    inventory = machine(40, 40, 40, 40, 40)
    placed = tried(inventory, asked)
    if placed is None:
        return
    lost = data.draw(st.sampled_from(placed.slots))
    is_device = data.draw(st.booleans())

    try:
        again = (
            replace(placed, inventory, lost_devices=[lost.device])
            if is_device
            else replace(placed, inventory, lost_replicas=[(lost.pool, lost.replica)])
        )
    except PlacementError:
        assert is_device  # a process alone can always go back where it was
        return

    for before, after in zip(placed.slots, again.slots, strict=True):
        is_lost = before.device == lost.device if is_device else before == lost
        assert is_lost or before == after
        assert not (is_device and after.device == lost.device)


def test_a_refusal_shows_its_arithmetic_and_what_would_fit() -> None:
    asked = [Demand(pool="gpu0", device="gpu", replicas=3, share=0.5, memory_bytes=9 * GIB)]

    with pytest.raises(PlacementError) as refused:
        place(machine(15.8), asked)

    assert refused.value.message == (
        "pool 'gpu0' needs 3 x 0.5 = 1.5 of a GPU and 3 x 9.0 GiB; 1 device: GPU-0000 has 1 and 15.8 GiB free"
    )
    assert refused.value.hint == "`replicas = 1` fits"
    assert (refused.value.code, refused.value.exit_status) == ("placement_impossible", 2)


def test_a_refusal_counts_what_the_other_pools_have() -> None:
    asked = [Demand(pool="large", device="gpu", share=0.7), Demand(pool="small", device="gpu", share=0.5)]

    with pytest.raises(PlacementError) as refused:
        place(machine(16), asked)

    assert refused.value.message == (
        "pool 'small' needs 1 x 0.5 = 0.5 of a GPU; 1 device beside 'large': GPU-0000 has 0.3 and 16.0 GiB free"
    )
    assert refused.value.hint == "`share = 0.25` fits"


@pytest.mark.parametrize(
    ("asked", "inventory"),
    [
        (Demand(pool="p", device="gpu", replicas=3), machine(16, 16)),
        (Demand(pool="p", device="gpu", replicas=3, share=0.7, memory_bytes=5 * GIB), machine(16)),
        (Demand(pool="p", device="gpu", replicas=2, standby=2, memory_bytes=9 * GIB), machine(16, 16, 16)),
        (Demand(pool="p", device="gpu", replicas=4, standby=1, memory_bytes=9 * GIB), machine(16, 8)),
    ],
)
def test_every_proposal_of_a_hint_does_fit(asked: Demand, inventory: Inventory) -> None:
    with pytest.raises(PlacementError) as refused:
        place(inventory, [asked])

    ways = (refused.value.hint or "").removesuffix(" fits").split(" or ")
    for way in ways:
        changes = dict(re.findall(r"`(\w+) = ([\d.]+)`", way))
        assert changes, way
        smaller = {name: float(value) if name == "share" else int(value) for name, value in changes.items()}
        assert place(inventory, [msgspec.structs.replace(asked, **smaller)])


def test_pools_on_processors_share_the_memory_of_the_machine() -> None:
    asked = [Demand(pool="a", replicas=4, memory_bytes=20 * GIB), Demand(pool="b", memory_bytes=2 * GIB)]

    with pytest.raises(PlacementError) as refused:
        place(machine(memory_gib=64), asked)

    assert refused.value.message == (
        "pools on processors need 82.0 GiB of memory ('a' 4 x 20.0 GiB, 'b' 1 x 2.0 GiB), 64.0 GiB may be used"
    )
    assert refused.value.hint == "3 of the 4 processes of pool 'a' would fit"


def test_a_gpu_pool_without_a_gpu_says_what_to_write_instead() -> None:
    with pytest.raises(PlacementError) as refused:
        place(recorded("no-gpu"), [Demand(pool="gpu0", device="gpu")])

    assert "got a machine without one" in refused.value.message
    assert refused.value.hint == '`device = "cpu"` runs it on processors, `device = "auto"` wherever it can'


def test_a_failing_driver_is_named_where_a_gpu_is_missed() -> None:
    broken = msgspec.structs.replace(recorded("no-gpu"), warnings=("the GPU driver does not answer",))

    with pytest.raises(PlacementError, match="the GPU driver does not answer"):
        place(broken, [Demand(pool="gpu0", device="gpu")])


def test_auto_takes_a_gpu_where_there_is_one() -> None:
    asked = [Demand(pool="any", device="auto", memory_bytes=GIB)]

    assert place(recorded("h100"), asked).slots[0].device.startswith("GPU-")
    assert place(recorded("no-gpu"), asked).slots[0].device == ""


def test_auto_falls_back_to_processors_when_its_only_gpu_is_lost() -> None:
    inventory = recorded("h100")
    placed = place(inventory, [Demand(pool="any", device="auto")])

    again = replace(placed, inventory, lost_devices=[placed.slots[0].device])

    assert again.slots[0].device == ""
    assert again.slots[0].environment["CUDA_VISIBLE_DEVICES"] == ""


def test_replicas_of_a_pool_are_spread_over_devices() -> None:
    """One device's loss costs a pool as little as it can."""
    placed = place(recorded("eight-gpus"), [Demand(pool="p", device="gpu", replicas=4, share=0.25, memory_bytes=GIB)])

    assert len({slot.device for slot in placed.slots}) == 4


def test_spreading_gives_way_to_a_pool_that_needs_whole_devices() -> None:
    asked = [
        Demand(pool="whole", device="gpu", replicas=1, share=1.0),
        Demand(pool="half", device="gpu", replicas=2, share=0.5),
    ]

    placed = place(machine(16, 16), asked)

    assert len({slot.device for slot in placed.slots if slot.pool == "half"}) == 1


def test_a_small_pool_leaves_the_large_slice_free() -> None:
    inventory = recorded("a100-mig")
    asked = [
        Demand(pool="large", device="gpu", memory_bytes=18 * GIB),
        Demand(pool="middle", device="gpu", memory_bytes=8 * GIB),
        Demand(pool="small", device="gpu", memory_bytes=2 * GIB),
    ]

    placed = place(inventory, asked)

    assert [slot.device for slot in placed.slots] == [device.uuid for device in inventory.devices]


def test_a_process_sees_exactly_its_device() -> None:
    placed = place(recorded("h100"), [Demand(pool="g", device="gpu"), Demand(pool="c", threads=4)])

    on_gpu, on_cpu = placed.slots
    assert on_gpu.environment["CUDA_VISIBLE_DEVICES"] == on_gpu.device
    assert on_cpu.environment == {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "4",
        "MKL_NUM_THREADS": "4",
    }


def test_a_standby_process_needs_memory_and_no_share() -> None:
    placed = place(machine(16), [Demand(pool="p", device="gpu", standby=1, memory_bytes=8 * GIB)])

    assert [slot.device for slot in placed.slots] == ["GPU-0000", "GPU-0000"]
    with pytest.raises(PlacementError, match=r"2 x 9\.0 GiB"):
        place(machine(16), [Demand(pool="p", device="gpu", standby=1, memory_bytes=9 * GIB)])


@pytest.mark.parametrize(
    ("cpus", "asked", "expected"),
    [
        (8, [Demand(pool="a", replicas=2)], {"a": 4}),
        (8, [Demand(pool="a", replicas=2), Demand(pool="b", replicas=2, standby=3)], {"a": 2, "b": 2}),
        (8, [Demand(pool="a", threads=5), Demand(pool="b", replicas=3)], {"a": 5, "b": 1}),
        (8, [Demand(pool="g", device="gpu"), Demand(pool="b")], {"g": 2, "b": 8}),
        (2, [Demand(pool="g", device="gpu"), Demand(pool="b")], {"g": 1, "b": 2}),
        (2, [Demand(pool="g", device="gpu", threads=6)], {"g": 6}),
    ],
)
def test_processors_are_divided_over_the_replicas(cpus: int, asked: list[Demand], expected: dict[str, int]) -> None:
    placed = place(machine(16, cpus=cpus), asked)

    assert {slot.pool: slot.threads for slot in placed.slots} == expected
    assert placed.warnings == ()


def test_more_threads_than_processors_are_allowed_with_a_warning() -> None:
    placed = place(machine(cpus=4), [Demand(pool="a", replicas=2, threads=3)])

    assert {slot.threads for slot in placed.slots} == {3}
    assert placed.warnings == (
        "replicas compute with 6 threads ('a' 2 x 3) on 4 processors: they will slow each other down",
    )


def test_a_quota_counts_as_fewer_processors() -> None:
    placed = place(recorded("no-gpu"), [Demand(pool="a", replicas=2)])

    assert [slot.threads for slot in placed.slots] == [1, 1]
    assert placed.warnings == ()


def test_processes_are_bound_near_their_gpu_and_apart_from_each_other() -> None:
    inventory = recorded("eight-gpus")
    nodes = [node.cpus for node in inventory.numa_nodes]
    asked = [Demand(pool="g", device="gpu", replicas=8), Demand(pool="c", replicas=2, threads=16)]

    placed = place(inventory, asked)

    node_of = {device.uuid: device.numa_node for device in inventory.devices}
    assert all(s.cpus == nodes[node_of[s.device] or 0] for s in placed.slots if s.device)
    assert [s.cpus for s in placed.slots if not s.device] == nodes


def test_a_process_that_needs_two_nodes_is_not_bound_to_one() -> None:
    placed = place(recorded("eight-gpus"), [Demand(pool="c", threads=64)])

    assert placed.slots[0].cpus is None


def test_a_pool_that_is_asked_for_twice_is_refused() -> None:
    with pytest.raises(PlacementError, match="'a' is asked for more than once"):
        place(machine(), [Demand(pool="a"), Demand(pool="a")])


def test_a_device_that_is_gone_from_the_inventory_counts_as_lost() -> None:
    placed = place(machine(16, 16), [Demand(pool="p", device="gpu", replicas=2, share=0.5)])
    first = machine(16, 16).devices[0].uuid

    again = replace(placed, msgspec.structs.replace(machine(16, 16), devices=machine(16, 16).devices[1:]))

    assert {slot.device for slot in placed.slots} == {first, "GPU-0001"}
    assert {slot.device for slot in again.slots} == {"GPU-0001"}
