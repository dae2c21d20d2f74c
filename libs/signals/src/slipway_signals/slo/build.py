"""The files of `observability/` on disk: read every `slo.yaml`, compare, write.

It decides nothing: `compile` does. The invariants: a file appears whole or not at all; a generated file whose source is
gone is removed, and a file that somebody else put there is left alone (the first line tells).
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from slipway_signals.slo.compile import compile_all
from slipway_signals.slo.errors import SloError
from slipway_signals.slo.model import ServiceSlos
from slipway_signals.slo.openslo import FILE, load_slos

__all__ = ["FOLDER", "differences", "find_root", "load_services", "outputs", "outputs_of", "write"]

FOLDER: Final = "observability"
GENERATED: Final = ("rules/*.yaml", "tests/*.yaml", "slo/*.json")
MARK: Final = b"# Written by `slipway slo build`"


def find_root(here: Path) -> Path:
    """The repository around `here`: the nearest folder with services/. Raises SloError."""
    for folder in (here.resolve(), *here.resolve().parents):
        if (folder / "services").is_dir():
            return folder
    raise SloError(f"no services/ in {str(here)!r} or a folder above it", hint="run it in the repository")


def load_services(root: Path) -> tuple[ServiceSlos, ...]:
    """The objectives of every service that has some, by name; raises SloError, FileError."""
    found = []
    for path in sorted(root.glob(f"services/*/{FILE}")):
        service = load_slos(path, name=path.relative_to(root).as_posix())
        if service.service.replace("_", "-") != path.parent.name.replace("_", "-"):
            name = path.relative_to(root).as_posix()
            raise SloError(
                f"{name}: spec.service is {service.service!r}, expected the folder's name {path.parent.name!r}"
            )
        found.append(service)
    return tuple(found)


def outputs(root: Path) -> dict[Path, str]:
    """What every generated file must hold, by path relative to `root`."""
    return {Path(FOLDER) / name: text for name, text in compile_all(load_services(root)).items()}


def outputs_of(root: Path, services: Sequence[str]) -> dict[Path, str]:
    """The files of some services only."""
    every = load_services(root)
    alone = compile_all([service for service in every if service.service in services])
    shared = set(compile_all([]))
    return {Path(FOLDER) / name: text for name, text in alone.items() if name not in shared}


def differences(root: Path, wanted: Mapping[Path, str], *, is_whole: bool = True) -> list[Path]:
    """Files that are missing, other than wanted, or (where `wanted` is the whole) left over; relative, sorted."""
    found = [path for path, text in wanted.items() if not _holds(root / path, text)]
    return sorted([*found, *(_left_over(root, wanted) if is_whole else ())])


def write(root: Path, wanted: Mapping[Path, str], *, is_whole: bool = True) -> Sequence[Path]:
    """Make the folder as wanted; the files that changed, relative to `root`."""
    changed = differences(root, wanted, is_whole=is_whole)
    for path in changed:
        target = root / path
        if path not in wanted:
            target.unlink()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=target.parent, delete=False, encoding="utf-8") as file:
            file.write(wanted[path])
        Path(file.name).chmod(0o644)
        os.replace(file.name, target)  # noqa: PTH105 - one call, and atomic
    return changed


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _left_over(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    there = (path for pattern in GENERATED for path in (root / FOLDER).glob(pattern))
    return [
        path.relative_to(root)
        for path in there
        if path.relative_to(root) not in wanted and (path.suffix == ".json" or path.read_bytes().startswith(MARK))
    ]
