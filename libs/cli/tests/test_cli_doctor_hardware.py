"""`slipway doctor` shows what pools are placed on."""

import os

from cli_commands import Slipway

from slipway_cli.checks import check_hardware
from slipway_runtime.hardware import Device, Inventory

GIB = 1024**3
GPU = Device(uuid="GPU-1f6a20c4", name="NVIDIA H100", index=0, memory_bytes=80 * GIB, free_bytes=60 * GIB)


def test_the_table_has_this_machines_processors_memory_and_gpus(slipway: Slipway) -> None:
    checks = slipway("doctor", "--json").document["checks"]

    found = {check["name"]: check["found"] for check in checks}
    assert found["processors"].startswith(f"{len(os.sched_getaffinity(0))} processor")
    assert "GiB of memory" in found["memory"]
    assert "GPU" in found["gpu"]


def test_a_quota_lowers_the_number_of_workers_that_pay() -> None:
    inventory = Inventory(cpus=tuple(range(8)), cpu_limit=2.5, memory_bytes=4 * GIB)

    processors, memory, gpu = check_hardware(inventory)

    assert processors.found == "8 processors, 2.5 of them at a time by the cgroup's quota: `--workers 2` at most"
    assert (memory.found, gpu.found) == ("4.0 GiB of memory", "no GPU")


def test_each_gpu_has_a_line() -> None:
    inventory = Inventory(cpus=(0,), cpu_limit=1, memory_bytes=GIB, devices=(GPU, GPU))

    lines = [check.found for check in check_hardware(inventory) if check.name == "gpu"]

    assert lines == ["GPU 0: NVIDIA H100, 60.0 GiB of 80.0 GiB free, GPU-1f6a20c4"] * 2


def test_a_driver_that_fails_is_a_warning_with_a_fix() -> None:
    inventory = Inventory(cpus=(0,), cpu_limit=1, memory_bytes=GIB, warnings=("the GPU driver does not answer",))

    warned = [check for check in check_hardware(inventory) if check.status == "warn"]

    assert [check.found for check in warned] == ["the GPU driver does not answer"]
    assert "nvidia-smi" in (warned[0].fix or "")
