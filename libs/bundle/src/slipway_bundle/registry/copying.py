"""Copy and tag: from registry to registry, and a second name for what is there.

It leaves the local store alone: blobs on their way between two registries are in a folder of their own, which goes at
the end. The invariant is that of `moving.py`: the tag last; and no byte is changed, so the digest stays.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from slipway_bundle.inputs import Announce
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.registry.errors import RemoteInvalidError
from slipway_bundle.registry.layout_registry import LayoutRegistry
from slipway_bundle.registry.moving import JOBS, move, refuse_taken, workers
from slipway_bundle.registry.opening import opened
from slipway_bundle.registry.protocol import Registry
from slipway_bundle.registry.pushing import Pushed, pushed
from slipway_bundle.registry.remote import Remote, parse_remote
from slipway_bundle.registry.retries import Retry
from slipway_bundle.store import Store

__all__ = ["copy", "tag", "tags"]


def copy(
    source: str,
    destination: str,
    *,
    environ: Mapping[str, str],
    progress: Progress = QUIET,
    announce: Announce = lambda _step, _bytes: None,
    replaces: bool = False,
    is_insecure: bool = False,
    retry: Retry | None = None,
    jobs: int = JOBS,
) -> Pushed:
    """Copies a bundle or any other image, and all that refers to it; nothing is converted, so its digest stays.

    Args:
        source: `HOST/REPOSITORY:TAG`, `…@sha256:…` or `oci:FOLDER:NAME:VERSION`.
        destination: The same forms; without a tag it gets that of the source.
        environ: See `open_registry`.
        progress: Told the bytes of all blobs, whether they move or not.
        announce: Told when a step begins, and how many bytes its progress will add up to.
        replaces: Let the tag move away from another digest.
        is_insecure: Allow plain HTTP beyond this machine.
        retry: How often and how long to try.
        jobs: How many transfers beside each other.

    Raises:
        UsageError: A reference is wrong or means nothing; `TagTakenError` when the tag has another digest.
        IntegrityError: Something is not what its digest says.
        HostError: Registry, network or disk.
    """
    origin, target = parse_remote(source), parse_remote(destination)
    reference = origin.reference
    if target.digest is not None:
        raise RemoteInvalidError(f"a copy goes to a tag, got {destination!r}", hint=f"write {target.place}:TAG")
    name = target.tag or origin.tag
    target = target.tagged(name) if name else target
    same = origin.host == target.host and not origin.is_layout and origin.repository != target.repository
    with (
        opened(origin, environ=environ, is_insecure=is_insecure, retry=retry) as here,
        opened(target, environ=environ, is_insecure=is_insecure, retry=retry) as there,
        _staging(here) as staging,
        workers(jobs, here, there) as pool,
    ):
        sent = move(
            here,
            there,
            reference,
            target.tag,
            staging=staging,
            pool=pool,
            progress=progress,
            announce=announce,
            replaces=replaces,
            mount_from=(origin.repository,) if same else (),
        )
    return pushed(target, sent)


def tag(
    source: str,
    new_tag: str,
    *,
    environ: Mapping[str, str],
    replaces: bool = False,
    is_insecure: bool = False,
    retry: Retry | None = None,
) -> Remote:
    """Gives what is there another tag in the same repository, and returns it by digest.

    Raises:
        UsageError: A reference is wrong or means nothing; `TagTakenError` when the tag has another digest.
        HostError: Registry, network or disk.
    """
    remote = parse_remote(source)
    target = remote.tagged(new_tag)
    with opened(remote, environ=environ, is_insecure=is_insecure, retry=retry) as registry:
        data, descriptor = registry.read_manifest(remote.reference)
        if replaces or not refuse_taken(registry, new_tag, descriptor.digest):
            registry.put_manifest(data, descriptor, new_tag)
    return target.at(descriptor.digest)


def tags(
    place: str, *, environ: Mapping[str, str], is_insecure: bool = False, retry: Retry | None = None
) -> Sequence[tuple[str, str | None]]:
    """The tags of a repository, sorted, and the digest of each; None: it went while they were read.

    Raises:
        UsageError: The reference is wrong, or there is no such repository.
        HostError: Registry, network or disk.
    """
    remote = parse_remote(place)
    with (
        opened(remote, environ=environ, is_insecure=is_insecure, retry=retry) as registry,
        workers(JOBS, registry) as pool,
    ):
        names = registry.tags()
        found = pool.map(registry.resolve, names)
        return [(name, each.digest if each else None) for name, each in zip(names, found, strict=True)]


@contextmanager
def _staging(source: Registry) -> Iterator[Store]:
    """Where blobs are between two registries: the source itself when it is a layout, else a folder that goes."""
    if isinstance(source, LayoutRegistry):
        yield source.store
        return
    with tempfile.TemporaryDirectory(prefix="slipway-copy-") as folder:
        yield Store.open(Path(folder))
