"""The network of a lab: a namespace of its own, in which a bridge is the node's interface.

No packet leaves it: there is no way out. That also makes the addresses free: every lab has the same ones. The
invariant: nothing of the host's network is touched, and removing the namespace removes all of it. It is entered by
setns(2), as `nsenter --net` does; `ip netns exec` would hide the control groups (it mounts a new /sys).
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from slipway_lab.errors import CommandError, RunningError
from slipway_lab.state import Place

NODE: Final = IPv4Address("10.230.0.1")
NODES: Final = IPv4Network("10.230.0.0/24")
PODS: Final = IPv4Network("10.231.0.0/24")
SERVICES: Final = IPv4Network("10.96.0.0/16")
API_SERVICE: Final = IPv4Address("10.96.0.1")
"""The first of the services' network: the API server takes it for itself."""
DNS_SERVICE: Final = IPv4Address("10.96.0.10")
DOMAIN: Final = "cluster.local"
BRIDGE: Final = "node0"
"""A bridge without ports: not every kernel has the type `dummy`."""
CLONE_NEWNET: Final = 0x40000000
"""sched.h"""


def create(place: Place) -> None:
    """Make the namespace.

    Raises:
        RunningError: Somebody else has a network namespace of this name.
        CommandError: The kernel refused.
    """
    if place.namespace.exists():
        raise RunningError(
            f"a network namespace {place.name!r} exists and is not this lab's",
            hint=f"`slipway lab up --name ANOTHER`, or `ip netns delete {place.name}`",
        )
    _ip(("netns", "add", place.name))
    _mark(place).write_text(_identity(place))
    lines = (
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"address add {NODE}/{NODES.prefixlen} dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"route add default dev {BRIDGE}",  # addresses of services need a route before they are rewritten
    )
    _ip(("-n", place.name, "-batch", "-"), "\n".join(lines))
    place.resolv.write_text(f"nameserver {DNS_SERVICE}\nsearch svc.{DOMAIN} {DOMAIN}\noptions ndots:5 timeout:2\n")


def remove(place: Place) -> None:
    """Take it away, if it is there and this lab made it. Raises CommandError."""
    if place.namespace.exists() and _mark(place).exists() and _mark(place).read_text() == _identity(place):
        _ip(("netns", "delete", place.name))


@contextmanager
def entered(place: Place) -> Iterator[None]:
    """This thread, and the processes and threads that it starts, are inside meanwhile. Raises OSError."""
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        inside = os.open(place.namespace, os.O_RDONLY)
        try:
            _setns(inside)
        finally:
            os.close(inside)
        try:
            yield
        finally:
            _setns(outside)
    finally:
        os.close(outside)


def resolving(resolv: Path, command: tuple[str, ...]) -> tuple[str, ...]:
    """The command, with names answered by the lab: in a mount namespace of its own."""
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return ("unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", script, str(resolv), *command)


def _mark(place: Place) -> Path:
    """Says which namespace this lab made: its name may be somebody else's."""
    return place.folder / "namespace"


def _identity(place: Place) -> str:
    return str(place.namespace.stat().st_ino)


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"the network namespace cannot be entered: {os.strerror(number)}")


def _ip(arguments: tuple[str, ...], lines: str | None = None) -> None:
    done = subprocess.run(
        ["ip", *arguments], input=lines or "", check=False, capture_output=True, text=True, timeout=20
    )
    if done.returncode:
        raise CommandError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
