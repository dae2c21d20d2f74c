"""Wheels: those that a lock means on a platform, hash-checked, in a folder that is addressed by content.

pip finds and fetches them (indexes, proxies, credentials and certificates are what pip's own configuration says) and
decides nothing else: markers are evaluated for the target before, hashes are compared after. The invariants: a file of
the cache has a hash that a lock named; a cache that knows all wheels asks nobody; no sdist is ever built.

    $SLIPWAY_HOME/wheels/HEX/NAME.whl     the files
    $SLIPWAY_HOME/wheels/chosen/HEX.json  which file a block of a lock means on a platform

Source: PEP 425, PEP 600 (platform tags); pip documentation, "Secure installs" and `pip download`.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from packaging.utils import parse_wheel_filename

from slipway_bundle.canonical import canonical_json
from slipway_bundle.child import last_lines
from slipway_bundle.digest import Digest, digest_bytes, digest_file, hex_of
from slipway_bundle.disk import disk_errors, write_file
from slipway_bundle.image.errors import DownloadError, WheelMismatchError, WheelMissingError
from slipway_bundle.requirements import Locked
from slipway_bundle.targets import MACHINES, Target

__all__ = ["Wheel", "fetch_wheels"]

NEWEST_GLIBC: Final = 28
"""glibc 2.28, of Debian 10 and RHEL 8: what a wheel may need of a base."""

OLDEST_GLIBC: Final = {"amd64": 5, "arm64": 17}
"""The first one that the architecture has tags for (PEP 513, PEP 599)."""

ALIASES: Final = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
"""Names from before PEP 600."""

DOWNLOAD_TIMEOUT_S: Final = 1800.0
"""For all wheels of one platform; pip has its own timeout for each connection."""

_MISSING: Final = re.compile(r"No matching distribution found for (\S+)")
_UNREACHED: Final = "connection broken by"
"""What pip says of each try; it then goes on as if the index had nothing."""


class Wheel(Struct, frozen=True, kw_only=True):
    """A wheel on this disk."""

    name: str
    """Normalised (PEP 503)."""

    version: str
    sha256: str
    """64 hex digits."""

    size: int
    path: Path


class _Choice(Struct, frozen=True):
    filename: str
    sha256: str


def fetch_wheels(
    blocks: Sequence[Locked], target: Target, cache: Path, *, environ: Mapping[str, str]
) -> tuple[Wheel, ...]:
    """The wheel of each block for `target`, in their order; fetches what the cache does not have.

    Args:
        blocks: Those whose markers hold there (`targets.packages_for`).
        target: The platform.
        cache: The folder; made when it is missing.
        environ: Of pip.

    Raises:
        WheelMissingError: A package has no wheel for the platform.
        WheelMismatchError: The index has other files than the lock.
        DownloadError: pip could not be started, or not reach its index.
        HostError: Disk full, not allowed.
    """
    found = {block.name: wheel for block in blocks if (wheel := _known(block, target, cache)) is not None}
    missing = [block for block in blocks if block.name not in found]
    if missing:
        with disk_errors(cache, "fetching wheels"):
            (cache / "chosen").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=".") as folder:
                _download(missing, target, Path(folder), environ)
                found |= _keep(missing, target, Path(folder), cache)
    return tuple(found[block.name] for block in blocks)


def platforms_of(target: Target) -> list[str]:
    """The platform tags of a target, the most specific first, as pip wants them.

    >>> platforms_of(Target(architecture="arm64", python="3.11"))[-2:]
    ['manylinux_2_17_aarch64', 'manylinux2014_aarch64']
    """
    machine = MACHINES[target.architecture]
    tags = []
    for minor in range(NEWEST_GLIBC, OLDEST_GLIBC[target.architecture] - 1, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in ALIASES:
            tags.append(f"{ALIASES[minor]}_{machine}")
    return tags


def _chosen(block: Locked, target: Target, cache: Path) -> Path:
    recipe = [block.name, block.version, list(block.hashes), target.python, platforms_of(target)]
    return cache / "chosen" / f"{hex_of(digest_bytes(canonical_json(recipe)))}.json"


def _known(block: Locked, target: Target, cache: Path) -> Wheel | None:
    """From the cache. The bytes are hashed by whoever unpacks them."""
    try:
        choice = msgspec.json.decode(_chosen(block, target, cache).read_bytes(), type=_Choice)
        path = cache / choice.sha256 / choice.filename
        size = path.stat().st_size
    except (OSError, msgspec.DecodeError):
        return None
    if f"sha256:{choice.sha256}" not in block.hashes:
        return None
    return Wheel(name=block.name, version=block.version, sha256=choice.sha256, size=size, path=path)


def _download(blocks: Iterable[Locked], target: Target, folder: Path, environ: Mapping[str, str]) -> None:
    lines = [
        f"{block.name}=={block.version} " + " ".join(f"--hash={digest}" for digest in block.hashes) for block in blocks
    ]
    wanted = folder / "wanted.txt"
    wanted.write_text("\n".join(lines) + "\n", encoding="utf-8")
    abi = f"cp{target.python.replace('.', '')}"
    command = [
        *(sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"),
        *("--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", str(folder), "-r", str(wanted)),
        *("--implementation", "cp", "--python-version", target.python, "--abi", abi, "--abi", "abi3", "--abi", "none"),
        *(part for tag in platforms_of(target) for part in ("--platform", tag)),
    ]
    try:
        done = subprocess.run(
            command, env=dict(environ), capture_output=True, timeout=DOWNLOAD_TIMEOUT_S, check=False, cwd=folder
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DownloadError(f"pip could not fetch the wheels for {target.text}: {error}") from error
    if done.returncode != 0:
        raise _failure(done.stderr, target)


def _failure(stderr: bytes, target: Target) -> WheelMissingError | WheelMismatchError | DownloadError:
    text = stderr.decode("utf-8", "replace")
    if "DO NOT MATCH THE HASHES" in text:
        return WheelMismatchError(
            f"a wheel for {target.text} does not have a hash of the lock:\n{last_lines(stderr)}",
            hint="the index has other bytes than when the lock was made: find out why before `make lock`",
        )
    if (match := _MISSING.search(text)) and _UNREACHED not in text:
        package = match[1]
        return WheelMissingError(
            f"{package} has no wheel for {target.text} and Python {target.python} with a hash of the lock",
            hint="choose a version that has one, or leave the platform out with `--platform`; sdists are not built",
            package=package,
            platform=target.text,
        )
    return DownloadError(
        f"pip could not fetch the wheels for {target.text}:\n{last_lines(stderr)}",
        hint="`pip config list` shows the index, proxy and certificates that it uses",
    )


def _keep(blocks: Sequence[Locked], target: Target, folder: Path, cache: Path) -> dict[str, Wheel]:
    """Moves what pip left in `folder` to its place, and remembers which block meant it."""
    files = {parse_wheel_filename(path.name)[0]: path for path in sorted(folder.glob("*.whl"))}
    kept = {}
    for block in blocks:
        path = files.get(block.name)  # type: ignore[call-overload]  # NormalizedName is a NewType of str
        if path is None:
            raise DownloadError(f"pip left no wheel of {block.name} {block.version} for {target.text}")
        digest, size = digest_file(path)
        if digest not in block.hashes:
            raise WheelMismatchError(
                f"wheel {path.name!r} is not in the lock: got {digest}, expected one of {', '.join(block.hashes)}",
                package=block.name,
            )
        place = cache / hex_of(Digest(digest)) / path.name
        place.parent.mkdir(exist_ok=True)
        path.chmod(0o644)
        path.replace(place)
        choice = msgspec.json.encode(_Choice(place.name, place.parent.name))
        write_file(_chosen(block, target, cache), choice, through=cache / "chosen", mode=0o644, sync=False)
        kept[block.name] = Wheel(
            name=block.name, version=block.version, sha256=place.parent.name, size=size, path=place
        )
    return kept
