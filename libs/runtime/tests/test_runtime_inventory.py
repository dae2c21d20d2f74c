import os
from pathlib import Path

import msgspec
import psutil
import pytest
from runtime_machines import GIB, NAMES, RecordedNvml, machine, recorded, write_buses

from slipway_runtime.hardware import decode_inventory, describe, visible_devices
from slipway_runtime.inventory import read_inventory
from slipway_runtime.nvml import load_nvml, read_devices

LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED, GPU_IS_LOST = 12, 9, 15


def test_processors_are_those_this_process_may_run_on() -> None:
    inventory = read_inventory()

    assert set(inventory.cpus) == os.sched_getaffinity(0)
    assert 0 < inventory.cpu_limit <= len(inventory.cpus)
    assert sorted(cpu for node in inventory.numa_nodes for cpu in node.cpus) == list(inventory.cpus)


def test_a_process_bound_to_one_processor_has_one() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        inventory = read_inventory()
    finally:
        os.sched_setaffinity(0, before)

    assert (inventory.cpus, inventory.threads) == ((min(before),), 1)


def test_memory_is_that_of_the_machine_or_less() -> None:
    assert GIB // 16 < read_inventory().memory_bytes <= psutil.virtual_memory().total


def write_cgroup(root: Path, membership: str, mounts: list[str], files: dict[str, str]) -> None:
    process = root / "proc" / "self"
    process.mkdir(parents=True)
    (process / "cgroup").write_text(membership)
    (process / "mountinfo").write_text("\n".join(mounts) + "\n")
    (root / "proc" / "meminfo").write_text("MemTotal:       16777216 kB\nMemFree:         1000000 kB\n")
    for name, content in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")


V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {} /sys/fs/cgroup/{} rw,relatime shared:9 - cgroup cgroup rw,{}"


@pytest.mark.parametrize(
    ("membership", "mounts", "files", "cpu_limit", "memory_gib"),
    [
        pytest.param("0::/\n", [V2], {"cpu.max": "150000 100000", "memory.max": f"{2 * GIB}"}, 1.5, 2, id="v2"),
        pytest.param("0::/\n", [V2], {"cpu.max": "max 100000", "memory.max": "max"}, 8, 16, id="v2 without limits"),
        pytest.param(
            "0::/pod/app\n",
            [V2],
            {"pod/cpu.max": "200000 100000", "pod/app/cpu.max": "max 100000", "pod/app/memory.max": f"{GIB}"},
            2,
            1,
            id="v2, an ancestor has the quota",
        ),
        pytest.param(
            "4:memory:/a\n3:cpu,cpuacct:/a\n",
            [V1.format("/", "cpu,cpuacct", "cpu,cpuacct"), V1.format("/", "memory", "memory")],
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
                "memory/a/memory.limit_in_bytes": f"{3 * GIB}",
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            3,
            3,
            id="v1",
        ),
        pytest.param(
            "4:memory:/docker/c0ffee\n3:cpu:/docker/c0ffee\n",
            [V1.format("/docker/c0ffee", "cpu", "cpu"), V1.format("/docker/c0ffee", "memory", "memory")],
            {
                "cpu/cpu.cfs_quota_us": "50000",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": f"{4 * GIB}",
            },
            0.5,
            4,
            id="v1, the mount shows the container's own cgroup",
        ),
        pytest.param(
            "3:cpu:/docker/c0ffee/inner\n",
            [V1.format("/docker/c0ffee", "cpu", "cpu")],
            {
                "cpu/inner/cpu.cfs_quota_us": "250000",
                "cpu/inner/cpu.cfs_period_us": "100000",
                "cpu/cpu.cfs_quota_us": "400000",
                "cpu/cpu.cfs_period_us": "100000",
            },
            2.5,
            16,
            id="v1, a cgroup inside of the container's",
        ),
        pytest.param(
            "3:cpu:/a\n",
            [V1.format("/", "cpu", "cpu")],
            {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"},
            8,
            16,
            id="v1 without limits",
        ),
        pytest.param("0::/\n", [], {"cpu.max": "100000 100000"}, 8, 16, id="no cgroup is mounted"),
    ],
)
def test_a_cgroup_limits_processors_and_memory(
    tmp_path: Path, membership: str, mounts: list[str], files: dict[str, str], cpu_limit: float, memory_gib: float
) -> None:
    write_cgroup(tmp_path, membership, mounts, files)

    inventory = read_inventory(root=tmp_path, affinity=range(8), nvml=RecordedNvml(machine()))

    assert (inventory.cpu_limit, inventory.memory_bytes / GIB) == (cpu_limit, memory_gib)


def test_half_a_processor_is_still_one_thread(tmp_path: Path) -> None:
    write_cgroup(tmp_path, "0::/\n", [V2], {"cpu.max": "50000 100000"})

    assert read_inventory(root=tmp_path, affinity=range(8)).threads == 1


def test_nodes_hold_only_processors_that_may_be_used(tmp_path: Path) -> None:
    for number, cpus in ((0, "0-3,8"), (1, "4-7"), (2, "")):
        folder = tmp_path / "sys" / "devices" / "system" / "node" / f"node{number}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{cpus}\n")

    inventory = read_inventory(root=tmp_path, affinity={1, 2, 5, 8})

    assert [(node.number, node.cpus) for node in inventory.numa_nodes] == [(0, (1, 2, 8)), (1, (5,))]


@pytest.mark.parametrize("name", NAMES)
def test_nvml_is_read_as_it_was_recorded(name: str, tmp_path: Path) -> None:
    """Whole GPUs, slices with a gap in their numbers, and the node of each bus."""
    expected = recorded(name)
    write_buses(tmp_path, expected)
    nvml = RecordedNvml(expected)

    devices, warnings = read_devices(nvml, root=tmp_path)

    assert (devices, warnings) == (expected.devices, ())
    assert not nvml.is_open


def test_how_busy_a_gpu_is_is_read_where_it_says_so() -> None:
    old, new = machine(16.0), recorded("h100")
    busy = msgspec.structs.replace(new, devices=(msgspec.structs.replace(new.devices[0], utilisation=0.83),))

    assert [device.utilisation for device in read_devices(RecordedNvml(busy))[0]] == [0.83]
    assert [device.utilisation for device in read_devices(RecordedNvml(old))[0]] == [None]


def test_a_gpu_that_is_cut_is_no_device_itself() -> None:
    devices, _ = read_devices(RecordedNvml(recorded("a100-mig")))

    assert {device.uuid[:4] for device in devices} == {"MIG-"}
    assert len({device.parent for device in devices}) == 1


def test_compute_instances_that_share_memory_are_not_promised_it_twice() -> None:
    whole = recorded("a100-mig")

    devices, _ = read_devices(RecordedNvml(whole, shared_instance=True))

    assert [d.free_bytes for d in devices] == [d.free_bytes // 3 for d in whole.devices]
    assert [d.memory_bytes for d in devices] == [d.memory_bytes // 3 for d in whole.devices]


def test_an_old_gpu_without_slices_is_a_device() -> None:
    devices, warnings = read_devices(RecordedNvml(machine(16.0)))

    assert ([d.uuid for d in devices], warnings) == (["GPU-0000"], ())


def test_a_machine_without_the_driver_has_no_gpu_and_no_complaint() -> None:
    assert read_devices(RecordedNvml(machine(), start_error=LIBRARY_NOT_FOUND)) == ((), ())
    assert read_devices(None) == ((), ())


def test_the_installed_nvml_has_what_is_used_of_it() -> None:
    """The recorded one stands in for it, so a name that only the stand-in has would go unseen."""
    used = {name for name in dir(RecordedNvml) if name.lower().startswith("nvml")}

    assert used - set(dir(load_nvml())) == set()


def test_the_installed_nvml_never_raises() -> None:
    """On a machine without a GPU it is the real library's absence that is met here."""
    devices, warnings = read_devices(load_nvml())

    assert len({device.uuid for device in devices}) == len(devices)
    assert all("GPU" in warning for warning in warnings)


def test_a_driver_that_fails_is_a_warning() -> None:
    inventory = read_inventory(nvml=RecordedNvml(machine(), start_error=DRIVER_NOT_LOADED))

    assert inventory.devices == ()
    assert inventory.warnings == ("the GPU driver does not answer: Driver Not Loaded; no GPU is used",)


def test_one_lost_gpu_does_not_hide_the_others() -> None:
    devices, warnings = read_devices(RecordedNvml(recorded("eight-gpus"), lost={5: GPU_IS_LOST}))

    assert [device.index for device in devices] == [0, 1, 2, 3, 4, 6, 7]
    assert warnings == ("GPU 5 does not answer: GPU is lost; it is not used",)


@pytest.mark.parametrize(
    ("allowed", "indices"),
    [(None, [0, 1, 2, 3]), ("", []), ("-1", []), ("2", [2]), ("3,0", [0, 3]), ("GPU-0001", [1]), ("0,9,1", [0])],
)
def test_gpus_that_the_operator_hides_are_left_out(allowed: str | None, indices: list[int]) -> None:
    shown = visible_devices(machine(16, 16, 16, 16).devices, allowed)

    assert [device.index for device in shown] == indices


@pytest.mark.parametrize("name", NAMES)
def test_an_inventory_survives_its_json(name: str) -> None:
    inventory = recorded(name)

    assert decode_inventory(msgspec.json.encode(inventory)) == inventory


def test_an_inventory_of_a_newer_version_is_read() -> None:
    document = b'{"cpus": [0], "cpu_limit": 1, "memory_bytes": 1, "bandwidth": 9}'

    assert decode_inventory(document).cpus == (0,)


def test_a_description_names_every_device() -> None:
    lines = describe(recorded("a100-mig"))

    assert lines[:2] == [
        "32 processors, 12 of them at a time by the cgroup's quota, on 2 NUMA nodes",
        "64.0 GiB of memory",
    ]
    assert lines[2].startswith(
        "slice of GPU 0: NVIDIA A100-SXM4-40GB MIG 3g.20gb, 19.6 GiB of 19.6 GiB free, NUMA node 1"
    )
    assert describe(recorded("no-gpu"))[-1] == "no GPU"
