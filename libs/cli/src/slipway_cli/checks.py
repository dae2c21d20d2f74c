"""The checks of `slipway doctor`: each looks at one thing and says ok, warn or fail, what it found, and the fix.

It changes nothing, except that it makes and removes one empty file where the store is. The invariant: a check never
raises for what it is there to find; fail means that a verb will not work, warn that something is slower or missing.
"""

import importlib.metadata
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from slipway_bundle.errors import SlipwayError
from slipway_cli.home import store_folder
from slipway_cli.terminal import lines_of, size_text
from slipway_runtime.hardware import Inventory, describe
from slipway_runtime.inventory import read_inventory

OLDEST_PYTHON: Final = (3, 11)
LOW_DISK_BYTES: Final = 5_000_000_000
"""A bundle of a few gigabytes and its unpacked code still fit."""
NO_DISK_BYTES: Final = 500_000_000
FEW_FILES: Final = 4_096
"""Each connection is an open file; the server takes 20,000 connections by default but works with fewer."""
PORTS: Final = {8000: "--port", 8002: "--admin-port"}
FORMATS: Final = {
    "xgboost": "xgboost-cpu",
    "sklearn": "skops",
    "onnx": "onnxruntime",
    "safetensors": "safetensors",
}
"""Model format -> the distribution that its adapter needs."""
PROGRAMS: Final = {
    "git": "a bundle's lineage names the commit",
    "uv": "environments and the lock",
    "skopeo": "copies bundles between registries",
}
"""Optional programs and what each is for."""

PIN: Final = re.compile(r"^([a-z0-9][a-z0-9-]*)==([^\s;]+)(?: ; (.+?))?(?: \\)?$", re.MULTILINE)

Status = Literal["ok", "warn", "fail"]


class Check(Struct, frozen=True):
    """What one check found."""

    name: str
    status: Status
    found: str
    fix: str | None = None


def check_machine(environment: Mapping[str, str], here: Path) -> tuple[Check, ...]:
    """All checks, in the order in which they matter; takes well under a second."""
    return (
        check_python(),
        check_packages(here),
        *check_formats(),
        *check_store(environment),
        *(check_port(port, flag) for port, flag in PORTS.items()),
        check_files(),
        *check_hardware(read_inventory(allowed_devices=environment.get("CUDA_VISIBLE_DEVICES"))),
        *(check_program(program, purpose) for program, purpose in PROGRAMS.items()),
    )


def check_python() -> Check:
    """The interpreter that runs slipway."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", "fail", found, "slipway needs Python 3.11 or newer: `uv python install 3.13`")
    return Check("python", "ok", found)


def check_packages(here: Path) -> Check:
    """Installed packages against the nearest lock; packages that are not installed do not count."""
    lock = next((p / "requirements.lock" for p in (here, *here.parents) if (p / "requirements.lock").is_file()), None)
    if lock is None:
        return Check("packages", "ok", "no requirements.lock here to compare with")
    installed = {_normal(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()}
    wanted: dict[str, set[str]] = {}
    for name, version, _ in PIN.findall(lock.read_text("utf-8", "replace")):
        wanted.setdefault(name, set()).add(version)
    differing = [
        f"{name} {installed[name]} (lock: {' or '.join(sorted(versions))})"
        for name, versions in sorted(wanted.items())
        if name in installed and installed[name] not in versions
    ]
    if differing:
        shown = ", ".join(differing[:4]) + (f" and {len(differing) - 4} more" if len(differing) > 4 else "")
        return Check("packages", "warn", f"not as locked: {shown}", "`sh scripts/setup.sh dev`")
    return Check("packages", "ok", f"{len(installed.keys() & wanted.keys())} as in {lock}")


def check_formats() -> Iterator[Check]:
    """Which model formats can be loaded here."""
    for name, distribution in FORMATS.items():
        try:
            yield Check(f"format {name}", "ok", f"{distribution} {importlib.metadata.version(distribution)}")
        except importlib.metadata.PackageNotFoundError:
            yield Check(
                f"format {name}",
                "warn",
                f"{distribution} is not installed",
                f"`uv pip install 'slipway-bundle[{name}]'`",
            )


def check_store(environment: Mapping[str, str]) -> Iterator[Check]:
    """The store: can it be read and written, and is there room."""
    from slipway_bundle.store import Store

    try:
        root = store_folder(environment)
        store = Store.open(root)
        count = len(store.refs())
    except SlipwayError as error:
        yield Check("store", "fail", error.message, error.hint or "set SLIPWAY_HOME to another folder")
        return
    near = next(path for path in (root, *root.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=near):
            pass
    except OSError as error:
        fix = "set SLIPWAY_HOME to a folder that you may write"
        yield Check("store", "fail", f"{near} cannot be written: {error.strerror}", fix)
        return
    yield Check("store", "ok", f"{lines_of(count, 'bundle')} in {root}")
    free = shutil.disk_usage(near).free
    status: Status = "fail" if free < NO_DISK_BYTES else "warn" if free < LOW_DISK_BYTES else "ok"
    advice = None if status == "ok" else "`slipway bundle gc` frees what nothing refers to"
    yield Check("disk", status, f"{size_text(free)} free for the store", advice)


def check_port(port: int, flag: str) -> Check:
    """Whether a server could listen on a default port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Check(
                f"port {port}", "warn", f"taken: {error.strerror}", f"`slipway serve ... {flag} 0` chooses a free one"
            )
    return Check(f"port {port}", "ok", "free")


def check_files() -> Check:
    """How many files, and so connections, a process may have open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FEW_FILES:
        return Check("open files", "ok", f"{'no limit' if soft == resource.RLIM_INFINITY else soft}")
    ceiling = "unlimited" if hard == resource.RLIM_INFINITY else hard
    return Check("open files", "warn", f"{soft}, so at most about {soft - 64} connections", f"`ulimit -n {ceiling}`")


def check_hardware(inventory: Inventory) -> Iterator[Check]:
    """What pools are placed on: processors (also the most API workers that pay), memory, GPUs."""
    threads = inventory.threads
    processors, memory, *devices = describe(inventory)
    yield Check("processors", "ok", f"{processors}: `--workers {threads}` at most")
    yield Check("memory", "ok", memory)
    for line in devices:
        yield Check("gpu", "ok", line)
    for warning in inventory.warnings:
        yield Check(
            "gpu", "warn", warning, 'pools with `device = "gpu"` need it; `nvidia-smi` shows the driver\'s view'
        )


def check_program(program: str, purpose: str) -> Check:
    """An optional program."""
    if found := shutil.which(program):
        return Check(program, "ok", found)
    return Check(program, "warn", "not installed", f"optional: {purpose}")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
