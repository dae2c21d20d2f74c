"""Opening: from a remote reference to something that answers, mirrors included.

It reads the environment only through its argument. The invariant: a mirror is asked for digests alone; what a tag means
says the registry that was named, so a stale or hostile mirror can be slow but never wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from slipway_bundle.digest import Digest, is_digest
from slipway_bundle.errors import SlipwayError
from slipway_bundle.oci import Descriptor
from slipway_bundle.progress import Progress
from slipway_bundle.registry.errors import RegistryError, RemoteInvalidError, RemoteNotFoundError, TamperedError
from slipway_bundle.registry.http_registry import HttpRegistry
from slipway_bundle.registry.layout_registry import LayoutRegistry
from slipway_bundle.registry.protocol import Moved, Registry
from slipway_bundle.registry.remote import Remote, parse_remote
from slipway_bundle.registry.retries import Retry
from slipway_bundle.registry.transport import Transport
from slipway_bundle.registry.uploads import CHUNK_BYTES
from slipway_bundle.store import Store

__all__ = ["MIRRORS_VARIABLE", "MirroredRegistry", "open_registry", "opened"]

MIRRORS_VARIABLE = "SLIPWAY_REGISTRY_MIRRORS"


def open_registry(
    remote: Remote,
    *,
    environ: Mapping[str, str],
    is_insecure: bool = False,
    retry: Retry | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Registry:
    """The repository of `remote`; no request is sent yet. Close it, or use `opened`.

    Args:
        remote: Which.
        environ: `SLIPWAY_REGISTRY_CA`, `SSL_CERT_FILE`, `SLIPWAY_REGISTRY_MIRRORS`, and where credentials are.
        is_insecure: Allow plain HTTP beyond this machine.
        retry: How often and how long to try.
        chunk_bytes: The size of a piece of an upload.

    Raises:
        RemoteInvalidError: A mirror is not spelled `HOST=MIRROR`.
        RegistryRefusedError: `http://` to another machine without `is_insecure`.
        HostError: The private CA cannot be read.
    """
    if remote.is_layout:
        return LayoutRegistry(Store.open(Path(remote.repository)))

    def connect(place: Remote) -> HttpRegistry:
        transport = Transport(place, environ=environ, is_insecure=is_insecure, retry=retry)
        return HttpRegistry(place, transport, chunk_bytes=chunk_bytes)

    registry = connect(remote)
    mirrors = [connect(mirror) for mirror in _mirrors(remote, environ)]
    return MirroredRegistry(registry, mirrors) if mirrors else registry


@contextmanager
def opened(
    remote: Remote,
    *,
    environ: Mapping[str, str],
    is_insecure: bool = False,
    retry: Retry | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[Registry]:
    """`open_registry`, closed at the end; raises like it."""
    registry = open_registry(remote, environ=environ, is_insecure=is_insecure, retry=retry, chunk_bytes=chunk_bytes)
    try:
        yield registry
    finally:
        registry.close()


class MirroredRegistry:
    """A registry with mirrors in front of it, for reading by digest; see `protocol.Registry` for its methods."""

    def __init__(self, registry: Registry, mirrors: Sequence[Registry]) -> None:
        self._registry = registry
        self._mirrors = mirrors

    @property
    def place(self) -> str:
        """That of the registry: mirrors have no name of their own in what is written down."""
        return self._registry.place

    def close(self) -> None:
        """Close all of them."""
        for each in (*self._mirrors, self._registry):
            each.close()

    def resolve(self, reference: str) -> Descriptor | None:
        """Asks the registry."""
        return self._registry.resolve(reference)

    def read_manifest(self, reference: str) -> tuple[bytes, Descriptor]:
        """By digest from the first mirror that has it; by tag from the registry."""
        for mirror in self._mirrors if is_digest(reference) else ():
            try:
                return mirror.read_manifest(reference)
            except (RegistryError, RemoteNotFoundError, TamperedError):
                continue
        return self._registry.read_manifest(reference)

    def has(self, digest: Digest) -> bool:
        """Asks the registry."""
        return self._registry.has(digest)

    def fetch_blob(self, descriptor: Descriptor, store: Store, progress: Progress) -> None:
        """From the first mirror that gives the right bytes, else from the registry."""
        for mirror in self._mirrors:
            try:
                return mirror.fetch_blob(descriptor, store, progress)
            except (RegistryError, RemoteNotFoundError, TamperedError):
                continue
        return self._registry.fetch_blob(descriptor, store, progress)

    def link_blob(self, descriptor: Descriptor, repositories: Sequence[str] = ()) -> Moved | None:
        """Asks the registry."""
        return self._registry.link_blob(descriptor, repositories)

    def push_blob(self, descriptor: Descriptor, store: Store, progress: Progress) -> None:
        """To the registry."""
        self._registry.push_blob(descriptor, store, progress)

    def put_manifest(self, data: bytes, descriptor: Descriptor, reference: str, subject: Digest | None = None) -> None:
        """To the registry."""
        self._registry.put_manifest(data, descriptor, reference, subject)

    def tags(self) -> tuple[str, ...]:
        """Asks the registry."""
        return self._registry.tags()

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """Asks the registry: what refers to a digest has no digest of its own."""
        return self._registry.referrers(subject, artifact_type)


def _mirrors(remote: Remote, environ: Mapping[str, str]) -> Iterator[Remote]:
    """`HOST=MIRROR[/PREFIX],…`: each mirror of the host, in their order."""
    for pair in environ.get(MIRRORS_VARIABLE, "").split(","):
        host, equals, mirror = (part.strip() for part in pair.partition("="))
        if not pair.strip():
            continue
        try:
            if not (host and equals):
                raise RemoteInvalidError(f"{pair!r} has no '='")
            place = parse_remote(f"{mirror.rstrip('/')}/{remote.repository}")
        except SlipwayError as error:
            raise RemoteInvalidError(
                f"{MIRRORS_VARIABLE} has {pair!r}, expected HOST=MIRROR: {error.message}",
                hint="for example 'docker.io=mirror.example.com:5000'",
            ) from error
        if host == remote.host:
            yield replace(place, tag=None, digest=None)
