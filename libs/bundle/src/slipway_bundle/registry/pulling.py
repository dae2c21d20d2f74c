"""Pull: a bundle of a registry comes into the local store.

In the order of trust: the documents, the manifest with its attachments, what refers to the bundle; then the policy is
asked; then the layers; the name last. The invariants: nothing has a name here that is not whole, or said to be in part;
every byte has its digest; what the policy refuses costs no layer.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from msgspec import Struct

from slipway_bundle.digest import Digest
from slipway_bundle.errors import ManifestError, UsageError
from slipway_bundle.ingest import require_space_for
from slipway_bundle.inputs import Announce
from slipway_bundle.layout import CONTENT_DIGEST, ROLE
from slipway_bundle.oci import Descriptor
from slipway_bundle.partial import mark_absent, own_blobs
from slipway_bundle.policy import Policy
from slipway_bundle.progress import QUIET, Progress
from slipway_bundle.references import split_ref
from slipway_bundle.registry.documents import BUNDLE_TYPE, Document, Tree
from slipway_bundle.registry.errors import TamperedError
from slipway_bundle.registry.layout_registry import as_entry, holds
from slipway_bundle.registry.moving import JOBS, Shared, read_referrers, read_tree, run_all, workers
from slipway_bundle.registry.opening import opened
from slipway_bundle.registry.protocol import Registry
from slipway_bundle.registry.remote import Remote, parse_remote
from slipway_bundle.registry.retries import Retry
from slipway_bundle.store import Store
from slipway_bundle.store_errors import RefConflictError
from slipway_bundle.stored import read_descriptor

__all__ = ["Pulled", "pull", "pull_documents"]

NEEDED = frozenset({"manifest", "model"})
"""Without these roles nothing is served."""

CODE = "code"


class Pulled(Struct, frozen=True, kw_only=True):
    """What a pull did; the object of `--json`."""

    ref: str
    """`NAME:VERSION` in the local store."""

    source: str
    """By digest."""

    digest: Digest
    content_digest: str
    fetched_bytes: int
    """Of blobs; documents are a few kilobytes more."""

    present_bytes: int
    """Were here before."""

    absent: tuple[str, ...]
    """Roles whose own blobs were left out."""

    referrers: int
    is_new: bool
    """The store did not have it under this name, or not whole."""


def pull(
    source: str,
    store: Store,
    *,
    environ: Mapping[str, str],
    roles: Collection[str] | None = None,
    name: str | None = None,
    policy: Policy | None = None,
    progress: Progress = QUIET,
    announce: Announce = lambda _step, _bytes: None,
    is_insecure: bool = False,
    retry: Retry | None = None,
    jobs: int = JOBS,
) -> Pulled:
    """Brings a bundle, and everything that refers to it, into `store`.

    Args:
        source: `HOST/REPOSITORY:TAG`, `…@sha256:…` or `oci:FOLDER:NAME:VERSION`.
        store: Where it shall be.
        environ: See `open_registry`.
        roles: Bring the blobs of these children only, `manifest` and `model` at least; a later pull brings the rest.
            None: all.
        name: `NAME:VERSION` to give it; by default what its manifest says.
        policy: Asked before any layer is brought.
        progress: Told the bytes of all blobs that are wanted, whether they come or are here.
        announce: Told when a step begins, and how many bytes its progress will add up to.
        is_insecure: Allow plain HTTP beyond this machine.
        retry: How often and how long to try.
        jobs: How many transfers beside each other.

    Raises:
        UsageError: A reference is wrong or means nothing; `RefConflictError` when the name is other content here.
        IntegrityError: Something is not what it should be; `PolicyRefusedError` names the rule.
        HostError: Registry, network or disk failed for good; what arrived is kept for the next try.
    """
    if roles is not None and (lacking := sorted(NEEDED - set(roles))):
        raise UsageError(f"a bundle cannot be pulled without {lacking[0]!r}, got the roles {sorted(roles)}")
    remote = parse_remote(source)
    _ = remote.reference  # both are said now, not after the first request or the last byte
    if name is not None:
        split_ref(name)
    with (
        store.lease(),
        opened(remote, environ=environ, is_insecure=is_insecure, retry=retry) as registry,
        workers(jobs, registry) as pool,
    ):
        return _bring(_Pull(registry, store, pool, progress, announce), store, remote, roles, name, policy)


def pull_documents(
    source: str,
    store: Store,
    *,
    environ: Mapping[str, str],
    with_referrers: bool = True,
    is_insecure: bool = False,
    retry: Retry | None = None,
) -> Descriptor:
    """Brings what is needed to judge a bundle: its documents, its manifest with the attachments, all that refers to it.

    No name is given, no layer comes. Hold a lease while using it, or the collector may take it.

    Args:
        source: As in `pull`.
        store: Where they shall be.
        environ: See `open_registry`.
        with_referrers: False leaves out what refers to the bundle: for who reads its attachments alone.
        is_insecure: Allow plain HTTP beyond this machine.
        retry: How often and how long to try.

    Returns:
        The index, as `evaluate` and `read_descriptor` take it.

    Raises:
        SlipwayError: As `pull` says.
    """
    remote = parse_remote(source)
    reference = remote.reference
    with (
        store.lease(),
        opened(remote, environ=environ, is_insecure=is_insecure, retry=retry) as registry,
        workers(1, registry) as pool,
    ):
        run = _Pull(registry, store, pool, QUIET, lambda _step, _bytes: None)
        return run.documents(reference, with_referrers=with_referrers)


def _bring(
    run: "_Pull",
    store: Store,
    remote: Remote,
    roles: Collection[str] | None,
    name: str | None,
    policy: Policy | None,
) -> Pulled:
    """The order of trust; the name last."""
    entry = run.documents(remote.reference)
    if policy is not None:
        _judge(store, entry, policy, remote.text)
    bundle = read_descriptor(store, entry)
    _require_content(entry, bundle.manifest.content_digest)
    ref = name or f"{bundle.manifest.name}:{bundle.manifest.version}"
    _refuse_conflict(store, ref, entry)
    absent, missing_roles = run.layers(roles)
    entry = mark_absent(entry, missing_roles)
    is_new = store.publish(ref, entry, replaces_same_content=True, absent=absent)
    return Pulled(
        ref=ref,
        source=remote.at(entry.digest).text,
        digest=entry.digest,
        content_digest=bundle.manifest.content_digest,
        fetched_bytes=run.fetched_bytes,
        present_bytes=run.present_bytes,
        absent=tuple(sorted(missing_roles)),
        referrers=run.referrers,
        is_new=is_new,
    )


class _Pull:
    """One pull; the methods are its steps, in order."""

    def __init__(
        self, registry: Registry, store: Store, pool: ThreadPoolExecutor, progress: Progress, announce: Announce
    ) -> None:
        self._registry = registry
        self._store = store
        self._pool = pool
        self._progress = Shared(progress)
        self._announce = announce
        self._tree: Tree | None = None
        self.fetched_bytes = 0
        self.present_bytes = 0
        self.referrers = 0

    def documents(self, reference: str, *, with_referrers: bool = True) -> Descriptor:
        """(1) Everything that is no layer; the entry under which the store would list it."""
        self._announce("documents", 0)
        tree = read_tree(self._registry, reference, self._pool)
        root = tree.root
        if root.artifact_type != BUNDLE_TYPE:
            raise ManifestError(
                f"{reference!r} of {self._registry.place!r} is not a slipway bundle: got artifactType "
                f"{root.artifact_type!r}, expected {BUNDLE_TYPE!r}",
                hint="`skopeo copy` moves images of other kinds",
            )
        self._tree = tree
        for document in tree.documents:
            self._keep(document)
        self._fetch(_papers(tree))
        referring = read_referrers(self._registry, root.descriptor.digest, self._pool) if with_referrers else []
        self._fetch([leaf for _, document in referring for leaf in document.leaves])
        for listed, document in referring:
            self._keep(document)
            self._store.attach_descriptor(listed)
        self.referrers = len(referring)
        return as_entry(root.data, root.descriptor)

    def layers(self, roles: Collection[str] | None) -> tuple[frozenset[Digest], frozenset[str]]:
        """(2) The blobs of the wanted children; gives back the blobs that are still not here, and whose they are."""
        tree = self._read()
        left_out: dict[Digest, Descriptor] = {}
        if roles is not None:
            unwanted = {child.annotations.get(ROLE, "") for child in tree.root.children} - set(roles)
            left_out = own_blobs(self._store, tree.root.descriptor, unwanted)
        done = {leaf.digest for leaf in _papers(tree)}
        wanted = [leaf for digest, leaf in tree.leaves().items() if digest not in left_out and digest not in done]
        self._announce("layers", sum(leaf.size for leaf in wanted))
        self._fetch(wanted)
        absent = frozenset(digest for digest, leaf in left_out.items() if not holds(self._store, leaf))
        return absent, self._roles_of(absent)

    def _roles_of(self, blobs: Collection[Digest]) -> frozenset[str]:
        """The roles of the children that need them."""
        tree = self._read()
        needing = {
            document.descriptor.digest
            for document in tree.documents
            if any(leaf.digest in blobs for leaf in document.leaves)
        }
        return frozenset(child.annotations.get(ROLE, "") for child in tree.root.children if child.digest in needing)

    def _fetch(self, leaves: Collection[Descriptor]) -> None:
        once = {leaf.digest: leaf for leaf in leaves}.values()
        missing = []
        for leaf in once:
            if holds(self._store, leaf):
                self.present_bytes += leaf.size
                self._progress.advance(leaf.size)
            else:
                missing.append(leaf)
        require_space_for(self._store, missing)
        missing.sort(key=lambda leaf: (-leaf.size, leaf.digest))  # the longest begins first

        def bring(leaf: Descriptor) -> None:
            self._registry.fetch_blob(leaf, self._store, self._progress)

        run_all(self._pool, bring, missing)
        self.fetched_bytes += sum(leaf.size for leaf in missing)

    def _keep(self, document: Document) -> None:
        self._store.put_bytes(document.data, document.descriptor.media_type)

    def _read(self) -> Tree:
        if self._tree is None:
            raise ManifestError("this is a bug in slipway: a step ran before the documents were read")
        return self._tree


def _papers(tree: Tree) -> list[Descriptor]:
    """The config of every child, `slipway.json` among them, and the attachments: what is read to judge a bundle."""
    papers = [document.leaves[0] for document in tree.documents if document.leaves]
    manifests = {child.digest for child in tree.root.children if child.annotations.get(ROLE) == "manifest"}
    for document in tree.documents:
        if document.descriptor.digest in manifests:
            papers += [leaf for leaf in document.leaves if leaf.annotations.get(ROLE) != CODE]
    return papers


def _require_content(entry: Descriptor, expected: str) -> None:
    """The index says the content digest for listing; what it says decides whether a name may move, so it is checked."""
    told = entry.annotations.get(CONTENT_DIGEST)
    if told != expected:
        raise TamperedError(
            f"index {entry.digest} says that its content is {told}, expected {expected}, as its manifest has it",
            got=told,
            expected=expected,
        )


def _refuse_conflict(store: Store, ref: str, entry: Descriptor) -> None:
    """What `publish` would refuse at the end is refused before any layer comes."""
    for known in store.refs():
        same = known.descriptor.annotations.get(CONTENT_DIGEST) == entry.annotations.get(CONTENT_DIGEST)
        if known.text == ref and known.digest != entry.digest and not same:
            raise RefConflictError(
                f"{ref!r} is already {known.digest} here, and versions are immutable: got {entry.digest}",
                hint="give it another name with `--name NAME:VERSION`, or delete that one first",
                ref=ref,
                got=entry.digest,
                expected=known.digest,
            )


def _judge(store: Store, entry: Descriptor, policy: Policy, shown: str) -> None:
    from slipway_bundle.trust.evaluation import require_allowed  # it imports what it verifies with

    require_allowed(store, entry.digest, policy, now=datetime.now(UTC), shown=shown)
