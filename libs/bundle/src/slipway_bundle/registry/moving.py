"""Moving: everything that a root reaches, from one repository to another; the tag last.

It knows no bundle. The invariants: a document is only stored after everything that it refers to, and the tag after all
of them, so a reader of the destination sees the whole or nothing; whatever ends it in the middle leaves only blobs,
which the next run finds.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from slipway_bundle.digest import Digest
from slipway_bundle.inputs import Announce
from slipway_bundle.oci import MANIFEST_TYPES, Descriptor
from slipway_bundle.progress import Progress
from slipway_bundle.registry.documents import Document, Tree, decode_document, gather, read_document
from slipway_bundle.registry.errors import TagTakenError, TamperedError
from slipway_bundle.registry.layout_registry import LayoutRegistry, holds
from slipway_bundle.registry.protocol import Moved, Registry
from slipway_bundle.store import Store

__all__ = ["JOBS", "Sent", "Shared", "move", "read_referrers", "read_tree", "refuse_taken", "run_all", "workers"]

JOBS = 4
"""Transfers beside each other: enough to fill a network, few enough for the registry of a small team."""

MAX_REFERRERS = 2_048
"""A report a day for five years."""

MAX_REFERRER_DEPTH = 4
"""A bundle, its report, the report's signature, an approval of that."""

MAX_REFERRER_BYTES = 64 << 20
"""Of one referrer's blobs: statements, inventories and reports, never weights."""

T = TypeVar("T")
R = TypeVar("R")


class Sent(Struct, frozen=True, kw_only=True):
    """What became of the blobs of a move."""

    digest: Digest
    sent_bytes: int
    mounted_bytes: int
    present_bytes: int
    referrers: int
    """How many came along."""

    is_new: bool
    """The destination did not have the root under that reference."""


class Shared:
    """A `Progress` that several threads may tell."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()

    def advance(self, count_bytes: int, /) -> None:
        """One at a time."""
        with self._lock:
            self._progress.advance(count_bytes)


@contextmanager
def workers(jobs: int, *registries: Registry) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with the block; when it fails, what they are doing fails too."""
    pool = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="slipway-registry")
    try:
        yield pool
    except BaseException:
        for registry in registries:
            registry.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def run_all(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work` for each item; the first failure is raised at once, not in its turn."""
    futures = [pool.submit(work, item) for item in items]
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()
    return [future.result() for future in futures]


def read_tree(registry: Registry, reference: str, pool: ThreadPoolExecutor) -> Tree:
    """All documents that a tag or digest reaches, verified; raises as `documents.gather`."""
    data, descriptor = registry.read_manifest(reference)
    return gather(partial(read_document, registry), decode_document(data, descriptor), pool)


def read_referrers(registry: Registry, root: Digest, pool: ThreadPoolExecutor) -> list[tuple[Descriptor, Document]]:
    """What refers to `root`, and what refers to that, as listed and as read; each after its subject.

    A list is no evidence: what does not itself say that it refers to the subject is passed over.

    Raises:
        TamperedError: More, larger or longer chains of them than statements about a bundle are.
        RemoteNotFoundError, RegistryError: As `Registry.read_manifest`.
    """
    found: dict[Digest, tuple[Descriptor, Document]] = {}
    subjects = [root]
    for _ in range(MAX_REFERRER_DEPTH):
        lists = run_all(pool, registry.referrers, subjects)
        listed = [
            (subject, each)
            for subject, those in zip(subjects, lists, strict=True)
            for each in those
            if each.media_type in MANIFEST_TYPES and each.digest not in found
        ]
        if len(found) + len(listed) > MAX_REFERRERS:
            raise TamperedError(f"{root} has more than {MAX_REFERRERS} referrers in {registry.place!r}")
        documents = run_all(pool, partial(read_document, registry), [each for _, each in listed])
        fresh = {
            each.digest: (_as_listed(document), document)
            for (subject, each), document in zip(listed, documents, strict=True)
            if document.subject is not None and document.subject.digest == subject
        }
        for digest, (_, document) in fresh.items():
            if (size := sum(leaf.size for leaf in document.leaves)) > MAX_REFERRER_BYTES:
                raise TamperedError(f"referrer {digest} of {root} has {size} bytes, at most {MAX_REFERRER_BYTES}")
        if not fresh:
            return list(found.values())
        found |= fresh
        subjects = list(fresh)
    raise TamperedError(f"the referrers of {root} in {registry.place!r} refer to one another too deeply")


def refuse_taken(destination: Registry, tag: str, digest: Digest) -> bool:
    """Whether the tag is there already, with this digest.

    Raises:
        TagTakenError: It is there with another.
    """
    current = destination.resolve(tag)
    if current is not None and current.digest != digest:
        raise TagTakenError(
            f"tag {tag!r} of {destination.place!r} is already {current.digest}: got {digest}",
            hint="push another version, or say `--replace` if nobody relies on the old one",
            tag=tag,
            got=digest,
            expected=current.digest,
        )
    return current is not None


def move(
    source: Registry,
    destination: Registry,
    root: str,
    tag: str | None,
    *,
    staging: Store,
    pool: ThreadPoolExecutor,
    progress: Progress,
    announce: Announce,
    replaces: bool = False,
    mount_from: Sequence[str] = (),
) -> Sent:
    """Bring `root`, all that it reaches and all that refers to it to `destination`, then set the tag.

    Args:
        source: Where it is.
        destination: Where it shall be.
        root: The tag or digest it has at the source.
        tag: What it shall be called; None leaves it without.
        staging: Holds blobs on their way; where source or destination is a layout, its store.
        pool: Threads.
        progress: Told every byte once, also those that need not be sent.
        announce: Told what begins, and how many bytes its progress will add up to.
        replaces: Let the tag move away from another digest.
        mount_from: Repositories at the destination's registry that may have blobs.

    Raises:
        TagTakenError: The tag is there with another digest, and `replaces` was not said.
        RemoteNotFoundError, TamperedError: The source lacks something, or has something wrong.
        HostError: Registry, network or disk.
    """
    tree = read_tree(source, root, pool)
    digest = tree.root.descriptor.digest
    is_there = tag is not None and not replaces and refuse_taken(destination, tag, digest)
    referring = read_referrers(source, digest, pool)
    leaves = tree.leaves()
    leaves.update((leaf.digest, leaf) for _, document in referring for leaf in document.leaves)
    ordered = sorted(leaves.values(), key=lambda leaf: (-leaf.size, leaf.digest))  # the longest begins first
    announce("blobs", sum(leaf.size for leaf in ordered))
    shared = Shared(progress)

    def carry(leaf: Descriptor) -> Moved:
        return _carry(leaf, source, destination, staging, shared, mount_from)

    moved = run_all(pool, carry, ordered)
    announce("documents", 0)
    _put_documents(destination, tree, referring)
    if tag is not None and not is_there:
        if not replaces:  # nobody can compare and set in one step; this leaves milliseconds to collide in
            refuse_taken(destination, tag, digest)
        destination.put_manifest(tree.root.data, tree.root.descriptor, tag)
    return _sent(digest, ordered, moved, len(referring), is_new=not is_there)


def _sent(
    digest: Digest, leaves: Sequence[Descriptor], moved: Sequence[Moved], referrers: int, *, is_new: bool
) -> Sent:
    def sum_of(way: Moved) -> int:
        return sum(leaf.size for leaf, how in zip(leaves, moved, strict=True) if how == way)

    return Sent(
        digest=digest,
        sent_bytes=sum_of("sent"),
        mounted_bytes=sum_of("mounted"),
        present_bytes=sum_of("present"),
        referrers=referrers,
        is_new=is_new,
    )


def _carry(
    leaf: Descriptor,
    source: Registry,
    destination: Registry,
    staging: Store,
    progress: Progress,
    mount_from: Sequence[str],
) -> Moved:
    linked = destination.link_blob(leaf, mount_from)
    if linked is not None:
        progress.advance(leaf.size)
        return linked
    if isinstance(destination, LayoutRegistry):
        source.fetch_blob(leaf, destination.store, progress)
        return "sent"
    if not holds(staging, leaf):
        source.fetch_blob(leaf, staging, _Nobody())
    destination.push_blob(leaf, staging, progress)
    return "sent"


class _Nobody:
    def advance(self, count_bytes: int, /) -> None:
        """The way in is not told, the way out is."""


def _put_documents(destination: Registry, tree: Tree, referring: Sequence[tuple[Descriptor, Document]]) -> None:
    """Store each document under its digest unless it is there, then what refers to them, which is listed again."""
    for document in tree.documents:
        descriptor = document.descriptor
        if destination.resolve(descriptor.digest) is None:
            destination.put_manifest(document.data, descriptor, descriptor.digest)
    for listed, document in referring:
        subject = document.subject.digest if document.subject else tree.root.descriptor.digest
        destination.put_manifest(document.data, listed, listed.digest, subject)


def _as_listed(document: Document) -> Descriptor:
    plain = Descriptor(
        media_type=document.descriptor.media_type,
        digest=document.descriptor.digest,
        size=document.descriptor.size,
    )
    return replace(plain, artifact_type=document.artifact_type, annotations=document.annotations)
