"""What moving bundles needs of a registry: a real one, a layout on disk, or a mirror in front of one.

It holds no code. The invariant that every implementation keeps: bytes that come in through it have the digest and the
size that were asked for, and a tag is only ever set by `put_manifest`, which the caller does last.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from slipway_bundle.digest import Digest
from slipway_bundle.oci import Descriptor
from slipway_bundle.progress import Progress
from slipway_bundle.store import Store

__all__ = ["Moved", "Registry"]

Moved = Literal["present", "mounted", "sent"]
"""How a blob came to be there: it was, the registry linked it from another repository, or its bytes were sent."""


class Registry(Protocol):
    """One repository. Any thread may use it."""

    @property
    def place(self) -> str:
        """Where it is, as one would write it, without tag and digest."""

    def close(self) -> None:
        """Give its connections back; requests that are under way fail."""

    def resolve(self, reference: str) -> Descriptor | None:
        """What a tag or digest means; None: nothing."""

    def read_manifest(self, reference: str) -> tuple[bytes, Descriptor]:
        """The document that a tag or digest means, verified against the digest.

        Raises:
            RemoteNotFoundError: There is none.
            TamperedError: It is not what its digest or type says, or too long.
            RegistryError: No answer.
        """

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there; raises `RegistryError`."""

    def fetch_blob(self, descriptor: Descriptor, store: Store, progress: Progress) -> None:
        """Bring a blob into `store`, verified; what an earlier try left is continued.

        Raises:
            RemoteNotFoundError, TamperedError, RegistryError: As `read_manifest`.
            HostError: The store does not take it.
        """

    def link_blob(self, descriptor: Descriptor, repositories: Sequence[str] = ()) -> Moved | None:
        """Have the blob here without sending a byte; None: its bytes are needed.

        Args:
            descriptor: Which.
            repositories: Of the same registry, that may have it.

        Raises:
            RegistryError: No answer.
        """

    def push_blob(self, descriptor: Descriptor, store: Store, progress: Progress) -> None:
        """Send a blob of `store`; what an earlier try left unfinished is continued.

        Raises:
            BlobMissingError, BlobCorruptError: The store does not have those bytes.
            RegistryError: It could not be sent.
        """

    def put_manifest(self, data: bytes, descriptor: Descriptor, reference: str, subject: Digest | None = None) -> None:
        """Store a document under a tag or its digest; everything it refers to is there.

        Args:
            data: The document.
            descriptor: What it is; as the referrers API lists it, when it has a subject.
            reference: A tag, or its own digest.
            subject: What it refers to, when it is a referrer: then the referrers of that list it, too.

        Raises:
            RegistryError: It was not taken.
        """

    def tags(self) -> tuple[str, ...]:
        """All tags, sorted, those of referrers left out; raises as `read_manifest`."""

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """What refers to `subject`, sorted by artifact type, then digest; raises as `read_manifest`."""
