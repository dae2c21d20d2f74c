"""Reads GPUs and MIG slices through NVML, the library that `nvidia-smi` uses.

It changes nothing: slices are taken as found. The module `pynvml` is an argument. The invariant: it never raises for
what a machine has or lacks; no library is no GPU, and a driver or a GPU that fails is a sentence for the operator.
Sources: NVIDIA, "NVML API Reference"; "MIG User Guide".
"""

# ruff: noqa: N802  # the names are those of NVML

import importlib
from pathlib import Path
from typing import Protocol, cast

from slipway_runtime.hardware import Device

__all__ = ["Nvml", "load_nvml", "read_devices"]

MIG_ENABLED = 1

Handle = object


class _Memory(Protocol):
    @property
    def total(self) -> int: ...
    @property
    def free(self) -> int: ...


class _Utilisation(Protocol):
    @property
    def gpu(self) -> int: ...


class _Slices(Protocol):
    @property
    def computeInstanceSliceCount(self) -> int: ...


class _Pci(Protocol):
    @property
    def busId(self) -> str: ...


class Nvml(Protocol):
    """The part of the module `pynvml` that is used here; every call may raise `NVMLError`, which has a `value`."""

    @property
    def NVMLError(self) -> type[Exception]: ...  # noqa: D102

    NVML_ERROR_LIBRARY_NOT_FOUND: int
    NVML_ERROR_NOT_SUPPORTED: int
    NVML_ERROR_NOT_FOUND: int

    def nvmlInit(self) -> None: ...  # noqa: D102
    def nvmlShutdown(self) -> None: ...  # noqa: D102
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: D102
    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> Handle: ...  # noqa: D102
    def nvmlDeviceGetUUID(self, handle: Handle, /) -> str: ...  # noqa: D102
    def nvmlDeviceGetName(self, handle: Handle, /) -> str: ...  # noqa: D102
    def nvmlDeviceGetMemoryInfo(self, handle: Handle, /) -> _Memory: ...  # noqa: D102
    def nvmlDeviceGetUtilizationRates(self, handle: Handle, /) -> _Utilisation: ...  # noqa: D102
    def nvmlDeviceGetPciInfo(self, handle: Handle, /) -> _Pci: ...  # noqa: D102
    def nvmlDeviceGetMigMode(self, handle: Handle, /) -> list[int]: ...  # noqa: D102
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Handle, /) -> int: ...  # noqa: D102
    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Handle, index: int, /) -> Handle: ...  # noqa: D102
    def nvmlDeviceGetGpuInstanceId(self, handle: Handle, /) -> int: ...  # noqa: D102
    def nvmlDeviceGetAttributes(self, handle: Handle, /) -> _Slices: ...  # noqa: D102


def load_nvml() -> Nvml | None:
    """The module `pynvml`; None when the package is not installed. Importing it touches no GPU."""
    try:
        return cast("Nvml", importlib.import_module("pynvml"))
    except ModuleNotFoundError:
        return None


def read_devices(nvml: Nvml | None, *, root: Path = Path("/")) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """All devices that a process can be given, and warnings. Takes tens of milliseconds with a driver, else none.

    Args:
        nvml: the module, or None for "not installed".
        root: where `sys` is, which says to which NUMA node a GPU is attached.
    """
    if nvml is None:
        return (), ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if _value(error) == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return (), ()
        return (), (f"the GPU driver does not answer: {error}; no GPU is used",)
    devices: list[Device] = []
    warnings: list[str] = []
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                devices += _read_gpu(nvml, index, root)
            except nvml.NVMLError as error:
                warnings.append(f"GPU {index} does not answer: {error}; it is not used")
    except nvml.NVMLError as error:
        warnings.append(f"the GPU driver cannot count its GPUs: {error}; no GPU is used")
    finally:
        nvml.nvmlShutdown()
    return tuple(devices), tuple(warnings)


def _read_gpu(nvml: Nvml, index: int, root: Path) -> list[Device]:
    """The GPU as one device, or its slices when it is cut."""
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    numa_node = _numa_node(nvml, handle, root)
    if _is_cut(nvml, handle):
        return _read_slices(nvml, handle, index, numa_node)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return [
        Device(
            uuid=nvml.nvmlDeviceGetUUID(handle),
            name=nvml.nvmlDeviceGetName(handle),
            index=index,
            memory_bytes=memory.total,
            free_bytes=memory.free,
            numa_node=numa_node,
            utilisation=_utilisation(nvml, handle),
        )
    ]


def _utilisation(nvml: Nvml, handle: Handle) -> float | None:
    """What the GPU says of its last sample period, 1/6 s to 1 s; not every GPU does, and a slice never."""
    try:
        return nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    except nvml.NVMLError as error:
        if _value(error) == nvml.NVML_ERROR_NOT_SUPPORTED:
            return None
        raise


def _is_cut(nvml: Nvml, handle: Handle) -> bool:
    try:
        return nvml.nvmlDeviceGetMigMode(handle)[0] == MIG_ENABLED
    except nvml.NVMLError as error:
        if _value(error) == nvml.NVML_ERROR_NOT_SUPPORTED:
            return False
        raise


def _read_slices(nvml: Nvml, parent: Handle, index: int, numa_node: int | None) -> list[Device]:
    """Slices in their own order; the numbers of slices have gaps.

    Compute instances of one GPU instance share its memory, and NVML gives each of them all of it: here each counts an
    equal part, so that nothing is promised twice.
    """
    most = nvml.nvmlDeviceGetMaxMigDeviceCount(parent)
    found: list[tuple[Handle, int]] = []
    for number in range(most):
        try:
            handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, number)
        except nvml.NVMLError as error:
            if _value(error) == nvml.NVML_ERROR_NOT_FOUND:
                continue
            raise
        found.append((handle, nvml.nvmlDeviceGetGpuInstanceId(handle)))
    instances = [instance for _, instance in found]
    devices = []
    for handle, instance in found:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        sharers = instances.count(instance)
        devices.append(
            Device(
                uuid=nvml.nvmlDeviceGetUUID(handle),
                name=nvml.nvmlDeviceGetName(handle),
                index=index,
                memory_bytes=memory.total // sharers,
                free_bytes=memory.free // sharers,
                numa_node=numa_node,
                is_mig=True,
                parent=nvml.nvmlDeviceGetUUID(parent),
                compute_ratio=nvml.nvmlDeviceGetAttributes(handle).computeInstanceSliceCount / most,
            )
        )
    return devices


def _numa_node(nvml: Nvml, handle: Handle, root: Path) -> int | None:
    """The node that the GPU's bus is attached to.

    Not `nvmlDeviceGetNumaNodeId`, which answers only where the GPU itself is a NUMA node. NVML writes a PCI domain with
    eight digits, Linux with four; Linux says -1 when it does not know.
    """
    domain, _, place = nvml.nvmlDeviceGetPciInfo(handle).busId.lower().partition(":")
    path = root / "sys" / "bus" / "pci" / "devices" / f"{domain[-4:]}:{place}" / "numa_node"
    try:
        number = int(path.read_text())
    except (OSError, ValueError):
        return None
    return number if number >= 0 else None


def _value(error: Exception) -> object:
    """NVML's number of an error."""
    return getattr(error, "value", None)
