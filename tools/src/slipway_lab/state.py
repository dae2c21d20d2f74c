"""Where a lab keeps what it has, and what a running one says of itself: `HOME/NAME/lab.json`.

It starts nothing. The invariants: everything that a lab writes is below its own folder, its network namespace is called
like the lab and its control group `slipway-lab-NAME-HOME`, so `down` finds all of it knowing nothing but the name;
`lab.json` appears when the lab is ready and not before, in one step.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from slipway_lab.errors import LabError, NotRunningError

DEFAULT_NAME: Final = "lab"
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?")
"""A DNS label, short: it is part of the node's name and of paths."""
LONGEST_FOLDER: Final = 70
"""Bytes of the lab's folder: the kubelet's sockets are below it, and a socket's path ends at 107 (unix(7))."""


class Lab(Struct, frozen=True, kw_only=True):
    """A running lab, as others find it. Newer fields have defaults."""

    name: str

    folder: str
    """All that it writes."""

    kubeconfig: str
    """A cluster administrator's; its server answers inside the network namespace only."""

    namespace: str
    """Of the network: `/run/netns/NAMESPACE`."""

    node: str
    """The name of the only node."""

    registry: str
    """`HOST:PORT`, plain HTTP; the node pulls from it."""

    ingress: str
    """Where Traefik takes requests; it routes by host and path."""

    prometheus: str

    alertmanager: str

    rules: str
    """Folder: Prometheus loads `*.yaml` from it when it starts and on `POST PROMETHEUS/-/reload`."""

    seconds: float = 0.0
    """How long `up` took, without building."""


class Place(Struct, frozen=True):
    """What belongs to a lab of this name, whether it is there or not."""

    home: Path
    name: str

    @property
    def folder(self) -> Path:
        """All that it writes."""
        return self.home / self.name

    @property
    def file(self) -> Path:
        """There when the lab is ready."""
        return self.folder / "lab.json"

    @property
    def lock(self) -> Path:
        """Held while a lab of this name is started or stopped; it outlives the folder."""
        return self.home / f"{self.name}.lock"

    @property
    def logs(self) -> Path:
        """`PROGRAM.log` each."""
        return self.folder / "logs"

    @property
    def namespace(self) -> Path:
        """Of the network."""
        return Path("/run/netns") / self.name

    @property
    def programs(self) -> Path:
        """kubectl and ctr, for whoever works with the lab."""
        return self.folder / "bin"

    @property
    def resolv(self) -> Path:
        """What the lab's own processes see as `/etc/resolv.conf`."""
        return self.folder / "resolv.conf"

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self.folder / "kubeconfig"

    @property
    def cgroup(self) -> str:
        """Name of the control group in every hierarchy; labs of one name in two homes are two labs."""
        return f"slipway-lab-{self.name}-{hashlib.sha256(os.fsencode(self.home)).hexdigest()[:6]}"

    @property
    def node(self) -> str:
        """Name of the only node."""
        return f"node-{self.name}"


def lab_home(environ: Mapping[str, str]) -> Path:
    """`$SLIPWAY_LAB_HOME`, else the user's data folder; not made."""
    if given := environ.get("SLIPWAY_LAB_HOME"):
        return Path(given).absolute()
    data = environ.get("XDG_DATA_HOME") or f"{environ.get('HOME', str(Path.home()))}/.local/share"
    return Path(data).absolute() / "slipway" / "lab"


def place_of(home: Path, name: str) -> Place:
    """What belongs to a lab. Raises LabError: the name or the folder cannot be used."""
    if not NAME.fullmatch(name):
        expected = "at most 24 lower-case letters, digits and inner hyphens"
        raise LabError(f"{name!r} cannot name a lab: expected {expected}", hint="`--name lab` is the default")
    place = Place(home, name)
    if (length := len(os.fsencode(place.folder))) > LONGEST_FOLDER:
        raise LabError(
            f"the lab's folder {str(place.folder)!r} is {length} bytes long, expected at most {LONGEST_FOLDER}: "
            "sockets below it would have no valid path",
            hint="set SLIPWAY_LAB_HOME to a shorter one",
        )
    return place


def save(place: Place, lab: Lab) -> None:
    """Say that the lab is ready; readers see all of it or nothing."""
    beside = place.file.with_suffix(".tmp")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(lab)) + b"\n")
    beside.rename(place.file)


def load(place: Place) -> Lab:
    """What a ready lab said of itself. Raises NotRunningError: there is none, or it never became ready."""
    try:
        return msgspec.json.decode(place.file.read_bytes(), type=Lab)
    except FileNotFoundError:
        raise NotRunningError(f"no lab {place.name!r} is running", hint="`slipway lab up`") from None
    except msgspec.MsgspecError as error:
        raise NotRunningError(f"{str(place.file)!r} is no lab: {error}", hint="`slipway lab down`") from error


def names(home: Path) -> tuple[str, ...]:
    """Names of the labs that left a folder here, in order."""
    return tuple(sorted(path.name for path in home.glob("*/") if NAME.fullmatch(path.name)))
