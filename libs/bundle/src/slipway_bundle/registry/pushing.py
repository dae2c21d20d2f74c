"""Push: a bundle of the local store goes to a registry, with all that refers to it.

The invariant: what the registry shows under the tag is the bundle whose digest is printed, whole; a push that ends in
the middle shows nothing, and the next one sends what is missing.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from slipway_bundle.digest import Digest
from slipway_bundle.inputs import Announce
from slipway_bundle.partial import absent_blobs, absent_roles
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.references import Ref
from slipway_bundle.registry.errors import RemoteInvalidError
from slipway_bundle.registry.layout_registry import LayoutRegistry
from slipway_bundle.registry.moving import JOBS, Sent, move, workers
from slipway_bundle.registry.opening import opened
from slipway_bundle.registry.remote import Remote, parse_remote
from slipway_bundle.registry.retries import Retry
from slipway_bundle.registry.uploads import CHUNK_BYTES
from slipway_bundle.store import Store
from slipway_bundle.store_errors import BlobMissingError

__all__ = ["Pushed", "push", "pushed"]


class Pushed(Struct, frozen=True, kw_only=True):
    """What a push or a copy did; part of the object of `--json`."""

    ref: str
    """By digest: what is safe to write down."""

    tag: str | None
    digest: Digest
    sent_bytes: int
    """Of blobs; documents are a few kilobytes more."""

    mounted_bytes: int
    """Linked by the registry from another of its repositories."""

    present_bytes: int
    """Were there before."""

    referrers: int
    is_new: bool
    """The tag was not there before, or was moved."""


def push(
    store: Store,
    ref: str,
    destination: str,
    *,
    environ: Mapping[str, str],
    progress: Progress = QUIET,
    announce: Announce = lambda _step, _bytes: None,
    replaces: bool = False,
    mount_from: Sequence[str] = (),
    is_insecure: bool = False,
    retry: Retry | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    jobs: int = JOBS,
) -> Pushed:
    """Sends the bundle that `ref` means, and everything that refers to it.

    Args:
        store: Where it is.
        ref: Any form that means one bundle.
        destination: `HOST/REPOSITORY[:TAG]` (default tag: the version) or `oci:FOLDER[:NAME:VERSION]`.
        environ: See `open_registry`.
        progress: Told the bytes of all blobs, whether they are sent or not.
        announce: Told when a step begins, and how many bytes its progress will add up to.
        replaces: Let the tag move away from another digest.
        mount_from: Other repositories of the same registry, whose blobs may be linked.
        is_insecure: Allow plain HTTP beyond this machine.
        retry: How often and how long to try.
        chunk_bytes: The size of a piece of an upload.
        jobs: How many transfers beside each other.

    Raises:
        UsageError: A reference is wrong or means nothing; `TagTakenError` when the tag has another digest.
        IntegrityError: The bundle is damaged, or was pulled in part.
        RegistryError: The registry or the network failed for good; what was sent stays there.
        HostError: The store cannot be read.
    """
    found = store.find(ref)
    remote = _destination(destination, found)
    with store.pin(found.descriptor):
        _require_whole(store, found)
        with (
            opened(remote, environ=environ, is_insecure=is_insecure, retry=retry, chunk_bytes=chunk_bytes) as registry,
            workers(jobs, registry) as pool,
        ):
            sent = move(
                LayoutRegistry(store),
                registry,
                found.digest,
                remote.tag,
                staging=store,
                pool=pool,
                progress=progress,
                announce=announce,
                replaces=replaces,
                mount_from=mount_from,
            )
    return pushed(remote, sent)


def pushed(remote: Remote, sent: Sent) -> Pushed:
    """The result of a move, with the reference to write down."""
    return Pushed(
        ref=remote.at(sent.digest).text,
        tag=remote.tag,
        digest=sent.digest,
        sent_bytes=sent.sent_bytes,
        mounted_bytes=sent.mounted_bytes,
        present_bytes=sent.present_bytes,
        referrers=sent.referrers,
        is_new=sent.is_new,
    )


def _destination(text: str, found: Ref) -> Remote:
    """Where it goes, with a tag: the version, or in a layout, which has no repositories, name and version."""
    remote = parse_remote(text)
    if remote.digest is not None:
        raise RemoteInvalidError(
            f"a push goes to a tag, got {text!r}", hint=f"write {remote.place}:{found.version}", ref=text
        )
    return remote if remote.tag else remote.tagged(found.text if remote.is_layout else found.version)


def _require_whole(store: Store, found: Ref) -> None:
    """Everything is here, with its size, before the first request."""
    descriptor = found.descriptor
    if missing := absent_blobs(store, descriptor):
        raise BlobMissingError(
            f"{found.text!r} is here without its {', '.join(sorted(absent_roles(descriptor)))}: "
            f"{len(missing)} blobs are missing",
            hint="pull it again, whole; or copy it from registry to registry with `slipway bundle copy`",
            expected=min(missing),
        )
    for _ in store.walk(descriptor):
        pass
