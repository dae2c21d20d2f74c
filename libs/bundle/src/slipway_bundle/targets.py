"""Targets: the platform and interpreter a bundle's packages are for, as environment markers see them.

It resolves nothing and asks the running machine only in `this_target`. The invariant: which packages of a lock a target
needs follows from the lock and the target, so any machine gives the same answer for any target.
Source: PEP 508, "Environment Markers"; machine names as `uname -m` prints them on Linux.
"""

import platform
import re
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from packaging.markers import Marker

from slipway_bundle.errors import UsageError
from slipway_bundle.oci import Platform
from slipway_bundle.requirements import Locked

__all__ = ["Architecture", "Target", "packages_for", "parse_target", "this_target"]

Architecture = Literal["amd64", "arm64"]

MACHINES: dict[Architecture, str] = {"amd64": "x86_64", "arm64": "aarch64"}

_PYTHON = re.compile(r"^3\.\d{1,2}(\.\d{1,2})?\Z")


class Target(Struct, frozen=True, kw_only=True):
    """CPython on Linux."""

    architecture: Architecture
    python: str
    """`3.11`, or `3.11.7` where a marker may ask for the last number; without it that number is 0."""

    @property
    def text(self) -> str:
        """As people write it: `linux/amd64`."""
        return f"linux/{self.architecture}"

    @property
    def platform(self) -> Platform:
        """As OCI's documents have it."""
        return Platform(architecture=self.architecture, os="linux")

    def markers(self) -> dict[str, str]:
        """The marker environment; the kernel's release and version, which no package may depend on, are empty."""
        short = ".".join(self.python.split(".")[:2])
        full = self.python if self.python.count(".") == 2 else f"{self.python}.0"
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": MACHINES[self.architecture],
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": full,
            "python_version": short,
            "sys_platform": "linux",
            "extra": "",
        }


def parse_target(text: str, *, python: str) -> Target:
    """`linux/amd64` or `linux/arm64` with the version of its interpreter, as a target.

    Raises:
        UsageError: Another platform, or no version of Python 3.
    """
    for architecture in MACHINES:
        if text == f"linux/{architecture}":
            if not _PYTHON.match(python):
                raise UsageError(f"not a version of Python: got {python!r}, expected `3.11` or `3.11.7`")
            return Target(architecture=architecture, python=python)
    raise UsageError(
        f"not a platform that images are for: got {text!r}, expected {' or '.join(f'linux/{a}' for a in MACHINES)}"
    )


def this_target() -> Target:
    """The target of the running interpreter; on a machine of another kind, `linux/amd64` with its version."""
    found = next((name for name, machine in MACHINES.items() if machine == platform.machine()), "amd64")
    return parse_target(f"linux/{found}", python=".".join(platform.python_version_tuple()[:2]))


def packages_for(locked: Iterable[Locked], target: Target) -> tuple[Locked, ...]:
    """The blocks of a lock whose markers hold on `target`, in their order."""
    environment = target.markers()
    return tuple(block for block in locked if block.marker is None or Marker(block.marker).evaluate(dict(environment)))
