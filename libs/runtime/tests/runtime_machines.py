"""Machines of the placement tests: inventories under `recordings/`, and an NVML that answers as such a machine would.

The recordings were written by hand after NVIDIA's published names and sizes (data sheets; MIG User Guide), not taken
from machines. Two compute instances of one GPU instance are told by `shared_instance`.
"""

# ruff: noqa: N802  # the names are those of NVML

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from slipway_runtime.hardware import Device, Inventory, decode_inventory

RECORDINGS = Path(__file__).parent / "recordings"
NAMES = ("h100", "a100-mig", "eight-gpus", "no-gpu")
GIB = 1024**3
SLICES = 7
"""Of an A100 or H100."""


def recorded(name: str) -> Inventory:
    """A machine by the name of its recording."""
    return decode_inventory((RECORDINGS / f"{name}.json").read_bytes())


def machine(*free_gib: float, cpus: int = 8, memory_gib: float = 64.0) -> Inventory:
    """A machine with a GPU of 80 GiB for each number, which is what it has free."""
    devices = tuple(
        Device(
            uuid=f"GPU-{i:04d}",
            name="a GPU",
            index=i,
            memory_bytes=80 * GIB,
            free_bytes=int(free * GIB),
        )
        for i, free in enumerate(free_gib)
    )
    return Inventory(cpus=tuple(range(cpus)), cpu_limit=cpus, memory_bytes=int(memory_gib * GIB), devices=devices)


class NvmlFailure(Exception):
    """What `pynvml.NVMLError` is: an exception with NVML's number."""

    def __init__(self, value: int) -> None:
        super().__init__({3: "Not Supported", 6: "Not Found", 9: "Driver Not Loaded", 15: "GPU is lost"}.get(value))
        self.value = value


class RecordedNvml:
    """Answers like `pynvml` on the recorded machine. Handles: `(gpu,)` or `(gpu, slice)`.

    Args:
        machine: whose devices it has; slices are found under their parents, with a gap before the last one, as after a
            slice was removed.
        start_error: the number that `nvmlInit` fails with.
        lost: indices of GPUs that fail, and the number they fail with.
        shared_instance: all slices are compute instances of one GPU instance.
    """

    NVMLError = NvmlFailure
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NOT_FOUND = 6
    NVML_ERROR_LIBRARY_NOT_FOUND = 12

    def __init__(
        self,
        machine: Inventory,
        *,
        start_error: int = 0,
        lost: Mapping[int, int] | None = None,
        shared_instance: bool = False,
    ) -> None:
        self._start_error = start_error
        self._lost = lost or {}
        self._shared = shared_instance
        self.is_open = False
        self._gpus: dict[int, list[Device]] = {}
        for device in machine.devices:
            self._gpus.setdefault(device.index, []).append(device)

    def nvmlInit(self) -> None:
        if self._start_error:
            raise NvmlFailure(self._start_error)
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:
        if index in self._lost:
            raise NvmlFailure(self._lost[index])
        return (index,)

    def nvmlDeviceGetUUID(self, handle: object) -> str:
        match handle:
            case (int(gpu),) if self._gpus[gpu][0].is_mig:
                return self._gpus[gpu][0].parent
        return self._device(handle).uuid

    def nvmlDeviceGetName(self, handle: object) -> str:
        return self._device(handle).name

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> SimpleNamespace:
        device = self._device(handle)
        return SimpleNamespace(total=device.memory_bytes, free=device.free_bytes)

    def nvmlDeviceGetUtilizationRates(self, handle: object) -> SimpleNamespace:
        utilisation = self._device(handle).utilisation
        if utilisation is None:
            raise NvmlFailure(self.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(gpu=round(100 * utilisation), memory=0)

    def nvmlDeviceGetPciInfo(self, handle: object) -> SimpleNamespace:
        assert isinstance(handle, tuple)
        return SimpleNamespace(busId=f"00000000:{0x17 + handle[0]:02X}:00.0")

    def nvmlDeviceGetMigMode(self, handle: object) -> list[int]:
        if not self._device(handle).name.startswith(("NVIDIA A100", "NVIDIA H100")):
            raise NvmlFailure(self.NVML_ERROR_NOT_SUPPORTED)
        is_mig = int(self._device(handle).is_mig)
        return [is_mig, is_mig]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: object) -> int:
        return SLICES

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: object, index: int) -> object:
        assert isinstance(handle, tuple)
        last = len(self._gpus[handle[0]]) - 1
        numbers = {number if number < last else last + 2: number for number in range(last + 1)}
        if index not in numbers:
            raise NvmlFailure(self.NVML_ERROR_NOT_FOUND)
        return (handle[0], numbers[index])

    def nvmlDeviceGetGpuInstanceId(self, handle: object) -> int:
        assert isinstance(handle, tuple)
        return 1 if self._shared else 1 + int(handle[1])

    def nvmlDeviceGetAttributes(self, handle: object) -> SimpleNamespace:
        return SimpleNamespace(computeInstanceSliceCount=round(self._device(handle).compute_ratio * SLICES))

    def _device(self, handle: object) -> Device:
        assert self.is_open
        assert isinstance(handle, tuple)
        return self._gpus[handle[0]][handle[1] if len(handle) > 1 else 0]


def write_buses(root: Path, machine: Inventory) -> None:
    """The part of `/sys` that says to which NUMA node the GPUs of `RecordedNvml` are attached."""
    for device in machine.devices:
        folder = root / "sys" / "bus" / "pci" / "devices" / f"0000:{0x17 + device.index:02x}:00.0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "numa_node").write_text(f"{-1 if device.numa_node is None else device.numa_node}\n")
