"""Packages as the files of a virtual environment at a fixed path, for an interpreter that is not here.

Nothing of a package runs, and nothing is asked of this interpreter but its own modules. The invariants: the files are
those that an installer would write at `/opt/venv` of the running image (RECORD, scripts, shebangs); no path, name or
time of this machine is in them. There is no byte code: it would tie the digest to the builder's interpreter.

Wheels are unpacked by `installer`. Members of the workspace (slipway itself) are on no index and in no lock: their
modules are taken from where this process imports them, with the metadata that they are installed with.
Source: PEP 427, PEP 405, PEP 376.
"""

import base64
import csv
import hashlib
import importlib.metadata
import importlib.util
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

from msgspec import Struct
from packaging.utils import canonicalize_name

from slipway_bundle.digest import digest_file
from slipway_bundle.errors import HostError
from slipway_bundle.image.archives import LayerWriter
from slipway_bundle.image.errors import MemberError, WheelMismatchError
from slipway_bundle.image.wheels import Wheel
from slipway_bundle.manifest import Manifest, Package
from slipway_bundle.sources import find_modules
from slipway_bundle.targets import Target

__all__ = ["PYTHON", "VENV", "install_members", "install_wheels", "make_venv", "members_of", "require_tools"]

VENV: Final = "opt/venv"
"""Where the environment is in the image, relative to its root."""

PYTHON: Final = f"/{VENV}/bin/python"


INSTALLER: Final = b"slipway\n"
"""What PEP 376 wants to know."""


class SourceText(Struct, frozen=True):
    """A file of a member: its path in the environment, and its content."""

    path: str
    data: bytes
    is_program: bool = False


def require_tools() -> None:
    """Raises HostError when `slipway-bundle[image]` is not installed."""
    for name in ("installer", "pip"):
        if importlib.util.find_spec(name) is None:
            raise HostError(
                f"building images needs the package {name!r}, which is not installed",
                hint="pip install 'slipway-bundle[image]'",
            )


def site_packages(target: Target) -> str:
    """Where modules are, relative to the root of the image."""
    return f"{VENV}/lib/python{target.python}/site-packages"


def make_venv(interpreter: str, target: Target, layer: LayerWriter) -> None:
    """The environment itself: `pyvenv.cfg` and a link to the interpreter of the base (PEP 405)."""
    layer.link(f"{VENV}/bin/python", interpreter)
    home = interpreter.rpartition("/")[0]
    settings = f"home = {home}\ninclude-system-site-packages = false\nversion = {target.python}\n"
    layer.add(f"{VENV}/pyvenv.cfg", settings.encode())


def install_wheels(wheels: Iterable[Wheel], target: Target, layer: LayerWriter) -> None:
    """Unpacks `wheels` into the environment.

    Raises:
        WheelMismatchError: A wheel is not what its name in the cache says, or breaks the format.
        OSError: A wheel cannot be read, or the layer not be written.
    """
    from installer import install
    from installer.exceptions import InstallerError
    from installer.sources import WheelFile

    from slipway_bundle.image.destination import LayerDestination

    for wheel in wheels:
        got, _ = digest_file(wheel.path)
        if got != f"sha256:{wheel.sha256}":
            raise WheelMismatchError(
                f"wheel {wheel.path.name!r} changed in the cache: got {got}, expected sha256:{wheel.sha256}",
                hint=f"remove {str(wheel.path.parent)!r}; it is fetched again",
                path=str(wheel.path),
            )
        site = f"/{site_packages(target)}"
        schemes = {
            "purelib": site,
            "platlib": site,
            "scripts": f"/{VENV}/bin",
            "data": f"/{VENV}",
            "headers": f"/{VENV}/include/python{target.python}/{wheel.name}",
        }
        try:
            with WheelFile.open(wheel.path) as source:
                install(source, LayerDestination(schemes, PYTHON, layer), {"INSTALLER": INSTALLER})
        except (InstallerError, BadZipFile, ValueError, KeyError) as error:
            raise WheelMismatchError(f"wheel {wheel.path.name!r} cannot be unpacked: {error}") from error


def members_of(manifest: Manifest) -> tuple[Package, ...]:
    """The members of the workspace that are not in the code of the bundle: those that the image must bring."""
    prefix = f"{manifest.service.code}/"
    own = {file.path.removeprefix(prefix).partition("/")[0] for file in manifest.files if file.path.startswith(prefix)}
    return tuple(member for member in manifest.environment.members if _module(member.name) not in own)


def install_members(members: Sequence[Package], target: Target, layer: LayerWriter) -> None:
    """Adds the modules of `members`, from where they are installed here, to the environment.

    Raises:
        MemberError: One is not installed, or in another version.
        SourceError, FileError: A file of it cannot be in an image.
    """
    site = site_packages(target)
    for member in members:
        distribution = _installed(member)
        module = _module(member.name)
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None or not spec.submodule_search_locations:
            raise MemberError(
                f"{member.name} is installed, but has no package {module!r}: expected one with the name of its project"
            )
        info = f"{module}-{member.version}.dist-info"
        metadata = distribution.read_text("METADATA") or ""
        files = [SourceText(f"{info}/METADATA", metadata.encode()), SourceText(f"{info}/INSTALLER", INSTALLER)]
        files += [
            SourceText(f"{module}/{file.path}", file.source.read_bytes(), is_program=bool(file.mode & 0o100))
            for file in find_modules(Path(spec.origin).parent)
        ]
        files.append(SourceText(f"{info}/RECORD", _record(files, f"{info}/RECORD").encode()))
        for file in sorted(files, key=lambda file: file.path):
            layer.add(f"{site}/{file.path}", file.data, is_program=file.is_program)


def _installed(member: Package) -> importlib.metadata.Distribution:
    try:
        distribution = importlib.metadata.distribution(member.name)
        got = distribution.version
    except importlib.metadata.PackageNotFoundError:
        distribution, got = None, "nothing"
    if distribution is None or got != member.version:
        raise MemberError(
            f"the bundle was built with {member.name} {member.version} of its workspace: got {got}, expected that",
            hint="build the image with the slipway, and in the environment, that the bundle was built with",
            member=member.name,
            got=got,
            expected=member.version,
        )
    return distribution


def _module(name: str) -> str:
    """The package of a project, by the convention of this workspace and of its build backend."""
    return canonicalize_name(name).replace("-", "_")


def _record(files: Iterable[SourceText], own: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for file in sorted(files, key=lambda file: file.path):
        digest = base64.urlsafe_b64encode(hashlib.sha256(file.data).digest()).rstrip(b"=").decode()
        writer.writerow((file.path, f"sha256={digest}", len(file.data)))
    writer.writerow((own, "", ""))
    return text.getvalue()
