"""Where a bundle comes from: the commit of the code, and what training wrote down about the data and the metrics.

It decides nothing and is never part of the content digest. The invariant: the same commit and the same files give the
same answer for every user, time zone and language; without git there is no answer rather than an error.
"""

import datetime as dt
import subprocess
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from slipway_bundle.config import BundleConfig
from slipway_bundle.errors import ConfigError, FileError
from slipway_bundle.keys import unknown_keys
from slipway_bundle.manifest import Dataset, Lineage, Source

__all__ = ["created_at", "load_lineage", "read_source"]

GIT_TIMEOUT_S = 30.0


def load_lineage(folder: Path, bundle: BundleConfig) -> Lineage | None:
    """The lineage that `[bundle]` declares: its data sets, and the file that training wrote; None when there is none.

    Raises:
        ConfigError: The file is missing, is not JSON, or has an unknown field or a bad value.
        FileError: It cannot be read.
    """
    declared = tuple(Dataset(uri=dataset.uri, digest=dataset.digest) for dataset in bundle.datasets)
    if bundle.lineage is None:
        return Lineage(datasets=declared) if declared else None
    path = folder / bundle.lineage
    try:
        raw = msgspec.json.decode(path.read_bytes())
        for unknown in unknown_keys(raw, Lineage):
            raise ConfigError(
                f"{bundle.lineage!r} has an unknown field `{unknown.path}`, "
                f"expected one of {', '.join(sorted(unknown.known))}",
                hint=unknown.hint,
                path=bundle.lineage,
                key=unknown.path,
            )
        written = msgspec.convert(raw, Lineage)
    except FileNotFoundError:
        raise ConfigError(
            f"`bundle.lineage` names a file that is not there: {bundle.lineage!r} in {str(folder)!r}",
            hint="run the training, or take the key out of slipway.toml",
            path=bundle.lineage,
        ) from None
    except OSError as error:
        raise FileError(f"{bundle.lineage!r} cannot be read: {error.strerror}", path=bundle.lineage) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{bundle.lineage!r} is not a lineage: {error}", path=bundle.lineage) from error
    return msgspec.structs.replace(written, datasets=(*declared, *written.datasets))


def read_source(folder: Path, paths: Sequence[Path]) -> Source | None:
    """The commit that `folder` is at, and whether one of `paths` differs from it; None outside git.

    Files that git ignores do not count: trained weights usually are.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changed = _git(
        folder, "status", "--porcelain", "--untracked-files=all", "--", *(str(path.resolve()) for path in paths)
    )
    url = _git(folder, "config", "--get", "remote.origin.url")
    return Source(commit=commit, dirty=bool(changed), url=_without_credentials(url) if url else None)


def created_at(folder: Path, environment: Mapping[str, str], source: Source | None) -> str | None:
    """The time a bundle says it was made: SOURCE_DATE_EPOCH, else that of the commit, else none. Never the clock.

    Raises:
        ConfigError: SOURCE_DATE_EPOCH is not a count of seconds.
    """
    epoch = environment.get("SOURCE_DATE_EPOCH")
    if epoch is None and source is not None:
        epoch = _git(folder, "show", "--no-patch", "--format=%ct", source.commit)
    if not epoch:
        return None
    try:
        moment = dt.datetime.fromtimestamp(int(epoch), tz=dt.UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            f"SOURCE_DATE_EPOCH is not a count of seconds since 1970: got {epoch!r}",
            hint="https://reproducible-builds.org/specs/source-date-epoch/",
        ) from error
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says, or None when it is not installed, does not answer, or `folder` is not in a repository."""
    # safe.directory: a build by another user than the owner must not have another version (we only read, and the
    # service's own code is run anyway); fsmonitor and hooks of the repository are never started.
    options = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    command = ["git", "--no-optional-locks", *options, "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def _without_credentials(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    if not parts.scheme or parts.hostname is None:
        return url
    host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))
