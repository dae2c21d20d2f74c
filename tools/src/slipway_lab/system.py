"""What a lab needs of the machine beside its own programs, and why it cannot run where something is missing.

It changes nothing. The invariant: everything that is missing is named at once, with what brings it.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from slipway_lab.errors import CannotRunError

ROOT: Final = Path(__file__).resolve().parents[3]
"""Of the repository: the lab runs from a checkout."""
UNPACKED: Final = ROOT / ".tools" / "system" / "usr" / "bin"
"""Where `scripts/system-packages.sh` puts servers whose packages would start them."""
PROGRAMS: Final[dict[str, tuple[str, ...]]] = {
    "ip": ("ip",),
    "mount": ("mount",),
    "nft": ("nft",),
    "nsenter": ("nsenter",),
    "unshare": ("unshare",),
    "runc": ("runc",),
    "docker-registry": ("docker-registry", "registry"),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
}
"""What it is called here → what it is called elsewhere: Debian's name first."""


def find(name: str) -> Path | None:
    """A program of the machine: on the PATH, unpacked, or where administrators' programs are."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(UNPACKED), "/usr/sbin", "/sbin"])
    found = (shutil.which(called, path=path) for called in PROGRAMS[name])
    return next((Path(one) for one in found if one), None)


def require(name: str) -> Path:
    """The same, and an error where it is missing. Raises CannotRunError."""
    if found := find(name):
        return found
    raise CannotRunError(f"{name} is not installed", hint="`sh scripts/system-packages.sh`")


def check() -> None:
    """Raises CannotRunError: a lab cannot run here, and why."""
    if not sys.platform.startswith("linux"):
        raise CannotRunError(f"a lab needs Linux, got {sys.platform}", hint="set KUBECONFIG to use another cluster")
    if (user := os.geteuid()) != 0:
        raise CannotRunError(
            f"a lab needs root for namespaces, mounts and control groups, got user {user}",
            hint="`sudo`, or set KUBECONFIG to use another cluster",
        )
    if missing := [name for name in PROGRAMS if find(name) is None]:
        raise CannotRunError(f"not installed: {', '.join(missing)}", hint="`sh scripts/system-packages.sh`")
